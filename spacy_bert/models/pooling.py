"""From the rows of an encoder's windows to the vectors that heads read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from spacy_transformers.data_classes import TransformerData
from thinc.api import Model, Ops, get_array_module
from thinc.types import Floats2d, Ragged
from transformers.file_utils import ModelOutput

from spacy_bert.models.batch import PackedTransformerData, unpad
from spacy_bert.models.windows import Windows

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are
Filled = list[tuple[int, Array]]
Piece = Literal["first", "last"]


def pool_cls(piece: Piece = "first") -> Model[list[TransformerData], Floats2d]:
    """One piece of each Doc's windows, their mean; zeros for a Doc without tokens.

    Args:
        piece: "first" is [CLS]; "last" is the last [SEP], the only piece to which a left-to-right
            encoder shows the whole window.

    Raises:
        ValueError: if there is no such piece.
    """
    _require_piece(piece)
    return Model("pool_cls", forward_cls, attrs={"cls_piece": piece})


def forward_cls(
    model: Model[list[TransformerData], Floats2d], data: list[TransformerData], is_train: bool
) -> tuple[Array, Callable[[Array], list[TransformerData]]]:
    """(Docs) -> (Docs, width); the backward pass gives gradients for Docs with tokens only."""
    filled, width = _filled(data)
    pooled: Array = model.ops.alloc2f(len(data), width)
    read = {i: _read_pieces(data[i], model) for i, _ in filled}
    for i, state in filled:
        pooled[i] = state[read[i]].mean(axis=0)

    def backprop(d_pooled: Array) -> list[TransformerData]:
        gradients = []
        for i, state in filled:
            d_state = model.ops.xp.zeros_like(state)
            d_state[read[i]] = d_pooled[i] / len(state)
            gradients.append(_gradient(data[i], d_state))
        return gradients

    return pooled, backprop


def pool_pairs(piece: Piece = "first") -> Model[list[TransformerData], Ragged]:
    """One piece of the windows of each pair of segments, their mean; a Doc has as many as pairs.

    Args:
        piece: as in `pool_cls`.

    Raises:
        ValueError: if there is no such piece.
    """
    _require_piece(piece)
    return Model("pool_pairs", forward_pairs, attrs={"cls_piece": piece})


def forward_pairs(
    model: Model[list[TransformerData], Ragged], data: list[TransformerData], is_train: bool
) -> tuple[Ragged, Callable[[Ragged], list[TransformerData]]]:
    """(Docs) -> (pairs of all Docs, width); gradients for Docs with tokens only."""
    ops = model.ops
    filled, width = _filled(data)
    lengths = np.zeros(len(data), np.int32)
    pooled: list[Array] = [ops.alloc2f(0, width)]
    read = {i: _read_pieces(data[i], model) for i, _ in filled}
    pairs, weights = {}, {}
    for i, state in filled:
        of_windows = _pairs(data[i], len(state))
        windows = np.bincount(of_windows)
        lengths[i] = len(windows)
        pairs[i] = ops.asarray1i(of_windows)
        share: Array = (1.0 / windows[of_windows])[:, None]
        weights[i] = ops.asarray2f(share, dtype="f")
        means = ops.alloc2f(len(windows), width)
        ops.scatter_add(means, pairs[i], state[read[i]] * weights[i])
        pooled.append(means)

    def backprop(gradient: Ragged) -> list[TransformerData]:
        d_means: Array = gradient.dataXd
        ends = lengths.cumsum()
        gradients = []
        for i, state in filled:
            d_state = ops.xp.zeros_like(state)
            d_state[read[i]] = d_means[ends[i] - lengths[i] : ends[i]][pairs[i]] * weights[i]
            gradients.append(_gradient(data[i], d_state))
        return gradients

    return Ragged(ops.xp.concatenate(pooled), ops.asarray1i(cast(Array, lengths))), backprop


def _pairs(data: TransformerData, windows: int) -> Array:
    """The pair of each window; data that are not our encoder's are taken for one pair."""
    return data.pairs if isinstance(data, PackedTransformerData) else np.zeros(windows, np.int64)


def _require_piece(piece: str) -> None:
    if piece not in get_args(Piece):
        raise ValueError(f'piece must be "first" ([CLS]) or "last" ([SEP]), got {piece!r}')


def _read_pieces(data: TransformerData, model: Model[Any, Any]) -> Any:
    """Index of the piece to read in each window of (windows, length, width)."""
    if model.attrs["cls_piece"] == "first":
        return slice(None), 0
    mask = data.wordpieces.attention_mask  # windows are padded to the longest of the Doc
    xp = get_array_module(mask)
    return model.ops.xp.arange(len(mask)), model.ops.asarray1i(
        (mask * xp.arange(mask.shape[1])).argmax(axis=1)
    )


def pool_first() -> Model[list[TransformerData], list[Floats2d]]:
    """The first piece of each token (Devlin et al. 2018, section 5.3); zeros for white space."""
    return Model("pool_first", forward_first)


def forward_first(
    model: Model[list[TransformerData], list[Floats2d]], data: list[TransformerData], is_train: bool
) -> tuple[list[Array], Callable[[list[Array]], list[TransformerData]]]:
    """(Docs) -> (tokens, width) for each Doc; gradients for Docs with tokens only."""
    filled, width = _filled(data)
    pooled: list[Array] = [model.ops.alloc2f(0, width) for _ in data]
    first_pieces = {i: _first_pieces(data[i], model.ops) for i, _ in filled}
    for i, state in filled:
        tokens, rows = first_pieces[i]
        flat = state.reshape(-1, width)
        if tokens is None:
            pooled[i] = flat[rows]
        else:
            pooled[i] = model.ops.alloc2f(len(data[i].align.lengths), width)
            pooled[i][tokens] = flat[rows]

    def backprop(d_pooled: list[Array]) -> list[TransformerData]:
        gradients = []
        for i, state in filled:
            tokens, rows = first_pieces[i]
            d_flat = model.ops.alloc2f(state.shape[0] * state.shape[1], width)
            d_tokens = d_pooled[i] if tokens is None else d_pooled[i][tokens]
            # Two tokens may begin in one piece: spaCy cuts "can't" where BERT need not.
            model.ops.scatter_add(d_flat, rows, d_tokens)
            gradients.append(_gradient(data[i], d_flat.reshape(state.shape)))
        return gradients

    return pooled, backprop


def pool_windows() -> Model[list[TransformerData], list[Windows]]:
    """Every piece of every window, without padding, and where it stands."""
    return Model("pool_windows", forward_windows)


def forward_windows(
    model: Model[list[TransformerData], list[Windows]], data: list[TransformerData], is_train: bool
) -> tuple[list[Windows], Callable[[list[Array]], list[TransformerData]]]:
    """(Docs) -> their windows; gradients of the rows -> those of the Docs with tokens only."""
    filled, width = _filled(data)
    windows = [Windows.empty(model.ops.alloc2f(0, width)) for _ in data]
    for i, state in filled:
        windows[i] = Windows.of(data[i], unpad(state, data[i].wordpieces.lengths))

    def backprop(d_rows: list[Array]) -> list[TransformerData]:
        gradients = []
        for i, state in filled:
            d_state = model.ops.xp.zeros_like(state)
            d_state[windows[i].window_of, windows[i].position_of] = d_rows[i]
            gradients.append(_gradient(data[i], d_state))
        return gradients

    return windows, backprop


def _filled(data: list[TransformerData]) -> tuple[Filled, int]:
    """The states of the Docs that have some, and their width (0 if none has)."""
    states = [d.model_output.get("last_hidden_state") for d in data]
    # A Doc without tokens comes without states, or with states of no length.
    filled = [(i, s) for i, s in enumerate(states) if s is not None and s.shape[1]]
    return filled, filled[0][1].shape[2] if filled else 0


def _first_pieces(data: TransformerData, ops: Ops) -> tuple[Array | None, Array]:
    """The tokens that have pieces (None: all), and the row of the first piece of each of them."""
    lengths = data.align.lengths
    starts = lengths.cumsum() - lengths
    pieces = data.align.dataXd
    if lengths.all():
        return None, ops.asarray1i(pieces[starts])
    tokens: Array = np.flatnonzero(lengths)
    return ops.asarray1i(tokens), ops.asarray1i(pieces[starts[tokens]])


def _gradient(data: TransformerData, states: Array) -> TransformerData:
    return TransformerData(
        wordpieces=data.wordpieces,
        model_output=ModelOutput(last_hidden_state=states),
        align=data.align,
    )
