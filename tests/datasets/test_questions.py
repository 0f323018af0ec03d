"""Where answers stand."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_bert.datasets.questions import find_word, inside, make_question
from spacy_bert.datasets.writing import write_docs
from spacy_bert.pipeline.answer_gold import gold_characters


@pytest.mark.parametrize(
    ("text", "word", "found"),
    [
        ("the cat, a category, cat", "cat", ["cat", "cat"]),
        ("a Cat or a CAT", "cat", ["Cat", "CAT"]),
        ("a Cat or a cat", "cat", ["cat"]),
        ("$5 and US$5 and $50", "$5", ["$5", "$5"]),
        ("C++ (C+)", "C+", ["C+", "C+"]),
        ("über uns", "ber", []),
        ("New  York", "New York", []),
    ],
)
def test_words_are_found_whole(text: str, word: str, found: list[str]) -> None:
    assert [text[start:end] for start, end in find_word(text, word)] == found


def test_inside() -> None:
    assert inside([(0, 2), (3, 5), (4, 8)], [(2, 6), (0, 2)]) == [(0, 2), (3, 5)]


def test_texts_are_marked_exactly() -> None:
    context = "It can't cost $5."
    start = context.index("5")
    doc = make_question(
        spacy.blank("en"), "What?", context, answers=[(start, start + 1)], facts=[(0, len(context))]
    )
    assert doc.spans["answers"].attrs["texts"] == ["5"]
    assert doc.spans["supporting_facts"].attrs["texts"] == [context]
    assert [span.text for span in doc.spans["supporting_facts"]] == [context]
    doc = make_question(spacy.blank("en"), "What?", context, answers=[], facts=None)
    assert list(doc.spans) == ["answers"]
    assert not doc.spans["answers"]


@pytest.mark.parametrize("only_words", [False, True])
def test_training_finds_the_first_answer_where_it_was_marked(
    tmp_path: Path, only_words: bool
) -> None:
    nlp = spacy.blank("en")
    context = "It can't cost $5, says Ann."
    found = [find_word(context, word)[0] for word in ("5", "Ann", "can't cost $5")]
    docs = [
        make_question(nlp, "What? ", context, answers=answers, facts=[(0, 16)])
        for answers in (found, found[1:], found[2:])
    ]
    write_docs(tmp_path / "x.spacy", docs, only_words=only_words)
    read = list(DocBin().from_disk(tmp_path / "x.spacy").get_docs(nlp.vocab))
    assert [doc.text for doc in read] == [doc.text for doc in docs]
    for doc, example, (start, end) in zip(
        docs, Corpus(tmp_path / "x.spacy")(nlp), found, strict=True
    ):
        assert example.reference.spans["supporting_facts"].attrs["texts"] == [context[:16]]
        gold = gold_characters(example, "answers")
        begin = doc.text.index(context)
        assert gold == (begin + start, begin + end)
