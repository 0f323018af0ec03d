"""Packed batches: the layout of a pair, the budget, and what an epoch is."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from spacy_bert.pretraining import batches as module
from spacy_bert.pretraining.batches import BatchMaker, BatchSettings
from spacy_bert.pretraining.masking import Masking

SETTINGS = BatchSettings(sequence_length=32, batch_pieces=512)


@pytest.fixture
def maker(shards, wordpiece) -> BatchMaker:
    return BatchMaker(shards.train, wordpiece, settings=SETTINGS, masking=Masking(), seed=3)


def restored(batch) -> np.ndarray:
    """The pieces of a batch before they were masked."""
    pieces = batch.packed.pieces.clone()
    pieces[batch.masked] = batch.targets
    return pieces.numpy()


def sequences(batch) -> list[np.ndarray]:
    return np.split(restored(batch), np.cumsum(batch.packed.lengths)[:-1])


def test_a_sequence_is_cls_a_sep_b_sep(maker, shards, wordpiece):
    rng = np.random.default_rng(0)
    pairs = maker.pairs(np.arange(shards.train.document_count), rng)
    found = [(s, b) for b in maker.whole_pairs(pairs, rng) for s in sequences(b)]
    assert len(found) == len(pairs)
    pieces = shards.train.pieces
    for (sequence, _), a, b in zip(found, pairs.a, pairs.b, strict=True):
        assert sequence.tolist() == [
            wordpiece.cls_id,
            *pieces[slice(*a)],
            wordpiece.sep_id,
            *pieces[slice(*b)],
            wordpiece.sep_id,
        ]
    labels = torch.cat([batch.is_random for batch in maker.whole_pairs(pairs, rng)])
    assert np.array_equal(labels.numpy(), pairs.is_random)


def test_positions_and_segments(maker, wordpiece):
    batch = next(maker.epoch(0))
    starts = np.cumsum(batch.packed.lengths) - batch.packed.lengths
    for sequence, start in zip(sequences(batch), starts, strict=True):
        rows = slice(start, start + len(sequence))
        assert batch.packed.positions[rows].tolist() == list(range(len(sequence)))
        border = int(np.flatnonzero(sequence == wordpiece.sep_id)[0]) + 1
        expected = [0] * border + [1] * (len(sequence) - border)
        assert batch.packed.segments[rows].tolist() == expected


def test_every_batch_has_the_very_same_size(maker):
    batches = list(maker.epoch(0))
    assert len(batches) > 10
    assert {len(batch.packed.pieces) for batch in batches} == {SETTINGS.batch_pieces}
    assert len({len(batch.masked) for batch in batches}) == 1
    lengths = [length for batch in batches for length in batch.packed.lengths]
    assert max(lengths) <= SETTINGS.sequence_length
    assert min(lengths) >= 5


def test_whole_pairs_come_close_to_the_budget_and_never_exceed_it(maker, shards):
    rng = np.random.default_rng(0)
    pairs = maker.pairs(np.arange(shards.train.document_count), rng)
    sizes = [len(batch.packed.pieces) for batch in maker.whole_pairs(pairs, rng)]
    assert sum(sizes) == (pairs.lengths + 3).sum()
    assert max(sizes) <= SETTINGS.batch_pieces
    assert min(sizes) > SETTINGS.batch_pieces - 3 * SETTINGS.sequence_length


def test_masks_keep_off_cls_and_sep_and_take_their_share(maker, wordpiece):
    masked = ordinary = 0
    for batch in maker.epoch(0):
        assert not np.isin(batch.targets.numpy(), wordpiece.special_ids).any()
        masked += len(batch.masked)
        ordinary += len(batch.packed.pieces) - 3 * len(batch.packed.lengths)
    assert abs(masked / ordinary - 0.15) < 0.001


def test_an_epoch_has_balanced_labels(maker):
    labels = torch.cat([batch.is_random for batch in maker.epoch(0)]).double()
    assert abs(labels.mean().item() - 0.5) < 0.01


@pytest.mark.parametrize("sentences_at_a_time", [500, 1 << 18])
def test_an_epoch_draws_pairs_of_every_document_once(
    maker, shards, monkeypatch, sentences_at_a_time
):
    monkeypatch.setattr(module, "SENTENCES_AT_A_TIME", sentences_at_a_time)
    drawn = []
    original = maker.pairs
    monkeypatch.setattr(
        maker, "pairs", lambda documents, rng: drawn.append(documents) or original(documents, rng)
    )
    list(maker.epoch(0))
    assert (len(drawn) > 1) == (sentences_at_a_time == 500)
    documents = np.concatenate(drawn)
    assert sorted(documents) == list(range(shards.train.document_count))
    assert sorted(documents) != documents.tolist()


def equal(left, right) -> bool:
    return (
        torch.equal(left.packed.pieces, right.packed.pieces)
        and torch.equal(left.masked, right.masked)
        and torch.equal(left.is_random, right.is_random)
    )


def test_batches_are_a_function_of_seed_and_epoch(maker, shards, wordpiece):
    again = BatchMaker(shards.train, wordpiece, settings=SETTINGS, masking=Masking(), seed=3)
    other = BatchMaker(shards.train, wordpiece, settings=SETTINGS, masking=Masking(), seed=4)
    first = list(maker.epoch(1))
    list(again.epoch(0))  # what came before makes no difference
    assert all(map(equal, first, again.epoch(1)))
    assert not equal(first[0], next(other.epoch(1)))
    assert not equal(first[0], next(maker.epoch(2)))
    stream = islice(maker.stream(), len(list(maker.epoch(0))), None)
    assert equal(next(stream), first[0])


def test_blocks_bound_memory_and_lose_nothing(maker, monkeypatch):
    whole = sum(len(batch.packed.lengths) for batch in maker.epoch(0))
    monkeypatch.setattr(module, "SENTENCES_AT_A_TIME", 500)
    batches = list(maker.epoch(0))
    assert abs(sum(len(batch.packed.lengths) for batch in batches) - whole) < 0.1 * whole
    assert all(map(equal, batches, maker.epoch(0)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sequence_length": 4}, "sequence_length must be at least 5, got 4"),
        ({"sequence_length": 64, "batch_pieces": 100}, "batch_pieces must be at least twice"),
        ({"short_share": 2.0}, "short_share must be between 0 and 1"),
    ],
)
def test_impossible_shapes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        BatchSettings(**fields)
