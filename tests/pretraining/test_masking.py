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


@pytest.fixture(scope="module")
def words(wordpiece):
    """Segments of words of one to three pieces, [SEP] between them."""
    rng = np.random.default_rng(0)
    tokens = np.array(wordpiece.tokens)
    inside = np.char.startswith(tokens, "##")
    begins = np.setdiff1d(np.flatnonzero(~inside), wordpiece.special_ids)
    parts = []
    for _ in range(200):
        for _ in range(int(rng.integers(1, 20))):
            parts += [rng.choice(begins), *rng.choice(np.flatnonzero(inside), rng.integers(3))]
        parts.append(wordpiece.sep_id)
    pieces = np.array(parts, dtype=np.int64)
    return pieces, np.flatnonzero(pieces != wordpiece.sep_id)


def groups(pieces, wordpiece) -> np.ndarray:
    """The number of the word each piece belongs to."""
    begins = [not wordpiece.tokens[piece].startswith("##") for piece in pieces]
    return np.cumsum(begins)


def test_whole_words_are_predicted(words, wordpiece):
    pieces, ordinary = words
    masked = Masker(Masking(unit="word"), wordpiece)(pieces, ordinary, np.random.default_rng(1))
    assert len(masked.positions) == round(0.15 * len(ordinary))
    number = groups(pieces, wordpiece)
    chosen = np.isin(np.arange(len(pieces)), masked.positions)
    share = np.bincount(number, chosen) / np.maximum(np.bincount(number), 1)
    assert ((share > 0) & (share < 1)).sum() <= 1  # only the last one may be taken in part
    seen = masked.pieces[masked.positions]
    assert abs((seen == wordpiece.mask_id).mean() - 0.8) < 0.01


def test_spans_are_runs_of_words_that_share_their_fate(words, wordpiece):
    pieces, ordinary = words
    masking = Masking(unit="span", share=0.3)
    lengths = []
    for seed in range(20):
        masked = Masker(masking, wordpiece)(pieces, ordinary, np.random.default_rng(seed))
        assert len(masked.positions) == round(0.3 * len(ordinary))
        number = np.unique(groups(pieces, wordpiece)[masked.positions])
        lengths += [len(run) for run in np.split(number, np.flatnonzero(np.diff(number) > 1) + 1)]
        fates = masked.pieces[masked.positions] == wordpiece.mask_id
        changes = np.diff(fates.astype(int))[np.diff(masked.positions) == 1]
        assert (changes != 0).mean() < 0.1
    assert 1.5 < np.mean(lengths) < 5  # geometric spans, shortened by the ends of segments
    single = Masker(Masking(unit="word", share=0.3), wordpiece)
    masked = single(*words, np.random.default_rng(0))
    number = np.unique(groups(pieces, wordpiece)[masked.positions])
    assert np.mean(lengths) > 1.2 * np.mean(
        [len(run) for run in np.split(number, np.flatnonzero(np.diff(number) > 1) + 1)]
    )


def test_a_fixed_number_of_predictions(batch, wordpiece):
    pieces, ordinary = batch
    for unit in ("piece", "word", "span"):
        masked = Masker(Masking(unit=unit), wordpiece)(
            pieces, ordinary, np.random.default_rng(1), count=321
        )
        assert len(masked.positions) == len(np.unique(masked.positions)) == 321


def test_an_unknown_unit_is_refused():
    with pytest.raises(ValueError, match="unit must be one of piece, word, span, got 'letter'"):
        Masking(unit="letter")
