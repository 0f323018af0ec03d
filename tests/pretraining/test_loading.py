"""Batches in the same order whatever makes them, from any place on."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from spacy_bert.pretraining import batches as module
from spacy_bert.pretraining.batches import START, BatchMaker, BatchSettings, Place
from spacy_bert.pretraining.loading import load_batches
from spacy_bert.pretraining.masking import Masking


@pytest.fixture
def maker(shards, wordpiece, monkeypatch) -> BatchMaker:
    monkeypatch.setattr(module, "SENTENCES_AT_A_TIME", 500)  # several blocks an epoch
    settings = BatchSettings(sequence_length=32, batch_pieces=512)
    return BatchMaker(shards.train, wordpiece, settings=settings, masking=Masking(), seed=3)


def take(stream, number: int) -> list[tuple[Place, list[int]]]:
    return [(batch.place, batch.packed.pieces.tolist()) for batch in islice(stream, number)]


def test_the_stream_goes_through_blocks_and_epochs(maker):
    places = [batch.place for batch in islice(maker.stream(), 200)]
    assert places[0] == START
    assert places == sorted(set(places))
    assert {place.block for place in places if place.epoch == 0} == set(range(6))
    assert places[-1].epoch > 0


def test_any_place_is_a_beginning(maker):
    whole = take(maker.stream(), 120)
    for number in (1, 17, 60, 119):
        assert take(maker.stream(whole[number][0]), 1) == [whole[number]]
    # One past the end of a block is the first of the next.
    last = max(place for place, _ in whole if (place.epoch, place.block) == (0, 1))
    position = [place for place, _ in whole].index(last)
    beyond = last._replace(batch=last.batch + 3)
    assert take(maker.stream(beyond), 2) == whole[position + 3 : position + 5]


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_batches_out(maker, ranks):
    whole = take(maker.stream(), 60)
    for rank in range(ranks):
        stream = load_batches(maker, START, workers=0, rank=rank, world_size=ranks)
        assert take(stream, 60 // ranks) == whole[rank::ranks]


def test_workers_give_the_same_batches(shards, wordpiece):
    settings = BatchSettings(sequence_length=32, batch_pieces=512)
    maker = BatchMaker(shards.train, wordpiece, settings=settings, masking=Masking(), seed=3)
    start = Place(0, 0, 5)
    expected = take(load_batches(maker, start, workers=0, rank=1, world_size=2), 12)
    assert take(load_batches(maker, start, workers=2, rank=1, world_size=2), 12) == expected


def test_a_batch_survives_the_way_from_a_worker(shards, wordpiece):
    settings = BatchSettings(sequence_length=32, batch_pieces=512)
    maker = BatchMaker(
        shards.train, wordpiece, settings=settings, masking=Masking(), seed=3, objective="mlm"
    )
    batch = next(load_batches(maker, START, workers=1))
    assert batch.is_random is None
    assert batch.packed.pieces.dtype == torch.int64
    assert sum(batch.packed.lengths) == 512
