"""Planted roles are found, those of trees included."""

from __future__ import annotations

import numpy as np
import pytest
import spacy
from spacy.tokens import Doc

from spacy_bert.analysis.tensor_products import (
    SCHEMES,
    bidirectional,
    decompose,
    left_to_right,
    random_tree,
    right_to_left,
    tree,
)

VOCAB = spacy.blank("en").vocab
WORDS = ["red", "green", "blue", "dog", "cat", "bird", "runs", "sleeps", "sings"]


def sentences(count: int) -> list[Doc]:
    """Random words in random projective trees."""
    rng = np.random.default_rng(0)
    docs = []
    for _ in range(count):
        words = rng.choice(WORDS, size=int(rng.integers(3, 6))).tolist()
        heads = list(range(len(words)))
        root = int(rng.integers(0, len(words)))
        for i in range(len(words)):
            heads[i] = i + 1 if i < root else i - 1 if i > root else i
            if i != root and rng.random() < 0.5:
                heads[i] = root
        docs.append(Doc(VOCAB, words=words, heads=heads, deps=["dep"] * len(words)))
    return docs


def plant(docs: list[Doc], scheme: str) -> np.ndarray:
    """Vectors that are sums of filler (x) role, mapped at random."""
    rng = np.random.default_rng(1)
    roles = SCHEMES[scheme]
    fillers = {word: rng.normal(size=4) for word in WORDS}
    known = sorted({role for doc in docs for role in roles(doc)})
    places = {role: rng.normal(size=4) for role in known}
    mapping = rng.normal(size=(16, 12))
    rows = [
        sum(
            np.outer(fillers[token.text], places[role]).ravel()
            for token, role in zip(doc, roles(doc), strict=True)
        )
        for doc in docs
    ]
    return np.array(rows) @ mapping


@pytest.mark.parametrize("planted", ["left to right", "tree"])
def test_the_right_scheme_explains_all(planted: str) -> None:
    docs = sentences(400)
    vectors = plant(docs, planted)
    errors = {
        name: decompose(docs, vectors, roles, filler_width=8, epochs=70).relative
        for name, roles in SCHEMES.items()
        if name in (planted, "bag of words", "random tree")
    }
    assert errors[planted] < 0.1
    others = [error for name, error in errors.items() if name != planted]
    assert min(others) > 4 * errors[planted]


def test_roles() -> None:
    doc = Doc(VOCAB, words=list("abcd"), heads=[1, 1, 3, 1], deps=["x"] * 4)
    assert left_to_right(doc) == ["0", "1", "2", "3"]
    assert right_to_left(doc) == ["3", "2", "1", "0"]
    assert bidirectional(doc) == ["0 3", "1 2", "2 1", "3 0"]
    assert tree(doc) == ["L", "", "RL", "R"]
    drawn = random_tree(3)(doc)
    assert len(set(drawn)) == 4
    assert drawn == random_tree(3)(doc)
    assert not any(a != b and b.startswith(a) for a in drawn for b in drawn)  # leaves


def test_too_few() -> None:
    docs = sentences(5)
    with pytest.raises(ValueError, match="5 sentences are too few"):
        decompose(docs, np.zeros((5, 3)), left_to_right)
