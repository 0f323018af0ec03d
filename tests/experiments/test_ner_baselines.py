"""Baselines of named entity recognition."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.experiments.baselines import score_baselines
from spacy_bert.experiments.ner_baselines import (
    MEMORY,
    SHAPES,
    WORDS,
    score_ner_baselines,
    score_tags,
)

NLP = spacy.blank("en")


def annotate(text: str, *entities: tuple[str, str]) -> Doc:
    doc = NLP.make_doc(text)
    starts = {name: text.rindex(name) for name, _ in entities}
    doc.set_ents([doc.char_span(starts[n], starts[n] + len(n), label) for n, label in entities])
    return doc


def write(path: Path, docs: list[Doc]) -> Path:
    DocBin(docs=docs).to_disk(path)
    return path


TRAIN = [
    annotate("See New York soon", ("New York", "CITY")),
    annotate("See New York now", ("New York", "CITY")),
    annotate("New tricks for old dogs"),
    annotate("Call read_all here", ("read_all", "CODE")),
    annotate("Call write_all here", ("write_all", "CODE")),
]


def test_words_are_remembered() -> None:
    test = [
        annotate("In New York", ("New York", "CITY")),
        annotate("Use open_all", ("open_all", "CODE")),
    ]
    scores = score_ner_baselines(TRAIN, test)[MEMORY]
    assert (scores["ents_p"], scores["ents_r"]) == (1.0, 0.5)
    assert scores["ents_per_type"]["CITY"]["f"] == 1.0
    assert scores["ents_per_type"]["CODE"]["f"] == 0.0


def test_shapes_find_new_words() -> None:
    test = [annotate("Call open_one here", ("open_one", "CODE"))]
    scores = score_ner_baselines(TRAIN * 5, test)
    assert scores[MEMORY]["ents_f"] == 0.0
    assert scores[SHAPES]["ents_f"] == 1.0


def test_the_first_segment_tells() -> None:
    def make(*pairs: tuple[str, str]) -> list[Doc]:
        return [
            annotate(f"f({a})\x1eThe {first} or the {second} is used", (a, "PARAMETER"))
            for pair in pairs
            for a in pair
            for first, second in (pair, pair[::-1])
        ]

    train = make(("mode", "path"), ("size", "name"), ("file", "data"))
    scores = score_ner_baselines(train * 5, make(("hour", "year")))
    assert scores[WORDS]["ents_f"] == 1.0
    assert scores[SHAPES]["ents_f"] < 1.0


def test_tags_are_read_leniently() -> None:
    doc = annotate("a b c d", ("a b", "X"), ("c", "Y"), ("d", "X"))
    assert score_tags([doc], [["I-X", "I-X", "I-Y", "B-X"]])["ents_f"] == 1.0
    assert score_tags([doc], [["B-X", "B-X", "B-Y", "I-X"]])["ents_p"] == 0.5


def test_no_entity_in_the_training_set_of_one_tag(tmp_path: Path) -> None:
    only = [annotate("Rome", ("Rome", "CITY"))]
    assert set(score_ner_baselines(only, only)) == {MEMORY}


def test_the_files_decide(tmp_path: Path) -> None:
    train, bare = write(tmp_path / "a", TRAIN), write(tmp_path / "b", TRAIN[2:3])
    assert set(score_baselines(train, train)) == {MEMORY, SHAPES, WORDS}
    with pytest.raises(ValueError, match=r"no Doc has doc\.ents"):
        score_baselines(train, bare)
    with pytest.raises(ValueError, match=r"no positive doc\.cats"):
        score_baselines(bare, train)
    both = annotate("Rome", ("Rome", "CITY"))
    both.cats = {"POS": 1.0}
    with pytest.raises(ValueError, match="a file for each task"):
        score_baselines(write(tmp_path / "c", [both]), train)


def test_command(tmp_path: Path) -> None:
    train, output = write(tmp_path / "a", TRAIN), tmp_path / "ner" / "baselines.json"
    done = CliRunner().invoke(app, ["baselines", str(train), str(train), str(output)])
    assert done.exit_code == 0
    assert f"{MEMORY}: F1 " in done.stdout
    assert "precision" in done.stdout
    assert output.exists()
