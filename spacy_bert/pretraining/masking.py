"""Masks for the masked language model (Devlin et al. 2018, section 3.1 and appendix A.1).

They are dynamic: drawn afresh each time a sequence is used, not once for all epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from spacy_bert.wordpiece import WordPiece

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

Unit = Literal["piece", "word", "span"]

_SPAN_STOP = 0.2  # SpanBERT (Joshi et al. 2020, section 3.1): lengths of spans are geometric
_SPAN_WORDS = 10  # and at most so many words


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How many pieces are predicted, and what the network sees in their place.

    Attributes:
        share: Share of the ordinary pieces that are predicted.
        mask: Share of these that become [MASK].
        random: Share of these that become a random piece; the rest stay as they are.
        unit: What is chosen together: a `piece` (the paper), all pieces of a `word` (Google's later
            "whole word masking"), or of a `span` of words (SpanBERT), which also share their fate.
    """

    share: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    unit: Unit = "piece"

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
        if self.unit not in get_args(Unit):
            raise ValueError(f"unit must be one of {', '.join(get_args(Unit))}, got {self.unit!r}")


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
        self._continues = np.array([token.startswith("##") for token in wordpiece.tokens])

    def __call__(
        self,
        pieces: IntArray,
        maskable: IntArray,
        rng: np.random.Generator,
        *,
        count: int | None = None,
    ) -> Masked:
        """Mask pieces of a batch.

        The number is met exactly over the batch (at least one piece), and so are the three kinds.

        Args:
            pieces: Ids of the batch, (pieces,) int64; left as they are.
            maskable: Positions of the ordinary pieces, i.e. not [CLS] or [SEP], ascending,
                (ordinary,).
            rng: All chance comes from here.
            count: How many pieces to predict; by default the share.
        """
        if count is None:
            count = round(self._masking.share * len(maskable))
        count = min(max(1, count), len(maskable))
        if self._masking.unit == "piece":
            chosen = rng.choice(maskable, count, replace=False)  # in random order
        else:
            chosen = self._choose_groups(pieces, maskable, count, rng)
            if self._masking.unit == "word":
                chosen = rng.permutation(chosen)
        masked_end = round(self._masking.mask * count)
        random_end = round((self._masking.mask + self._masking.random) * count)
        seen = pieces.copy()
        seen[chosen[:masked_end]] = self._mask_id
        seen[chosen[masked_end:random_end]] = rng.choice(self._ordinary, random_end - masked_end)
        positions = np.sort(chosen)
        return Masked(seen, positions, pieces[positions])

    def _choose_groups(
        self, pieces: IntArray, maskable: IntArray, count: int, rng: np.random.Generator
    ) -> IntArray:
        """`count` of the maskable positions, group by group in random order.

        Only what is needed to meet the number exactly is taken from the last group.
        """
        begins = ~self._continues[pieces[maskable]]
        begins[0] = True
        begins[1:] |= np.diff(maskable) != 1  # another segment
        if self._masking.unit == "span":
            begins = _spans(begins, np.diff(maskable, prepend=-1) != 1, rng)
        first = np.flatnonzero(begins)
        sizes = np.diff(first, append=len(maskable))
        order = rng.permutation(len(first))
        ends = np.cumsum(sizes[order])
        fitting = order[: int(np.searchsorted(ends, count)) + 1]
        starts, sizes = first[fitting], sizes[fitting]
        inside = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        chosen: IntArray = maskable[np.repeat(starts, sizes) + inside][:count]
        return chosen


def _spans(words: BoolArray, segments: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Where spans begin, (ordinary,): runs of words of geometric length inside a segment.

    Args:
        words: Where words begin, (ordinary,).
        segments: Where segments begin, (ordinary,).
        rng: All chance comes from here.
    """
    first = np.flatnonzero(words)
    begins = (rng.random(len(first)) < _SPAN_STOP) | segments[first]
    begins[0] = True
    # Cut the few spans that are too long: at every tenth word since the span began.
    numbers = np.arange(len(first))
    since = numbers - np.maximum.accumulate(np.where(begins, numbers, 0))
    begins |= since % _SPAN_WORDS == 0
    result: npt.NDArray[Any] = np.zeros_like(words)
    result[first[begins]] = True
    return result
