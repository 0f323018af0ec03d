"""Questions about docstrings: what set phrases answer, what they do not, and the sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
import srsly
from spacy.tokens import DocBin

from spacy_bert.datasets.areas import SPLITS
from spacy_bert.datasets.docstring_questions import (
    CONDITION,
    KINDS,
    MAX_PASSAGE,
    NONE,
    PARAMETER,
    RAISE,
    RETURN,
    Question,
    passages,
    question_texts,
    questions,
)
from spacy_bert.datasets.pydocs import Docstring, Document

Questions = dict[str, list[Question]]


@pytest.fixture(scope="module")
def asked(docs: list[Document], splits: dict[str, str]) -> Questions:
    return question_texts(docs, splits)


def document(*sentences: str, name: str = "File.read") -> Document:
    docstring = Docstring("files", name, " ".join(sentences), ("size", "mode"))
    return Document("files", sentences, docstring)


def answered(*sentences: str) -> dict[str, list[str]]:
    found = [q for q in questions(document(*sentences)) if q.kind != NONE]
    for question in found:
        for start, text in question.answers:
            assert question.passage[start : start + len(text)] == text
    return {question.kind: [text for _, text in question.answers] for question in found}


@pytest.mark.parametrize(
    ("sentence", "kind", "answer"),
    [
        ("Return the bytes.", RETURN, "the bytes"),
        ("Returns: A list (of str).", RETURN, "A list"),
        ("Return (low, high) as a pair.", RETURN, "(low, high) as a pair"),
        ("This method returns None; never more.", RETURN, "None"),
        ("Return the next item or raise StopIteration.", RETURN, "the next item"),
        ("Raises ValueError if it is closed.", RAISE, "it is closed"),
        ("Will raise a KeyError exception when absent, but rarely.", RAISE, "absent"),
        ("OSError: If the disk is full.", RAISE, "the disk is full"),
        ("A TypeError is raised if it is text.", RAISE, "it is text"),
        ("If the file is closed, a ValueError is raised.", RAISE, "the file is closed"),
        ("If nothing is left, it will raise EOFError.", RAISE, "nothing is left"),
        ("size: how many bytes to read", PARAMETER, "how many bytes to read"),
        ("mode must be a string, size is a number.", PARAMETER, "a string"),
        ("If size is negative, then all is read.", CONDITION, "all is read"),
        ("If the mode is 'r' (the default), it reads.", CONDITION, "it reads"),
    ],
)
def test_phrases(sentence: str, kind: str, answer: str) -> None:
    assert answered(sentence) == {kind: [answer]}


@pytest.mark.parametrize(
    "sentence",
    [
        "It reads the file.",
        "Do not raise an exception.",
        "name: no parameter of this function",
        "If size is negative, or is None, it reads.",  # the clause goes on
        "Return " + "one of many words " * 6 + "at last.",
        "Return -1.",
    ],
)
def test_what_answers_nothing(sentence: str) -> None:
    assert answered(sentence) == {}


def test_the_same_question_twice_has_two_answers() -> None:
    assert answered("Return one thing.", "Return another thing.") == {
        RETURN: ["one thing", "another thing"]
    }


def test_how_it_is_asked() -> None:
    texts = {
        question.text
        for word in ("aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh")
        for question in questions(document(f"Return the {word} of it."))
        if question.kind == RETURN
    }
    assert texts == {"What does read return?", "What is the result of read?"}
    (question, *_) = questions(document("Return the size.", name="File.__init__"))
    assert " File" in question.text


def test_modules_and_topics_are_not_asked_about() -> None:
    assert not list(questions(document("Return the size.", name="")))
    assert not list(questions(Document("topic:if", ("Return the size.",))))


def test_passages_are_whole_sentences() -> None:
    sentences = tuple(f"Sentence number {number} has few words." for number in range(60))
    parts = list(passages(document(*sentences)))
    assert " ".join(parts) == " ".join(sentences)
    assert all(part.endswith(".") and len(part.split()) <= MAX_PASSAGE for part in parts)
    long = "word " * (MAX_PASSAGE + 1)
    assert list(passages(document("Short.", long, "Short."))) == ["Short.", long, "Short."]


def test_answers_stand_in_their_passage_and_silence_is_plausible(asked: Questions) -> None:
    for question in (question for found in asked.values() for question in found):
        assert (question.kind == NONE) == (not question.answers)
        for start, text in question.answers:
            assert question.passage[start : start + len(text)] == text == text.strip()
        if question.kind == NONE and question.text.startswith("What is the parameter"):
            assert question.text[22:-1] not in question.passage.split()


def test_the_question_decides(asked: Questions) -> None:
    """Most answered questions stand on passages that have others, with other answers or none."""
    for found in asked.values():
        answers: dict[str, set[tuple]] = {}
        for question in found:
            answers.setdefault(question.passage, set()).add(question.answers)
        shared = [q for q in found if q.answers and len(answers[q.passage]) > 1]
        assert len(shared) > 0.5 * sum(bool(q.answers) for q in found)


def test_the_sets(asked: Questions) -> None:
    modules = {split: {question.module for question in found} for split, found in asked.items()}
    texts = {split: {question.passage for question in found} for split, found in asked.items()}
    for one in SPLITS:
        assert {question.kind for question in asked[one]} == set(KINDS)
        none = sum(question.kind == NONE for question in asked[one])
        assert 0.3 < none / len(asked[one]) < 0.55
        for other in set(SPLITS) - {one}:
            assert not modules[one] & modules[other]
            assert not texts[one] & texts[other]
    assert len(asked["train"]) > 2000
    assert min(len(asked["dev"]), len(asked["test"])) > 200


def test_the_files(written: Path, asked: Questions) -> None:
    stats = srsly.read_json(written / "stats.json")["qa"]
    nlp = spacy.blank("en")
    for split, found in asked.items():
        docs = list(DocBin().from_disk(written / "qa" / f"{split}.spacy").get_docs(nlp.vocab))
        assert len(docs) == len(found) == stats[split]["documents"]
        assert sum(stats[split]["kinds"].values()) == len(found)
        for doc, question in zip(docs, found, strict=True):
            assert [s.text for s in doc._.segments] == [question.text, question.passage]
            group = doc.spans["answers"]
            assert list(group.attrs["texts"]) == [text for _, text in question.answers]
            assert all(a in span.text for span, a in zip(group, group.attrs["texts"], strict=True))
