"""Docs as a corpus for pre-training, without shards on a disk."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from spacy.tokens import Doc

from spacy_bert.pretraining.segment_pairs import SHORTEST
from spacy_bert.pretraining.shards import Split
from spacy_bert.wordpiece import WordPiece


def corpus_in_memory(docs: Iterable[Doc], wordpiece: WordPiece, *, longest: int) -> Split:
    """The Docs as a split of shards, but for those with too few pieces to make a pair.

    Args:
        docs: the documents.
        wordpiece: the vocabulary.
        longest: most pieces of a sentence; longer ones are cut evenly into several.
    """
    pieces: list[np.ndarray] = []
    documents = [0]
    for doc in docs:
        found: list[np.ndarray] = []
        for ids in wordpiece.encode_ids(sentences(doc)):
            if len(ids):
                found += np.array_split(ids, math.ceil(len(ids) / longest))
        if sum(map(len, found)) >= SHORTEST:
            pieces += found
            documents.append(len(pieces))
    return Split(
        pieces=np.concatenate([np.zeros(0, np.int32), *pieces]),
        sentences=np.cumsum([0, *map(len, pieces)], dtype=np.int64),
        documents=np.array(documents, dtype=np.int64),
    )


def sentences(doc: Doc) -> list[str]:
    """The texts of `doc.sents`, or where they are not set, the lines of the Doc's text.

    The segments of a joined Doc (`spacy_bert.join`) are lines, too.
    """
    if doc.has_annotation("SENT_START"):
        return [sentence.text for sentence in doc.sents]
    return doc.text.splitlines()
