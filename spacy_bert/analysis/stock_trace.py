"""Hidden states of any model behind spacy-transformers' `transformer` (GPT-2, RoBERTa ...)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from spacy.tokens import Doc
from spacy_transformers import Transformer
from spacy_transformers.data_classes import TransformerData
from thinc.api import to_numpy

from spacy_bert.analysis.trace import Computed, Reading, Trace


def trace_stock(transformer: Transformer, docs: Sequence[Doc], batch: range) -> list[Trace]:
    """The traces of some Docs by a stock transformer: hidden states alone.

    A token's pieces are those that spacy-transformers aligns with it, in the first of the spans
    that have it.

    Raises:
        ValueError: If the model does not tell its hidden states.
    """
    own = [docs[i] for i in batch]
    with _telling(transformer):
        output = transformer.model.predict(own)
    traces = []
    for doc, data in zip(own, output.doc_data, strict=True):
        states = data.model_output.get("hidden_states")
        if states is None:
            raise ValueError(
                f"the model of the component {transformer.name!r} gives no hidden states"
            )
        lengths = [int(row.sum()) for row in data.wordpieces.attention_mask]
        rows = np.stack([_unpad(to_numpy(state), lengths) for state in states])
        traces.append(Trace(doc, _read(doc, data, lengths), partial(_as_they_are, rows)))
    return traces


@contextlib.contextmanager
def _telling(transformer: Transformer) -> Iterator[None]:
    """Let the model give the hidden states of all layers."""
    config: Any = transformer.model.transformer.config
    before = config.output_hidden_states
    config.output_hidden_states = True
    try:
        yield
    finally:
        config.output_hidden_states = before


def _unpad(rows: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """(spans, longest, width) -> (pieces, width) float32."""
    parts = [row[:length] for row, length in zip(rows, lengths, strict=True)]
    return np.concatenate(parts).astype(np.float32)


def _as_they_are(rows: np.ndarray, attention: bool) -> Computed:
    return rows, None


def _read(doc: Doc, data: TransformerData, lengths: Sequence[int]) -> Reading:
    """The pieces, whose characters are not known: a piece has those of its token."""
    longest = data.wordpieces.input_ids.shape[1]
    starts = np.cumsum(lengths) - lengths
    counts = to_numpy(data.align.lengths)
    padded = to_numpy(data.align.dataXd).reshape(-1)
    flat = starts[padded // longest] + padded % longest
    tokens = np.repeat(np.arange(len(doc)), counts)
    window = np.searchsorted(np.cumsum(lengths), flat, side="right")
    home = np.full(len(doc), len(lengths))
    np.minimum.at(home, tokens, window)
    kept = window == home[tokens]
    offsets = np.full((int(sum(lengths)), 2), -1)
    chars = np.array([(token.idx, token.idx + len(token)) for token in doc]).reshape(-1, 2)
    offsets[flat] = chars[tokens]
    pieces = [
        piece
        for row, length in zip(data.wordpieces.strings, lengths, strict=True)
        for piece in row[:length]
    ]
    return Reading(
        pieces=pieces,
        lengths=tuple(lengths),
        offsets=offsets,
        overlaps=np.stack([flat, tokens]),
        segment_ids=np.zeros(len(pieces), dtype=np.int64),
        align_pieces=flat[kept],
        align_lengths=np.bincount(tokens[kept], minlength=len(doc)),
    )
