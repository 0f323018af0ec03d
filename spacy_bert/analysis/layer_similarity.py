"""How alike the layers of pipelines are, on the tokens of the same Docs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.analysis.similarity import MinibatchCKA
from spacy_bert.analysis.tracing import trace

TOKENS = 1024  # in a batch: the estimate grows steadier with it, its cost with the square


def layer_similarity(
    nlp: Language,
    docs: Sequence[Doc],
    other: Language | None = None,
    *,
    tokens: int = TOKENS,
    component: str | None = None,
    other_component: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """Linear CKA of every layer with every layer, of one encoder or of two.

    The vectors are those of spaCy's tokens, so that the encoders may have different vocabularies,
    depths and widths, and one may be any that stands behind spacy-transformers.

    Args:
        nlp: A pipeline with an encoder.
        docs: What both read.
        other: A second pipeline; None compares the layers of the first with each other.
        tokens: In a batch, at least four; what is left over of the Docs' tokens is not used.
        component: Name of the component whose encoder is meant, if there are several.
        other_component: Likewise of the second pipeline.
        progress: Called with 1 for each Doc that was read.

    Returns:
        (layers of the first, layers of the second), the embeddings as layer 0.

    Raises:
        ValueError: If the Docs have fewer tokens than a batch.
    """
    similarity = MinibatchCKA()
    first = _batches(nlp, docs, tokens, component, progress)
    if other is None:
        for one in first:
            similarity.add(one)
    else:
        second = _batches(other, docs, tokens, other_component, lambda _: None)
        for one, two in zip(first, second, strict=True):
            similarity.add(one, two)
    if not similarity.batches:
        total = sum(len(doc) for doc in docs)
        raise ValueError(f"the Docs have {total:,} tokens, a batch {tokens:,}: take more, or less")
    return similarity.result()


def _batches(
    nlp: Language,
    docs: Sequence[Doc],
    tokens: int,
    component: str | None,
    progress: Callable[[int], object],
) -> Iterator[list[np.ndarray]]:
    """The vectors of so many tokens in each layer, (tokens, width), white space left out."""
    waiting: list[np.ndarray] = []
    count = 0
    for own in trace(nlp, docs, component=component):
        words = [token.i for token in own.doc if not token.is_space]
        waiting.append(own.tokens().hidden[:, words])
        count += len(words)
        progress(1)
        while count >= tokens:
            joined = np.concatenate(waiting, axis=1)
            yield list(joined[:, :tokens])
            waiting, count = [joined[:, tokens:]], count - tokens
