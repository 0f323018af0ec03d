"""The score of multiple choice: how often the best choice is the right one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from spacy.training import Example

from spacy_bert.pipeline.chosen import choice, count_choices, gold_choice


def build_choice_scorer() -> Callable[..., dict[str, Any]]:
    """The scorer `spacy_bert.choice_scorer.v1`: accuracy of `doc._.choice`."""
    return score_choices


def score_choices(examples: Iterable[Example], **_: Any) -> dict[str, float | None]:
    """Score the best choices, from 0 to 1.

    Args:
        examples: predictions and gold standard; a Doc whose reference has no `doc.cats` is not
            annotated and does not count.

    Returns:
        `choice_acc`, the share of Docs whose best choice is the right one; None if none counts.

    Raises:
        ValueError: if a gold annotation does not name one of the choices.
    """
    hits = []
    for example in examples:
        gold = gold_choice(example.reference, count_choices(example.reference))
        if gold is not None:
            hits.append(choice(example.predicted) == gold)
    return {"choice_acc": sum(hits) / len(hits) if hits else None}
