"""Baselines of pairs and of choices: shared words."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin

import spacy_bert
from spacy_bert.experiments.baselines import score_baselines
from spacy_bert.experiments.likeness_baselines import (
    LIKENESS,
    score_choice_baselines,
    score_regression_baselines,
)

NLP = spacy.blank("en")


def pair(first: str, second: str, score: float) -> Doc:
    doc = spacy_bert.join(NLP, first, second)
    doc.cats = {"score": score}
    return doc


def question(context: str, *choices: str, right: int) -> Doc:
    doc = spacy_bert.join(NLP, context, *choices)
    doc.cats = {str(index): float(index == right) for index in range(len(choices))}
    return doc


PAIRS = [
    pair("the dog runs", "the dog runs", 5.0),
    pair("the dog runs", "the dog sleeps", 2.5),
    pair("the dog runs", "no cat sleeps", 0.0),
]
QUESTIONS = [
    question("the dog runs", "a dog it is", "a moon", right=0),
    question("the cat sleeps", "one moon", "some cat", "no sun", right=1),
]


def test_shared_words_order_pairs() -> None:
    scores = score_regression_baselines(PAIRS, PAIRS)[LIKENESS]
    assert scores["cats_spearman"] == pytest.approx(1.0)
    assert scores["cats_pearson"] > 0.9
    assert score_regression_baselines([NLP.make_doc("one")], PAIRS) == {}


def test_the_choice_that_shares_words() -> None:
    assert score_choice_baselines(QUESTIONS, QUESTIONS)[LIKENESS]["choice_acc"] == 1.0
    other = question("the dog runs", "a dog it is", "a moon", right=1)
    assert score_choice_baselines(QUESTIONS, [other])[LIKENESS]["choice_acc"] == 0.0


def test_the_files_decide(tmp_path: Path) -> None:
    for name, docs in {"pairs": PAIRS, "questions": QUESTIONS}.items():
        file = tmp_path / f"{name}.spacy"
        DocBin(docs=docs).to_disk(file)
        assert set(score_baselines(file, file)) == {LIKENESS}
