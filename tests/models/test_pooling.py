"""From the rows of windows to the vectors that heads read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from spacy_transformers.data_classes import TransformerData, WordpieceBatch
from thinc.types import Ragged
from transformers.file_utils import ModelOutput

from spacy_bert.models.batch import PackedTransformerData
from spacy_bert.models.pooling import pool_cls, pool_first, pool_pairs


def data(states: np.ndarray, align: list[list[int]] | None = None) -> TransformerData:
    align = align or []
    pieces = np.array([piece for token in align for piece in token], dtype="i")
    return TransformerData(
        wordpieces=WordpieceBatch.empty(),
        model_output=ModelOutput(last_hidden_state=states),
        align=Ragged(pieces, np.array([len(token) for token in align], dtype="i")),
    )


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype="f")


def test_cls_is_the_mean_over_windows_and_zero_without_tokens() -> None:
    one, three = normal(1, 5, 4), normal(3, 5, 4)
    batch = [data(one), TransformerData.empty(), data(three), TransformerData.zeros(0, 4)]
    pooled, backprop = pool_cls()(batch, True)
    expected = [one[0, 0], np.zeros(4), three[:, 0].mean(0), np.zeros(4)]
    np.testing.assert_allclose(pooled, np.stack(expected), rtol=1e-6)
    d_pooled = normal(4, 4)
    d_one, d_three = (d.model_output.last_hidden_state for d in backprop(d_pooled))
    np.testing.assert_allclose(d_one[0, 0], d_pooled[0])
    np.testing.assert_allclose(d_three[:, 0], np.tile(d_pooled[2] / 3, (3, 1)), rtol=1e-6)
    assert np.count_nonzero(d_one[:, 1:]) == np.count_nonzero(d_three[:, 1:]) == 0


@pytest.mark.parametrize("lengths", [[5], [5, 3, 4]])
def test_the_last_piece_is_that_before_the_padding(lengths: list[int]) -> None:
    states = normal(len(lengths), 5, 4)
    mask = np.array([[1.0] * n + [0.0] * (5 - n) for n in lengths], dtype="f")
    read = data(states)
    read.wordpieces.attention_mask = mask
    pooled, backprop = pool_cls("last")([TransformerData.empty(), read], True)
    last = [n - 1 for n in lengths]
    rows = np.arange(len(lengths))
    expected = states[rows, last].mean(axis=0)
    np.testing.assert_allclose(pooled, np.stack([np.zeros(4), expected]), rtol=1e-6)
    (gradient,) = backprop(pooled)
    d_states = gradient.model_output.last_hidden_state
    np.testing.assert_allclose(d_states[rows, last], np.tile(expected / len(rows), (len(rows), 1)))
    assert np.count_nonzero(d_states.any(axis=2)) == len(rows)


@pytest.mark.parametrize("pool", [pool_cls, pool_pairs])
def test_another_piece_is_refused(pool: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match=r"piece must be .first. .* or .last. .*, got .middle."):
        pool("middle")


def paired(pairs: list[int], lengths: list[int]) -> PackedTransformerData:
    one = data(normal(len(pairs), max(lengths), 4))
    one.wordpieces.attention_mask = np.array(
        [[1.0] * n + [0.0] * (max(lengths) - n) for n in lengths], dtype="f"
    )
    offsets = np.full((sum(lengths), 2), -1)
    return PackedTransformerData(**vars(one), offsets=offsets, pairs=np.array(pairs))


@pytest.mark.parametrize("piece", ["first", "last"])
def test_each_pair_is_the_mean_over_its_windows(piece: Literal["first", "last"]) -> None:
    three, one = paired([0, 1, 1, 1, 2], [5, 3, 4, 2, 5]), paired([0], [3])
    batch = [TransformerData.empty(), three, TransformerData.zeros(0, 4), one]
    pooled, backprop = pool_pairs(piece)(batch, True)
    assert pooled.lengths.tolist() == [0, 3, 0, 1]
    column = [0] * 5 if piece == "first" else [4, 2, 3, 1, 4]
    states, alone = (d.model_output.last_hidden_state for d in (three, one))
    read = states[np.arange(5), column]
    last = alone[0, 0 if piece == "first" else 2]
    expected = [read[0], read[1:4].mean(axis=0), read[4], last]
    np.testing.assert_allclose(pooled.dataXd, np.stack(expected), rtol=1e-6)
    # The gradient of a linear map is its transpose: <f(x), y> = <x, f'(y)>.
    y = normal(4, 4)
    d_states, d_alone = (
        d.model_output.last_hidden_state for d in backprop(Ragged(y, pooled.lengths))
    )
    left = float((pooled.dataXd * y).sum())
    right = float((states * d_states).sum() + (alone * d_alone).sum())
    assert left == pytest.approx(right, rel=1e-5)
    assert np.count_nonzero(d_states.any(axis=2)) == 5


def test_docs_without_pairs_give_no_rows() -> None:
    pooled, backprop = pool_pairs()([TransformerData.empty()], True)
    assert pooled.dataXd.shape == (0, 0)
    assert pooled.lengths.tolist() == [0]
    assert backprop(pooled) == []


# Tokens of several pieces, without one (white space), and two that begin in the same piece.
ALIGN = [[1, 2], [], [3], [3, 4], [7]]


def test_first_is_the_first_piece_of_each_token() -> None:
    full, some = normal(1, 6, 4), normal(2, 5, 4)
    batch = [data(full, [[1], [2, 3]]), TransformerData.empty(), data(some, ALIGN)]
    first, none, second = pool_first()(batch, False)[0]
    np.testing.assert_array_equal(first, full[0, 1:3])
    assert none.shape == (0, 4)
    flat = some.reshape(-1, 4)
    expected = np.stack([flat[1], np.zeros(4, "f"), flat[3], flat[3], flat[7]])
    np.testing.assert_array_equal(second, expected)
    assert pool_first()([TransformerData.empty()], False)[0][0].shape == (0, 0)


@pytest.mark.parametrize("align", [ALIGN, [[1], [2, 3], [9]]])
def test_the_gradient_of_first_is_its_transpose(align: list[list[int]]) -> None:
    """<f(x), y> = <x, f'(y)> for a linear map."""
    x, y = normal(2, 5, 4), normal(len(align), 4)
    pool = pool_first()
    (out,), backprop = pool([data(x, align)], True)
    (gradient,) = backprop([y])
    left = float((out * y).sum())
    right = float((x * gradient.model_output.last_hidden_state).sum())
    assert left == pytest.approx(right, rel=1e-5)
