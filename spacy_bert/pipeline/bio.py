"""BIO tags as class numbers: 0 is O, and label k has 2k + 1 (B) and 2k + 2 (I)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from spacy.attrs import ENT_IOB, ENT_TYPE
from spacy.strings import get_string_id
from spacy.tokens import Doc

MISSING = -1
_INSIDE, _OUTSIDE = 1, 2  # as spaCy numbers `token.ent_iob`; 3 is the beginning


def number_of_tags(labels: Sequence[str]) -> int:
    """O, and B and I of each label."""
    return 1 + 2 * len(labels)


def tag_names(labels: Sequence[str]) -> list[str]:
    """The tags in the order of their class numbers: O, B-PERSON, I-PERSON ..."""
    return ["O", *(f"{action}-{label}" for label in labels for action in "BI")]


def find_tags(names: Sequence[str]) -> tuple[list[str], list[int | None]]:
    """Entity labels that the tags of another model name, and where our tags stand among them.

    Of a label a B or an I may be missing, as in IOB1, where a B is rare, and in IO.

    Args:
        names: tags in any order, "O" among them.

    Returns:
        The labels in the order of their first tag; and for each of our class numbers the index of
        its tag, None if it is missing.

    Raises:
        ValueError: if there is no O, or a tag is of another scheme.
    """
    entities = [name for name in names if name != "O"]
    foreign = [name for name in entities if name[:2] not in ("B-", "I-") or not name[2:]]
    if foreign or not entities or len(entities) == len(names):
        wrong = f"{foreign[0]!r} is another" if foreign else f"there are only {', '.join(names)}"
        raise ValueError(f"tags must be O, B-LABEL and I-LABEL (the scheme BIO); {wrong}")
    labels = list(dict.fromkeys(name[2:] for name in entities))
    places = {name: index for index, name in enumerate(names)}
    return labels, [places.get(name) for name in tag_names(labels)]


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


def frequencies(docs: Iterable[Doc], labels: Sequence[str]) -> np.ndarray:
    """The share of each tag among the annotated tokens, (tags,); one token more of each is counted.

    Args:
        docs: gold entities; those of other labels are not counted.
        labels: the labels.
    """
    kinds = {get_string_id(label): k for k, label in enumerate(labels)}
    counts = np.ones(number_of_tags(labels), dtype="f")
    for doc in docs:
        for action, kind in doc.to_array([ENT_IOB, ENT_TYPE]).tolist():
            if action == _OUTSIDE:
                counts[0] += 1
            elif kind in kinds:
                counts[2 * kinds[kind] + (2 if action == _INSIDE else 1)] += 1
    shares: np.ndarray = counts / counts.sum()
    return shares


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
