"""From pieces to larger units: spaCy's tokens, segments, special pieces."""

from __future__ import annotations

import numpy as np
from spacy.attrs import IDX, LENGTH
from spacy.tokens import Doc

from spacy_bert.bert import ranges


def overlaps(doc: Doc, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of a piece and a token that share characters: (pairs,) pieces and (pairs,) tokens.

    Args:
        doc: The Doc.
        offsets: Characters of each piece in it, (pieces, 2); -1 for special pieces.
    """
    chars = doc.to_array([IDX, LENGTH]).astype(np.int64).reshape(-1, 2)
    first = np.searchsorted(chars.sum(axis=1), offsets[:, 0], side="right")
    behind = np.searchsorted(chars[:, 0], offsets[:, 1], side="left")
    counts = np.where(offsets[:, 0] < 0, 0, np.maximum(behind - first, 0))
    return np.repeat(np.arange(len(offsets)), counts), ranges(first, counts)


def merge_attention(weights: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Attention among units: summed over the pieces attended to, averaged over those attending.

    Clark et al. 2019, section 4.1. What goes to a piece of several units is shared out among them,
    so that rows still sum to 1 where each piece is of some unit. A unit without pieces has a row
    and a column of zeros.

    Args:
        weights: (..., pieces, pieces).
        members: Which units each piece belongs to, (pieces, units) bool.

    Returns:
        (..., units, units).
    """
    of = members.astype(weights.dtype)
    to = of / np.maximum(of.sum(axis=1, keepdims=True), 1.0)
    return np.asarray(_mean(of) @ (weights @ to))


def average_rows(rows: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The mean vector of each unit's pieces, zeros without any.

    Args:
        rows: (..., pieces, width).
        members: (pieces, units) bool.

    Returns:
        (..., units, width).
    """
    return np.asarray(_mean(members.astype(rows.dtype)) @ rows)


def _mean(of: np.ndarray) -> np.ndarray:
    """(pieces, units) of 0 and 1 -> the share of each piece in each unit, (units, pieces)."""
    return np.asarray((of / np.maximum(of.sum(axis=0), 1.0)).T)
