"""Baselines of question answering."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin

from spacy_bert.datasets.questions import make_question
from spacy_bert.experiments.baselines import score_baselines
from spacy_bert.experiments.qa_baselines import (
    SENTENCE,
    SILENCE,
    score_characters,
    score_qa_baselines,
)

NLP = spacy.blank("en")
PASSAGE = "Return the size of it. The mode says how. Raise nothing."


def ask(question: str, answer: str = "", passage: str = PASSAGE) -> Doc:
    start = passage.index(answer)
    found = [(start, start + len(answer))] if answer else []
    return make_question(NLP, question, passage, answers=found, facts=None)


TRAIN = [
    ask("Does it return the size?", "the size of it"),
    ask("What says the mode?", "mode says how"),
    ask("Who is there?"),
]


def test_silence_is_right_where_there_is_no_answer() -> None:
    scores = score_qa_baselines(TRAIN, TRAIN)[SILENCE]
    assert scores["answers_em"] == scores["answers_f1"] == pytest.approx(1 / 3)
    assert (scores["answers_no_em"], scores["answers_has_f1"]) == (1.0, 0.0)


def test_the_sentence_like_the_question_without_its_first_word() -> None:
    scores = score_qa_baselines(TRAIN, [*TRAIN, ask("Raise what?", "nothing")])[SENTENCE]
    assert scores["answers_em"] == 1.0


def test_a_question_like_no_sentence_is_left_if_training_says_so() -> None:
    test = [ask("Where and when?")]
    assert score_qa_baselines(TRAIN, test)[SENTENCE]["answers_f1"] == 1.0
    always = score_qa_baselines(TRAIN[:2], [ask("Is the mode what?", "mode says how")])
    assert always[SENTENCE]["answers_f1"] == 1.0


def test_scores_are_those_of_squad() -> None:
    doc = TRAIN[0]
    start = doc.text.index("size of")
    scores = score_characters([doc], [(start, start + len("size of"))])
    assert scores["answers_em"] == 0.0
    assert scores["answers_f1"] == pytest.approx(0.8)  # "the" does not count


def test_an_empty_context() -> None:
    assert score_qa_baselines([ask("What?", passage=" ")], [ask("What?", passage=" ")])


def test_the_files_decide(tmp_path: Path) -> None:
    train, bare = tmp_path / "train.spacy", tmp_path / "bare.spacy"
    DocBin(docs=TRAIN).to_disk(train)
    DocBin(docs=[NLP.make_doc("Only a text")]).to_disk(bare)
    assert set(score_baselines(train, train)) == {SILENCE, SENTENCE}
    with pytest.raises(ValueError, match=r'no Doc has doc\.spans\["answers"\]'):
        score_baselines(train, bare)


def test_a_doc_without_question_is_refused() -> None:
    doc = NLP.make_doc("Only a text")
    doc.spans["answers"] = []
    with pytest.raises(ValueError, match="no question"):
        score_qa_baselines([doc], TRAIN)
