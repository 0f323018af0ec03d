"""Verbs and their subjects in small trees, and probes by number of attractors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.analysis.agreement import (
    AgreementTarget,
    find_agreement,
    probe_agreement,
    read_gulordava,
)

VOCAB = spacy.blank("en").vocab
HEADER = (
    "pattern\tconstr_id\tsent_id\tcorrect_number\tform\tclass\ttype\tprefix\tn_attr\tpunct\tfreq\t"
    "len_context\tlen_prefix\tsent\n"
)


def keys(near: str, noun: str = "Sing") -> Doc:
    """The keys to the <near> are here."""
    words = ["The", "keys", "to", "the", near, "are", "here"]
    return Doc(
        VOCAB,
        words=words,
        heads=[1, 6, 4, 4, 1, 6, 6],
        deps=["det", "nsubj", "case", "det", "nmod", "cop", "ROOT"],
        pos=["DET", "NOUN", "ADP", "DET", "NOUN", "AUX", "ADV"],
        tags=["DT", "NNS", "IN", "DT", "NN", "VBP", "RB"],
        morphs=["", "Number=Plur", "", "", f"Number={noun}", "Tense=Pres", ""],
    )


def test_attractors_are_counted() -> None:
    (found,) = find_agreement([keys("cabinet")])
    assert found[1:] == (5, "Plur", 1)
    assert not list(find_agreement([keys("cabinets", "Plur")]))  # no attractor between
    past = Doc(
        VOCAB,
        words=["Dogs", "bark"],
        heads=[1, 1],
        deps=["nsubj", "ROOT"],
        pos=["NOUN", "VERB"],
        tags=["NNS", "VBP"],
        morphs=["Number=Plur", "Tense=Pres"],
    )
    (found,) = find_agreement([past])
    assert found[1:] == (1, "Plur", 0)


def test_the_authors_file(tmp_path: Path) -> None:
    file = tmp_path / "generated.tab"
    row = "P\t1\t7\tsing\tis\t{}\tgenerated\tThe key to cabinets\t1\tFalse\t1\t4\t4\t"
    text = "The key to cabinets was here . <eos>\n"
    file.write_text(HEADER + row.format("correct") + text + row.format("wrong") + text)
    (found,) = read_gulordava(file, VOCAB)
    assert found.doc.text == "The key to cabinets is here . "
    assert (found.verb, found.number, found.attractors) == (4, "Sing", 1)
    file.write_text(HEADER + row.format("correct") + "The key\n")
    with pytest.raises(ValueError, match=r"generated\.tab, row 2: malformed"):
        read_gulordava(file, VOCAB)
    file.write_text("a\tb\n1\t2\n")
    with pytest.raises(ValueError, match="has no column 'correct_number'"):
        read_gulordava(file, VOCAB)


def test_probes_by_attractors(nlp: Language) -> None:
    rng = np.random.default_rng(0)
    targets = []
    for _ in range(120):
        plural = bool(rng.integers(0, 2))
        words = ["The", "dictionary" + "s" * plural, "return" if plural else "returns"]
        number = "Plur" if plural else "Sing"
        targets.append(
            AgreementTarget(Doc(nlp.vocab, words=words), 2, number, int(rng.integers(0, 2)))
        )
    found = probe_agreement(nlp, targets[:90], targets[90:], epochs=10)
    assert found.accuracy.shape == (3, 5)
    assert found.counts[:2].sum() == 30
    assert (found.accuracy[:, :2] > 0.95).all()  # the form of the verb tells
    assert np.isnan(found.accuracy[:, 2:]).all()
    assert 0.3 < found.majority < 0.7
    with pytest.raises(ValueError, match="none may be missing"):
        probe_agreement(nlp, targets[:90], [])
