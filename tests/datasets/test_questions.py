"""Where answers stand."""

from __future__ import annotations

import pytest
import spacy

from spacy_bert.datasets.questions import find_word, inside, make_question


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
