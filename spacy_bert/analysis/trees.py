"""Dependency trees over the words that BERT reads, as analyses of heads compare them with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from spacy.tokens import Doc

ROOT, UNREAD = -1, -2  # in the place of a head: there is none, or BERT does not read it
PUNCTUATION = "punct"  # the relation, in Universal Dependencies and in spaCy's own labels


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """The tree of a sentence, white space and what else BERT does not read left out.

    Attributes:
        words: The tokens in the Doc, (words,) int64.
        heads: Where the head of each word stands in `words`, (words,) int64; `ROOT` of the root,
            `UNREAD` of a word whose head is left out.
        relations: The relation of each word to its head.
    """

    words: np.ndarray
    heads: np.ndarray
    relations: list[str]

    @property
    def punctuation(self) -> np.ndarray:
        """Which words are punctuation, (words,) bool."""
        return np.array([relation == PUNCTUATION for relation in self.relations], dtype=bool)

    @property
    def dependents(self) -> np.ndarray:
        """The places of words that have a head and are no punctuation, (dependents,) int64."""
        return np.flatnonzero((self.heads >= 0) & ~self.punctuation)


def check_trees(docs: Sequence[Doc]) -> None:
    """Refuse Docs without dependency trees.

    Raises:
        ValueError: Names the first of them.
    """
    for number, doc in enumerate(docs):
        if not doc.has_annotation("DEP"):
            raise ValueError(
                f"Doc {number} ({doc.text[:30]!r}) has no dependency tree: read a treebank "
                "(`python -m spacy bert data conllu`), or parse the Docs with a spaCy pipeline"
            )


def trees(doc: Doc, read: np.ndarray) -> Iterator[Tree]:
    """The trees of a Doc's sentences; of one without words to read, none.

    Args:
        doc: Has dependency trees.
        read: Which of its tokens BERT reads, (tokens,) bool.
    """
    for sentence in doc.sents:
        words = [token for token in sentence if read[token.i]]
        if not words:
            continue
        places = {token.i: place for place, token in enumerate(words)}
        heads = [ROOT if t.head.i == t.i else places.get(t.head.i, UNREAD) for t in words]
        yield Tree(
            words=np.array([token.i for token in words], dtype=np.int64),
            heads=np.array(heads, dtype=np.int64),
            relations=[token.dep_ for token in words],
        )
