"""What `ask`, `choose` and training need, and Docs that a component has nothing to do with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

from spacy.language import Language
from spacy.pipeline.pipe import Pipe
from spacy.tokens import Doc
from spacy.training import Example

PLACEHOLDER = ["x", "y", "z"]  # words of the Doc that spaCy makes up


def require_pipeline(nlp: object, kind: type[Pipe], factory: str, call: str) -> None:
    """Refuse what is no pipeline with a component of a kind.

    Args:
        nlp: what was given as the pipeline.
        kind: class of the component.
        factory: its name.
        call: how the function is called.

    Raises:
        TypeError: if it is no pipeline.
        ValueError: if the component is missing or disabled.
    """
    if not isinstance(nlp, Language):
        raise TypeError(f"the first argument is the pipeline: {call}, got a {type(nlp).__name__}")
    if any(isinstance(component, kind) for _, component in nlp.pipeline):
        return
    has = ", ".join(nlp.pipe_names) or "none"
    raise ValueError(
        f'the pipeline has no component "{factory}", which {call} needs (it has {has}): '
        "add one and train it, or enable it"
    )


def require_text(text: object, name: str, call: str) -> None:
    """Refuse what is no text, or says nothing.

    Raises:
        TypeError: if it is no string.
        ValueError: if it is empty or white space.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text: {call}, got a {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"{name} is empty: {call}")


def warn_of_plain_text(component: str, lacks: str, call: str) -> None:
    """Say, once in a process, that a Doc of one segment is passed over.

    It is no error: components with other tasks may share the pipeline, and its data.
    """
    warnings.warn(
        f"[components.{component}] passes over Docs without {lacks}: if they should have some, "
        f"make them by spacy_bert.{call}",
        stacklevel=3,
    )


def require_gold(
    examples: Iterable[Example], is_gold: Callable[[Doc], bool], component: str, mend: str
) -> None:
    """Refuse training data of which a component could learn nothing.

    The one Doc "x y z" that `nlp.initialize()` makes up where it is given no data passes.

    Args:
        examples: the training data.
        is_gold: whether a Doc is annotated for the component.
        component: its name.
        mend: what is missing, and how to get it.

    Raises:
        ValueError: if no Doc is annotated.
    """
    texts = []
    for example in examples:
        if is_gold(example.reference):
            return
        texts.append(example.reference.text)
    if [text.split() for text in texts] != [PLACEHOLDER]:
        raise ValueError(f"[components.{component}] there is nothing to learn: {mend}")
