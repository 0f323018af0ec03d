"""Segment pairs: the procedure of Devlin et al. 2018, and nothing that gives the label away."""

from __future__ import annotations

import numpy as np
import pytest

from spacy_bert.pretraining.pairs import Pairs, draw_pairs
from spacy_bert.pretraining.shards import Split

MAX_PIECES = 40


def make_split(sizes: list[list[int]]) -> Split:
    """A split with documents of sentences of the given numbers of pieces."""
    sentences = np.cumsum([0, *(size for document in sizes for size in document)])
    documents = np.cumsum([0, *map(len, sizes)])
    return Split(np.arange(sentences[-1]), sentences, documents)


def random_split(documents: int, *, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    return make_split(
        [
            rng.integers(1 if count > 1 else 2, 60, count).tolist()
            for count in np.where(rng.random(documents) < 0.5, 1, rng.integers(2, 12, documents))
        ]
    )


def draw(split: Split, *, seed: int = 0, short_share: float = 0.1) -> Pairs:
    return draw_pairs(
        split,
        np.arange(split.document_count),
        max_pieces=MAX_PIECES,
        short_share=short_share,
        rng=np.random.default_rng(seed),
    )


@pytest.fixture(scope="module")
def split() -> Split:
    return random_split(4000)


@pytest.fixture(scope="module")
def pairs(split) -> Pairs:
    return draw(split)


def document_of(split: Split, positions: np.ndarray) -> np.ndarray:
    starts = split.sentences[split.documents]
    return np.searchsorted(starts, positions, side="right") - 1


def test_labels_are_balanced(pairs):
    assert abs(pairs.is_random.mean() - 0.5) < 0.001
    assert abs(pairs.is_random[pairs.whole].mean() - 0.5) < 0.01
    assert abs(pairs.is_random[~pairs.whole].mean() - 0.5) < 0.01


def test_next_follows_in_the_same_document_and_random_is_of_another(split, pairs):
    from_a, from_b = (document_of(split, spans[:, 0]) for spans in (pairs.a, pairs.b))
    for spans, first in ((pairs.a, from_a), (pairs.b, from_b)):
        assert np.array_equal(document_of(split, spans[:, 1] - 1), first)  # within one document
    following = ~pairs.is_random
    assert np.array_equal(pairs.b[following, 0], pairs.a[following, 1])
    assert np.array_equal(from_a == from_b, following)


def test_every_document_is_used_under_both_labels_alike(split, pairs):
    from_a, from_b = (document_of(split, spans[:, 0]) for spans in (pairs.a, pairs.b))
    assert set(from_a) == set(from_b) == set(range(split.document_count))
    single = np.diff(split.documents) == 1
    for documents in (from_a, from_b):
        assert abs(pairs.is_random[single[documents]].mean() - 0.5) < 0.01
        assert abs(pairs.is_random[~single[documents]].mean() - 0.5) < 0.01


def test_segments_are_not_empty_and_keep_to_the_budget(pairs):
    assert (pairs.a[:, 0] < pairs.a[:, 1]).all()
    assert (pairs.b[:, 0] < pairs.b[:, 1]).all()
    assert pairs.lengths.max() == MAX_PIECES


def test_whole_pairs_are_whole_sentences(split, pairs):
    borders = set(split.sentences.tolist())
    whole = pairs.take(pairs.whole)
    assert 0.1 < pairs.whole.mean() < 0.9
    for spans in (whole.a, whole.b):
        assert borders.issuperset(spans.ravel().tolist())


def test_the_label_cannot_be_told_from_lengths(split):
    draws = [draw(split, seed=seed) for seed in range(20)]
    label, whole = (
        np.concatenate([getattr(pairs, name) for pairs in draws]) for name in ("is_random", "whole")
    )
    lengths = np.concatenate([np.diff(np.stack([pairs.a, pairs.b]))[..., 0].T for pairs in draws])
    for kind in (whole, ~whole):
        following, random = lengths[kind & ~label], lengths[kind & label]
        difference = (following.mean(0) - random.mean(0)) / lengths[kind].std(0)
        assert (abs(difference) < 0.05).all()
        correlations = [np.corrcoef(part.T)[0, 1] for part in (following, random)]
        assert abs(correlations[0] - correlations[1]) < 0.03


def test_chance_comes_from_the_generator_alone(split):
    first, again, other = draw(split, seed=1), draw(split, seed=1), draw(split, seed=2)
    for name in ("a", "b", "is_random", "whole"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.b[: len(other)], other.b[: len(first)])


def test_short_spans_are_short():
    split = make_split([[4] * 60] * 50)
    full, short = draw(split, short_share=0.0), draw(split, short_share=1.0)
    assert np.median(full.lengths) == MAX_PIECES
    assert np.median(short.lengths) < 0.7 * MAX_PIECES


def test_a_sentence_left_alone_pairs_up_with_the_one_before():
    split = make_split([[20, 20, 10]] * 8)
    pairs = draw(split, short_share=0.0)
    assert pairs.whole.all()
    assert len(pairs) == 16
    spans = {(int(a[0]) % 50, int(a[1]) % 50) for a in pairs.a}
    assert spans == {(0, 20), (20, 40)}


def test_what_is_too_long_loses_its_outer_ends():
    split = make_split([[50, 10], [30, 30], [9, 60], [100]])
    pairs = draw(split)
    lengths = [(int(a[1] - a[0]), int(b[1] - b[0])) for a, b in zip(pairs.a, pairs.b, strict=True)]
    assert pairs.lengths.max() <= MAX_PIECES
    assert not pairs.whole.any()
    assert lengths[0][0] == 30  # of 50: the end, next to B
    assert pairs.a[0].tolist() == [20, 50]
    assert pairs.a[1].tolist() == [70, 90]
    assert pairs.a[2].tolist() == [120, 129]
