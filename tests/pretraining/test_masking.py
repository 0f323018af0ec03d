"""Dynamic masks: 15 %, of which 80/10/10, never a special piece."""

from __future__ import annotations

import numpy as np
import pytest

from spacy_bert.pretraining.masking import Masker, Masking

SIZE = 20_000


@pytest.fixture(scope="module")
def batch(wordpiece):
    """Pieces of which every tenth is [CLS] or [SEP], and where the others are."""
    rng = np.random.default_rng(0)
    pieces = rng.integers(5, len(wordpiece), SIZE)
    pieces[::10] = wordpiece.cls_id
    pieces[9::10] = wordpiece.sep_id
    ordinary = np.flatnonzero(~np.isin(pieces, wordpiece.special_ids))
    return pieces, ordinary


def test_shares_of_the_paper(batch, wordpiece):
    pieces, ordinary = batch
    masked = Masker(Masking(), wordpiece)(pieces, ordinary, np.random.default_rng(1))
    assert len(masked.positions) == round(0.15 * len(ordinary))
    seen = masked.pieces[masked.positions]
    is_mask = seen == wordpiece.mask_id
    same = seen == masked.targets
    assert abs(is_mask.mean() - 0.8) < 0.01
    # A random piece is by chance the right one once in a while.
    assert abs(same.mean() - 0.1) < 0.01
    assert abs((~is_mask & ~same).mean() - 0.1) < 0.01


def test_special_pieces_are_neither_predicted_nor_put_in(batch, wordpiece):
    pieces, ordinary = batch
    masked = Masker(Masking(), wordpiece)(pieces, ordinary, np.random.default_rng(1))
    assert not np.isin(masked.targets, wordpiece.special_ids).any()
    others = np.setdiff1d(wordpiece.special_ids, wordpiece.mask_id)
    assert not np.isin(masked.pieces[ordinary], others).any()


def test_the_rest_stays_as_it_was(batch, wordpiece):
    pieces, ordinary = batch
    before = pieces.copy()
    masked = Masker(Masking(), wordpiece)(pieces, ordinary, np.random.default_rng(1))
    assert np.array_equal(pieces, before)
    assert np.array_equal(masked.targets, before[masked.positions])
    assert (np.diff(masked.positions) > 0).all()
    untouched = np.setdiff1d(np.arange(SIZE), masked.positions)
    assert np.array_equal(masked.pieces[untouched], before[untouched])


def test_masks_are_drawn_afresh_and_from_the_generator_alone(batch, wordpiece):
    masker = Masker(Masking(), wordpiece)
    first, again, other = (masker(*batch, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.pieces, again.pieces)
    assert not np.array_equal(first.positions, other.positions)


@pytest.mark.parametrize(("mask", "random"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_other_mixes(batch, wordpiece, mask, random):
    masker = Masker(Masking(mask=mask, random=random), wordpiece)
    masked = masker(*batch, np.random.default_rng(1))
    seen = masked.pieces[masked.positions]
    assert (seen == wordpiece.mask_id).mean() == mask
    assert ((seen == masked.targets).mean() > 0.9) == (mask == random == 0.0)


def test_a_tiny_batch_has_one_mask(wordpiece):
    masked = Masker(Masking(), wordpiece)(
        np.array([wordpiece.cls_id, 7, wordpiece.sep_id]), np.array([1]), np.random.default_rng(0)
    )
    assert masked.positions.tolist() == [1]
    assert masked.targets.tolist() == [7]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"share": 0.0}, "share must lie between 0 and 1"),
        ({"mask": 1.5}, "mask must be between 0 and 1"),
        ({"mask": 0.8, "random": 0.3}, "mask and random add up to 1.1, more than 1"),
    ],
)
def test_impossible_shares_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Masking(**fields)
