"""BIO tags as class numbers: 0 is O, and label k has 2k + 1 (B) and 2k + 2 (I)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MISSING = -1


def number_of_tags(labels: Sequence[str]) -> int:
    """O, and B and I of each label."""
    return 1 + 2 * len(labels)


def encode(biluo: Sequence[str | None], labels: Sequence[str]) -> np.ndarray:
    """BILUO tags, as spaCy aligns them, to class numbers, (tokens,); `MISSING` where unknown.

    Raises:
        ValueError: if a label is not among the labels.
    """
    numbers = {"O": 0, None: MISSING, "-": MISSING, "": MISSING}
    for k, label in enumerate(labels):
        numbers.update({f"{action}-{label}": 2 * k + 1 for action in "BU"})
        numbers.update({f"{action}-{label}": 2 * k + 2 for action in "IL"})
    unknown = [tag for tag in biluo if tag not in numbers]
    if unknown:
        raise ValueError(
            f"entity label {str(unknown[0])[2:]!r} is not among the labels "
            f"({', '.join(labels)}): add it with add_label, or initialize with data that has it"
        )
    return np.fromiter((numbers[tag] for tag in biluo), np.int64, len(biluo))


def decode(tags: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entities that tags spell, read as leniently as conlleval does.

    An entity begins at a B, and at an I that does not follow a tag of its label.

    Args:
        tags: class numbers of several sequences end to end, (tokens,).
        starts: True at the first token of each sequence, (tokens,).

    Returns:
        First token, last token and label's number of each entity, (entities,) each.
    """
    kinds = (tags + 1) // 2 - 1
    before = np.concatenate([[-1], kinds[:-1]])
    before[starts] = -1
    begins = (kinds >= 0) & ((tags % 2 == 1) | (kinds != before))
    first = np.flatnonzero(begins)
    borders = np.append(np.flatnonzero(begins | (kinds < 0) | starts), len(tags))
    last = borders[np.searchsorted(borders, first, side="right")] - 1
    return first, last, kinds[first]
