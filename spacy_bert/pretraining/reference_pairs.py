"""Segment pairs as the reference code of Devlin et al. 2018 draws them.

`create_pretraining_data.py`, `create_instances_from_document`: a chunk of sentences is cut at a
random border; with probability one half, or where the chunk is one sentence, B is made of sentences
of a random other document, and the sentences of the chunk that were not used are put back. So more
than half of the pairs are random, and a random B is as long as the target allows while a true one
is what is left of the chunk.
"""

from __future__ import annotations

import numpy as np

from spacy_bert.pretraining.segment_pairs import SHORTEST, Pairs
from spacy_bert.pretraining.shards import IntArray, Split

_TRIES = 10  # to find another document


def draw_reference_pairs(
    split: Split,
    documents: IntArray,
    *,
    max_pieces: int,
    short_share: float,
    rng: np.random.Generator,
) -> Pairs:
    """Draw pairs of some documents; see `spacy_bert.pretraining.pairs.draw_pairs`."""
    bounds = [split.bounds(document) for document in documents.tolist()]
    a: list[tuple[int, int]] = []
    b: list[tuple[int, int]] = []
    is_random: list[bool] = []
    for number, sentences in enumerate(bounds):
        count = len(sentences) - 1
        first = last = 0
        target = _target(max_pieces, short_share, rng)
        while last < count:
            last += 1
            if last < count and sentences[last] - sentences[first] < target:
                continue
            end_a = first + 1
            if last - first >= 2:
                end_a = first + int(rng.integers(1, last - first))
            left = (sentences[first], sentences[end_a])
            random = last - first == 1 or rng.random() < 0.5
            if random:
                right = _random_segment(bounds, number, target - (left[1] - left[0]), rng)
                last = end_a  # the sentences not used are put back
            else:
                right = (sentences[end_a], sentences[last])
            left, right = _truncate(left, right, max_pieces, rng)
            a.append(left)
            b.append(right)
            is_random.append(random)
            first = last
            target = _target(max_pieces, short_share, rng)
    spans_a, spans_b = (np.array(spans, dtype=np.int64).reshape(-1, 2) for spans in (a, b))
    return Pairs(
        a=spans_a,
        b=spans_b,
        is_random=np.array(is_random, dtype=bool),
        whole=_whole(split, spans_a) & _whole(split, spans_b),
    )


def _target(max_pieces: int, short_share: float, rng: np.random.Generator) -> int:
    if rng.random() < short_share:
        return int(rng.integers(SHORTEST, max_pieces + 1))
    return max_pieces


def _random_segment(
    bounds: list[list[int]], number: int, target: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Sentences from a random place of another document on, `target` pieces or a few more."""
    other = number
    for _ in range(_TRIES):
        other = int(rng.integers(len(bounds)))
        if other != number:
            break
    sentences = bounds[other]
    count = len(sentences) - 1
    first = int(rng.integers(count))
    last = first + 1
    while last < count and sentences[last] - sentences[first] < target:
        last += 1
    return sentences[first], sentences[last]


def _truncate(
    left: tuple[int, int], right: tuple[int, int], max_pieces: int, rng: np.random.Generator
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Drop pieces of the longer segment, each from its front or its back, until both fit."""
    sizes = [left[1] - left[0], right[1] - right[0]]
    dropped = [0, 0]
    for _ in range(sum(sizes) - max_pieces):
        longer = 0 if sizes[0] > sizes[1] else 1
        sizes[longer] -= 1
        dropped[longer] += 1
    fronts = [int(rng.binomial(surplus, 0.5)) for surplus in dropped]
    return (
        (left[0] + fronts[0], left[0] + fronts[0] + sizes[0]),
        (right[0] + fronts[1], right[0] + fronts[1] + sizes[1]),
    )


def _whole(split: Split, spans: IntArray) -> np.ndarray:
    """Whether spans begin and end with sentences, (spans,) bool."""
    found = np.searchsorted(split.sentences, spans)
    whole: np.ndarray = (split.sentences[found] == spans).all(1)
    return whole
