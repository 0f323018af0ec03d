"""Pairs as the reference code draws them."""

from __future__ import annotations

import numpy as np
import pytest

from spacy_bert.pretraining.pairs import draw_pairs
from spacy_bert.pretraining.segment_pairs import Pairs

MAX_PIECES = 40


@pytest.fixture(scope="module")
def pairs(shards) -> Pairs:
    documents = np.arange(shards.train.document_count)
    return draw_pairs(
        shards.train,
        documents,
        max_pieces=MAX_PIECES,
        short_share=0.1,
        rng=np.random.default_rng(0),
        pairing="reference",
    )


def documents_of(split, spans) -> np.ndarray:
    """The document in which each span begins and (checked) ends."""
    starts = split.sentences[split.documents]
    first = np.searchsorted(starts, spans[:, 0], side="right") - 1
    last = np.searchsorted(starts, spans[:, 1] - 1, side="right") - 1
    assert np.array_equal(first, last)
    return first


def test_more_than_half_are_random_and_from_another_document(pairs, shards):
    same = documents_of(shards.train, pairs.a) == documents_of(shards.train, pairs.b)
    assert np.array_equal(same, ~pairs.is_random)
    assert 0.55 < pairs.is_random.mean() < 0.95


def test_a_true_b_follows_its_a(pairs):
    true = ~pairs.is_random
    gaps = pairs.b[true, 0] - pairs.a[true, 1]
    whole = pairs.whole[true]
    assert (gaps[whole] == 0).all()
    assert (gaps >= 0).all()


def test_nothing_is_too_long_or_empty(pairs):
    assert pairs.lengths.max() <= MAX_PIECES
    assert (np.diff(pairs.a) > 0).all()
    assert (np.diff(pairs.b) > 0).all()


def test_every_document_is_used_as_a(pairs, shards):
    used = np.unique(documents_of(shards.train, pairs.a))
    assert len(used) == shards.train.document_count


def test_whole_pairs_begin_and_end_with_sentences(pairs, shards):
    borders = shards.train.sentences
    inside = np.isin(pairs.a, borders).all(1) & np.isin(pairs.b, borders).all(1)
    assert np.array_equal(inside, pairs.whole)
    assert 0.5 < pairs.whole.mean() < 1.0
