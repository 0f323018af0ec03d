"""The head of extractive question answering: where does the answer start, where does it end?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from spacy.tokens import Doc
from thinc.api import Model

from spacy_bert.models.heads import build_head
from spacy_bert.models.windows import Windows

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are
SpanQA: TypeAlias = Model[list[Doc], list[Windows]]


def build_span_qa(tok2vec: SpanQA) -> SpanQA:
    """The architecture `spacy_bert.SpanQA.v1`: two logits of each piece of each window.

    The first says how well an answer starts there, the second how well one ends there (Devlin et
    al. 2018, section 4.2). There is no dropout between encoder and head, as in the paper's code.

    Args:
        tok2vec: gives the vectors of all pieces (`spacy_bert.PieceListener.v1`); named as
            `nlp.replace_listeners` expects it.
    """
    head = build_head(2, pooler=False, dropout=False)
    return Model(
        "span_qa",
        forward,
        init=init,
        layers=[tok2vec, head],
        refs={"tok2vec": tok2vec, "head": head},
    )


def init(model: SpanQA, X: list[Doc] | None = None, Y: object = None) -> None:
    """Draw the head's weights, for the width of the encoder."""
    tok2vec, head = model.layers
    tok2vec.initialize(X=X)
    if X is not None:
        vectors = [windows.rows for windows in tok2vec.predict(X)]
        head.initialize(X=model.ops.xp.concatenate(vectors))


def forward(
    model: SpanQA, docs: list[Doc], is_train: bool
) -> tuple[list[Windows], Callable[[list[Array]], list[Doc]]]:
    """Docs -> windows with logits, (pieces, 2) each; the gradients of those backward."""
    tok2vec, head = model.layers
    windows, backprop_tok2vec = tok2vec(docs, is_train)
    rows = [w.rows for w in windows]
    vectors = rows[0] if len(rows) == 1 else model.ops.xp.concatenate(rows)
    logits, backprop_head = head(vectors, is_train)
    sizes = model.ops.asarray1i([len(w.rows) for w in windows])

    def backprop(gradients: list[Array]) -> list[Doc]:
        d_vectors = backprop_head(model.ops.xp.concatenate(gradients))
        found: list[Doc] = backprop_tok2vec(model.ops.unflatten(d_vectors, sizes))
        return found

    with_logits = [
        dataclasses.replace(w, rows=rows)
        for w, rows in zip(windows, model.ops.unflatten(logits, sizes), strict=True)
    ]
    return with_logits, backprop
