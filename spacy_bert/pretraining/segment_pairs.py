"""What next sentence prediction is asked about: pairs of segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spacy_bert.pretraining.shards import IntArray

BoolArray = npt.NDArray[np.bool_]

SHORTEST = 2  # pieces in the shortest pair: one a segment


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Pairs of segments.

    Attributes:
        a: Start and end of each A in the split's pieces, (pairs, 2) int64.
        b: The same of each B, (pairs, 2) int64.
        is_random: Whether B comes from another document than A, (pairs,) bool.
        whole: Whether both segments are made of whole sentences, (pairs,) bool.
    """

    a: IntArray
    b: IntArray
    is_random: BoolArray
    whole: BoolArray

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.a)

    @property
    def lengths(self) -> IntArray:
        """Pieces of A and B together, (pairs,) int64."""
        return self.a[:, 1] - self.a[:, 0] + self.b[:, 1] - self.b[:, 0]

    def take(self, indices: npt.NDArray[Any] | slice) -> Pairs:
        """The pairs at the given indices (or where a mask is true), in that order."""
        return Pairs(
            a=self.a[indices],
            b=self.b[indices],
            is_random=self.is_random[indices],
            whole=self.whole[indices],
        )
