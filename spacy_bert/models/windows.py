"""The windows of a Doc as a head of pieces sees them: a row for each piece, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from spacy_transformers.data_classes import TransformerData

from spacy_bert.bert import positions_of
from spacy_bert.models.batch import PackedTransformerData

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """The pieces of all windows of a Doc, end to end.

    Attributes:
        rows: vectors, or what a head makes of them, (pieces, width).
        lengths: pieces in each window, (windows,) int64.
        offsets: characters of each piece in the Doc, (pieces, 2) int64; -1 for [CLS] and [SEP].
        is_second: whether a piece belongs to the second segment of its window, (pieces,) bool.
        is_best: whether a piece belongs to a token to which no window gives more context than this
            one, (pieces,) bool.
    """

    rows: Array
    lengths: np.ndarray
    offsets: np.ndarray
    is_second: np.ndarray
    is_best: np.ndarray

    @classmethod
    def empty(cls, rows: Array) -> Windows:
        """Those of a Doc without tokens; `rows` is (0, width)."""
        return cls(
            rows=rows,
            lengths=np.zeros(0, np.int64),
            offsets=np.zeros((0, 2), np.int64),
            is_second=np.zeros(0, bool),
            is_best=np.zeros(0, bool),
        )

    @classmethod
    def of(cls, data: TransformerData, rows: Array) -> Windows:
        """What a Doc's data tell about their `rows`, (pieces, width).

        Data that are not our encoder's do not know where a piece stands: its offsets are -1 then.
        """
        lengths = np.asarray(data.wordpieces.lengths, np.int64)
        offsets = np.full((len(rows), 2), -1)
        is_second = np.zeros(len(rows), bool)
        is_best = np.zeros(len(rows), bool)
        if isinstance(data, PackedTransformerData):
            window = np.repeat(np.arange(len(lengths)), lengths)
            position = positions_of(lengths)
            offsets = data.offsets
            kinds = data.wordpieces.token_type_ids
            is_second = (kinds[window, position] == 1) & (offsets[:, 0] >= 0)
            in_align = np.zeros(kinds.shape, bool)
            in_align.reshape(-1)[data.align.dataXd] = True
            is_best = in_align[window, position]
        return cls(
            rows=rows, lengths=lengths, offsets=offsets, is_second=is_second, is_best=is_best
        )

    @property
    def starts(self) -> np.ndarray:
        """Row of the first piece ([CLS]) of each window, (windows,) int64."""
        starts: np.ndarray = np.cumsum(self.lengths) - self.lengths
        return starts

    @property
    def window_of(self) -> np.ndarray:
        """Number of the window of each piece, (pieces,) int64."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def position_of(self) -> np.ndarray:
        """Position of each piece in its window, (pieces,) int64."""
        return positions_of(self.lengths)
