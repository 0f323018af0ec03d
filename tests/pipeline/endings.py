"""Pipelines that choose between endings, and gold choices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

import spacy_bert
from spacy_bert.pipeline.choice import BertChoice

# Contexts, choices and the right one; the same choices stand behind different contexts, so that
# none can be told without its context, nor from its place alone.
ENDINGS = [
    ("The quick brown fox", ["jumps over the lazy dog.", "keeps values in order."], 0),
    ("A list", ["jumps over the lazy dog.", "keeps values in order."], 1),
    ("Does it raise an error?", ["Far away.", "In Paris.", "Yes, it does."], 2),
    ("Where are plants?", ["Far away.", "Yes, it does.", "In Paris."], 2),
    ("Photosynthesis converts", ["a string.", "light.", "readers.", "dictionaries."], 1),
    ("", ["It isn't the dog.", ""], 0),
]


def choice_pipeline(
    checkpoint: Path, *, encoder: dict[str, Any] | None = None, **config: Any
) -> tuple[Language, BertChoice]:
    """A pipeline of `bert` and `bert_choice`, not initialized."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint), **(encoder or {})}})
    choice = nlp.add_pipe("bert_choice", config=config)
    assert isinstance(choice, BertChoice)
    return nlp, choice


def gold(nlp: Language, context: str, choices: list[str], right: int) -> Example:
    """An example with a gold choice."""
    doc = spacy_bert.join(nlp, context, *choices)
    doc.cats = {str(index): float(index == right) for index in range(len(choices))}
    return Example(nlp.make_doc(doc.text), doc)


def examples(nlp: Language) -> list[Example]:
    """`ENDINGS` with their gold choices."""
    return [gold(nlp, *row) for row in ENDINGS]


def docs(nlp: Language) -> list[Doc]:
    """`ENDINGS` without them."""
    return [spacy_bert.join(nlp, context, *choices) for context, choices, _ in ENDINGS]


def said(docs: list[Doc]) -> list[list[float]]:
    """The probabilities of the choices."""
    return [doc._.choice_scores for doc in docs]


def assert_close(ours: list[list[float]], theirs: list[list[float]]) -> None:
    """The same probabilities but for rounding."""
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
