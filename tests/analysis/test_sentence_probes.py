"""Sentence tasks by hand, and probes that find what was planted."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

import spacy_bert
from spacy_bert.analysis.sentence_probes import (
    probe_sentences,
    sentence_vectors,
    split_targets,
)
from spacy_bert.analysis.sentence_tasks import (
    SENTENCE_TASKS,
    SentenceTarget,
    coordination_inversion,
    derive,
    object_number,
    read_senteval,
    sentence_length,
    subject_number,
    tense,
    top_frame,
    tree_depth,
)
from tests.conftest import SENTENCES

VOCAB = spacy.blank("en").vocab


def parsed(words: str, heads: list[int], deps: str, pos: str, morphs: dict[int, str]) -> Doc:
    tags = pos.split()
    return Doc(
        VOCAB,
        words=words.split(),
        heads=heads,
        deps=deps.split(),
        pos=tags,
        tags=tags,
        morphs=[morphs.get(i, "") for i in range(len(tags))],
    )


DOGS = parsed(
    "The dogs chased a cat .",
    [1, 2, 2, 4, 2, 2],
    "det nsubj ROOT det obj punct",
    "DET NOUN VERB DET NOUN PUNCT",
    {1: "Number=Plur", 2: "Tense=Past", 4: "Number=Sing"},
)
CLAUSES = parsed(
    "Ann sings , and two birds sleep .",
    [1, 1, 6, 6, 5, 6, 1, 1],
    "nsubj ROOT punct cc nummod nsubj conj punct",
    "PROPN VERB PUNCT CCONJ NUM NOUN VERB PUNCT",
    {0: "Number=Sing", 1: "Tense=Pres", 5: "Number=Plur"},
)
# Repeats, so that there is something to draw from.
DOCS = [DOGS, CLAUSES] * 30


def passive(text: str, morphs: dict[int, str]) -> Doc:
    """A subject, two auxiliaries and a participle."""
    deps, pos = "nsubj:pass aux aux:pass ROOT punct", "PRON AUX AUX VERB PUNCT"
    participle = "Tense=Past|VerbForm=Part"
    return parsed(text, [3, 3, 3, 3, 3], deps, pos, {**morphs, 3: participle})


ATTACKED = passive(
    "He has been attacked .", {1: "Tense=Pres|VerbForm=Fin", 2: "Tense=Past|VerbForm=Part"}
)
DOWNLOADED = passive("It may be downloaded .", {1: "VerbForm=Fin", 2: "VerbForm=Inf"})


def only(targets: object) -> SentenceTarget:
    (target,) = list(targets)  # type: ignore[call-overload]
    return target


def test_rules_by_hand() -> None:
    rng = random.Random(0)
    assert only(sentence_length([DOGS], rng)).label == "0"
    assert not list(sentence_length([DOGS[:3].as_doc()], rng))
    assert only(tree_depth([DOGS], rng)).label == "3"
    assert only(top_frame([DOGS], rng)).label == "nsubj VERB obj"
    assert only(tense([DOGS], rng)).label == "Past"
    assert only(tense([CLAUSES], rng)).label == "Pres"
    assert only(tense([ATTACKED], rng)).label == "Pres"
    assert not list(tense([DOWNLOADED], rng))
    assert only(subject_number([DOGS], rng)).label == "Plur"
    assert only(object_number([DOGS], rng)).label == "Sing"
    assert not list(object_number([CLAUSES], rng))
    assert not list(coordination_inversion([DOGS], rng))
    texts = {
        target.label: target.doc.text for target in coordination_inversion([CLAUSES] * 20, rng)
    }
    assert texts == {
        "as it was": "Ann sings , and two birds sleep . ",
        "inverted": "two birds sleep , and Ann sings . ",
    }


@pytest.mark.parametrize("name", ["BShift", "CoordInv", "TreeDepth", "TopConst", "Tense"])
def test_derived_tasks(name: str) -> None:
    found = derive(name, DOCS)
    assert [t.doc.text for t in derive(name, DOCS)] == [t.doc.text for t in found]
    originals = {DOGS.text, CLAUSES.text}
    for target in found:
        changed = target.label in ("shifted", "inverted")
        assert (target.doc.text not in originals) == changed
        assert sorted(t.text for t in target.doc) in [
            sorted(t.text for t in doc) for doc in (DOGS, CLAUSES)
        ]


def test_odd_words_are_of_the_same_tag() -> None:
    words = [f"w{i}" for i in range(30)]
    docs = [
        parsed(f"The {word} sleeps", [1, 2, 2], "det nsubj ROOT", "DET NOUN VERB", {})
        for word in words
    ]
    found = derive("SOMO", docs)
    assert len(found) == 30
    for doc, target in zip(docs, found, strict=True):
        first, noun, verb = (token.text for token in target.doc)
        assert (first, verb) == ("The", "sleeps")
        assert (noun == doc[1].text) == (target.label == "as it was")
        assert noun in words
    assert 5 < sum(target.label == "odd" for target in found) < 25


def test_what_cannot_be_derived() -> None:
    with pytest.raises(ValueError, match="unknown task 'Length': there are SentLen"):
        derive("Length", DOCS)
    with pytest.raises(ValueError, match="fewer than two labels: are trees, tags"):
        derive("ObjNum", DOCS)
    assert len(SENTENCE_TASKS) == 10


def test_official_files(tmp_path: Path) -> None:
    file = tmp_path / "past_present.txt"
    file.write_text("tr\tPAST\tI went .\nva\tPRES\tI go .\nte\tPRES\tGo !\n", encoding="utf8")
    found = read_senteval(file, VOCAB)
    assert [t.label for name in ("train", "dev", "test") for t in found[name]] == [
        "PAST", "PRES", "PRES",
    ]  # fmt: skip
    assert [token.text for token in found["train"][0].doc] == ["I", "went", "."]
    for line in ("tr\tPAST", "xx\tA\tb c", "tr\tA\t "):
        file.write_text("tr\tPAST\tI went .\n" + line + "\n", encoding="utf8")
        with pytest.raises(ValueError, match=r"past_present\.txt, line 2: expected tr, va or te"):
            read_senteval(file, VOCAB)


def test_a_planted_layer_is_found() -> None:
    rng = np.random.default_rng(0)
    labels = [f"label {i}" for i in rng.integers(0, 3, size=600)]
    vectors = rng.normal(size=(600, 4, 12)).astype(np.float32)
    for row, label in zip(vectors, labels, strict=True):
        row[2, int(label[-1])] += 5.0
    targets = [SentenceTarget(DOGS, label) for label in labels]
    splits = split_targets(targets)
    assert sorted(i for part in splits for i in part) == list(range(600))
    found = probe_sentences(vectors, labels, splits, epochs=15)
    assert found.best_layer == 2
    assert found.accuracy[2] > 0.95
    assert (found.accuracy[[0, 1, 3]] < 0.5).all()
    assert found.targets == (480, 60, 60)
    assert found.labels == 3
    with pytest.raises(ValueError, match="0 to choose by"):
        probe_sentences(vectors, labels, ([0], [], [1]))


def test_vectors_of_sentences(nlp: Language) -> None:
    docs = [nlp.make_doc(text) for text in SENTENCES]
    found = sentence_vectors(nlp, docs)
    assert found.shape == (5, 3, 128)
    np.testing.assert_allclose(found[2], spacy_bert.trace(nlp, docs[2]).hidden[:, 0], atol=1e-5)
