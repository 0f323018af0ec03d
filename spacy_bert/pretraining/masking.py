"""Masks for the masked language model (Devlin et al. 2018, section 3.1 and appendix A.1).

They are dynamic: drawn afresh each time a sequence is used, not once for all epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spacy_bert.wordpiece import WordPiece

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How many pieces are predicted, and what the network sees in their place.

    Attributes:
        share: Share of the ordinary pieces that are predicted.
        mask: Share of these that become [MASK].
        random: Share of these that become a random piece; the rest stay as they are.
    """

    share: float = 0.15
    mask: float = 0.8
    random: float = 0.1

    def __post_init__(self) -> None:
        """Refuse shares that do not add up.

        Raises:
            ValueError: Names the field.
        """
        if not 0.0 < self.share < 1.0:
            raise ValueError(f"share must lie between 0 and 1, got {self.share}")
        for name in ("mask", "random"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        if self.mask + self.random > 1.0 + 1e-9:
            raise ValueError(f"mask and random add up to {self.mask + self.random}, more than 1")


class Masked(NamedTuple):
    """Pieces with some of them hidden.

    Attributes:
        pieces: What the network sees, (pieces,) int64.
        positions: Which pieces it must predict, ascending, (masked,) int64.
        targets: What stood there, (masked,) int64.
    """

    pieces: IntArray
    positions: IntArray
    targets: IntArray


class Masker:
    """Draws masks for one vocabulary."""

    def __init__(self, masking: Masking, wordpiece: WordPiece) -> None:
        self._masking = masking
        self._mask_id = wordpiece.mask_id
        # A random piece is never [CLS] or the like, which would break the sequence's form.
        self._ordinary = np.setdiff1d(np.arange(len(wordpiece)), wordpiece.special_ids)

    def __call__(self, pieces: IntArray, maskable: IntArray, rng: np.random.Generator) -> Masked:
        """Mask pieces of a batch.

        The share is met exactly over the batch (at least one piece), and so are the three kinds.

        Args:
            pieces: Ids of the batch, (pieces,) int64; left as they are.
            maskable: Positions of the ordinary pieces, i.e. not [CLS] or [SEP], (ordinary,).
            rng: All chance comes from here.
        """
        count = max(1, round(self._masking.share * len(maskable)))
        chosen = rng.choice(maskable, count, replace=False)  # in random order
        masked_end = round(self._masking.mask * count)
        random_end = round((self._masking.mask + self._masking.random) * count)
        seen = pieces.copy()
        seen[chosen[:masked_end]] = self._mask_id
        seen[chosen[masked_end:random_end]] = rng.choice(self._ordinary, random_end - masked_end)
        positions = np.sort(chosen)
        return Masked(seen, positions, pieces[positions])
