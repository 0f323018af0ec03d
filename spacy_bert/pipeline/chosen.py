"""Choices as they stand on a Doc: what was chosen (`doc._.choice`), and what is right (`doc.cats`).

The Doc keeps plain numbers in `doc.user_data`, so that they survive bytes, DocBins with user data,
copies and processes.
"""

from __future__ import annotations

from collections.abc import Sequence

from spacy.tokens import Doc

from spacy_bert.models.segments import SEPARATOR

KEY = "spacy_bert.choice_scores"


def choice(doc: Doc) -> int | None:
    """Index of the best choice, as `doc._.choice`; None if no component has chosen."""
    scores = choice_scores(doc)
    return scores.index(max(scores)) if scores else None


def choice_scores(doc: Doc) -> list[float]:
    """Probability of each choice, as `doc._.choice_scores`; none if no component has chosen."""
    return list(doc.user_data.get(KEY, ()))


def install_choice() -> None:
    """Register `doc._.choice` and `doc._.choice_scores` (getters: for Docs read from disk too)."""
    for name, getter in (("choice", choice), ("choice_scores", choice_scores)):
        if not Doc.has_extension(name):
            Doc.set_extension(name, getter=getter)


def set_choice(doc: Doc, probabilities: Sequence[float]) -> None:
    """Keep the probability of each choice on the Doc."""
    doc.user_data[KEY] = list(probabilities)


def count_choices(doc: Doc) -> int:
    """How many segments stand behind the first one, the context."""
    return doc.text.count(SEPARATOR)


def require_choices(doc: Doc) -> None:
    """Refuse a Doc that has nothing to choose from.

    Raises:
        ValueError: if it has one segment.
    """
    if not count_choices(doc):
        raise ValueError(
            f"no choices: the Doc {doc.text[:40]!r} has one segment; use "
            "spacy_bert.join(nlp, context, choice, choice, ...)"
        )


def gold_choice(doc: Doc, choices: int) -> int | None:
    """Index of the right choice: that of `doc.cats` whose value is 1.0; None if there are no cats.

    Args:
        doc: the gold Doc.
        choices: how many choices it has.

    Raises:
        ValueError: if the annotation does not say which of two or more choices is right.
    """
    if not doc.cats:
        return None
    where = f"the Doc {doc.text[:40]!r}"
    if choices < 2:
        raise ValueError(
            f"{where} has doc.cats but {choices} of the two choices or more that learning needs: "
            "use spacy_bert.join(nlp, context, choice, choice, ...), or leave doc.cats empty"
        )
    known = {str(index): index for index in range(choices)}
    unknown = [label for label in doc.cats if label not in known]
    if unknown:
        raise ValueError(
            f"{where} has {choices} choices, but doc.cats names {unknown[0]!r}: its keys are the "
            f'indices of the choices, "0" to "{choices - 1}"'
        )
    right = [label for label, value in doc.cats.items() if value == 1.0]
    if len(right) != 1:
        raise ValueError(
            f"{where} has {len(right)} right choices in doc.cats ({', '.join(right) or 'none'}): "
            "give the value 1.0 to one, or leave doc.cats empty"
        )
    return known[right[0]]
