"""The attention maps of all heads: which heads there are, and the maps of Doc after Doc."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.analysis.inside import find_shim
from spacy_bert.analysis.trace import Trace
from spacy_bert.analysis.tracing import Traces, trace

Progress = Callable[[int], object]


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowMaps:
    """The attention maps of one window of a Doc.

    Attributes:
        pieces: The pieces as text, [CLS] and [SEP] among them.
        special: Which of them are [CLS] or [SEP], (pieces,) bool.
        weights: (layers, heads, pieces, pieces) float32, row attends to column; zeros for pruned
            heads.
    """

    pieces: list[str]
    special: np.ndarray
    weights: np.ndarray

    def is_special(self, name: str) -> np.ndarray:
        """Which pieces are the special piece of this name, (pieces,) bool.

        A text may hold the same letters: those are no special piece.
        """
        named = [piece == name for piece in self.pieces]
        return np.asarray(named & self.special)


def kept_heads(nlp: Language, component: str | None = None) -> np.ndarray:
    """Which heads of the encoder are there still, (layers, heads) bool; False of pruned ones.

    Raises:
        ValueError: If there is no encoder of spacy_bert's, several and none is named, or no head
            is left.
    """
    config = find_shim(nlp, component).network.config
    kept = np.zeros((config.num_hidden_layers, config.num_attention_heads), dtype=bool)
    for layer, row in enumerate(kept):
        row[config.kept_heads(layer)] = True
    if not kept.any():
        raise ValueError("all heads of the encoder are pruned: there is none to look at")
    return kept


def head_name(layer: int, head: int) -> str:
    """Layer and head, both from 0, as Clark et al. (2019) write them: "7-10"."""
    return f"{layer}-{head}"


def without_pruned(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """A copy of figures of heads, NaN for pruned ones.

    Args:
        values: (layers, heads, ...).
        kept: (layers, heads) bool.
    """
    found = np.array(values, dtype=np.float64)
    found[~kept] = np.nan
    return found


def best_head(values: np.ndarray) -> tuple[int, ...]:
    """The place of the greatest figure that is no NaN, in an array of any shape."""
    place = np.unravel_index(int(np.nanargmax(values)), values.shape)
    return tuple(int(index) for index in place)


def trace_docs(nlp: Language, docs: Iterable[Doc], component: str | None) -> Traces:
    """The traces of Docs.

    Raises:
        ValueError: If there are none, or one cannot be traced.
    """
    traces = trace(nlp, docs, component=component)
    if not len(traces):
        raise ValueError("there are no Docs to look at: give at least one")
    return traces


def window_maps(traces: Iterable[Trace], progress: Progress | None = None) -> Iterator[WindowMaps]:
    """The maps of all windows, each window a text of its own.

    Args:
        traces: Of the Docs.
        progress: Called with 1 after each Doc.
    """
    for found in traces:
        special = found.reading.offsets[:, 0] < 0
        start = 0
        for weights in found.attentions:
            here = slice(start, start + weights.shape[-1])
            start = here.stop
            yield WindowMaps(pieces=found.pieces[here], special=special[here], weights=weights)
        if progress is not None:
            progress(1)


def halves(docs: Sequence[Doc]) -> np.ndarray:
    """0 and 1 in turn, (docs,): what is chosen on one half can be scored on the other."""
    return np.arange(len(docs)) % 2
