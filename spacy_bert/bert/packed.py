"""A batch of wordpiece sequences without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedBatch:
    """Sequences laid end to end: the only form in which the network sees text.

    Attributes:
        pieces: wordpiece ids, (total,) int64.
        positions: position of each piece in its sequence, (total,) int64.
        segments: segment (token type) id of each piece, (total,) int64.
        lengths: pieces in each sequence, on the host, so that attention can be planned
            without waiting for a device. They sum to `total`.
    """

    pieces: Tensor
    positions: Tensor
    segments: Tensor
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse parts that do not fit each other.

        Raises:
            ValueError: says which part is off.
        """
        total = sum(self.lengths)
        for name in ("pieces", "positions", "segments"):
            shape = tuple(getattr(self, name).shape)
            if shape != (total,):
                raise ValueError(
                    f"PackedBatch.{name} has shape {shape}, the lengths add up to {(total,)}"
                )
        if any(length < 1 for length in self.lengths):
            raise ValueError("PackedBatch.lengths must all be at least 1")

    @classmethod
    def from_sequences(
        cls, sequences: list[list[int]], *, segments: list[list[int]] | None = None
    ) -> PackedBatch:
        """Pack lists of piece ids (and of segment ids, all 0 by default)."""
        flat = [piece for sequence in sequences for piece in sequence]
        kinds = [kind for row in segments for kind in row] if segments else [0] * len(flat)
        lengths = tuple(len(sequence) for sequence in sequences)
        return cls(
            pieces=torch.tensor(flat, dtype=torch.int64),
            positions=torch.from_numpy(positions_of(lengths)),
            segments=torch.tensor(kinds, dtype=torch.int64),
            lengths=lengths,
        )

    @property
    def starts(self) -> np.ndarray:
        """Index of the first piece ([CLS]) of every sequence, (sequences,) int64, on the host."""
        lengths = np.asarray(self.lengths, dtype=np.int64)
        return np.cumsum(lengths) - lengths

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on a device."""
        return PackedBatch(
            pieces=self.pieces.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            segments=self.segments.to(device, non_blocking=True),
            lengths=self.lengths,
        )


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """start, start + 1, ..., start + size - 1 for each range in turn, (sum of sizes,) int64."""
    ends = np.cumsum(sizes)
    filled: np.ndarray = np.repeat(starts - (ends - sizes), sizes)
    filled += np.arange(len(filled))
    return filled


def positions_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """0 .. length - 1 for each sequence in turn, (sum of lengths,) int64."""
    sizes = np.asarray(lengths, dtype=np.int64)
    return ranges(np.zeros_like(sizes), sizes)
