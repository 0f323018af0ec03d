"""`spacy_bert.trace`: what BERT makes of Docs, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import overload

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Span

from spacy_bert.analysis.alignment import overlaps
from spacy_bert.analysis.inside import find_shim, find_stock
from spacy_bert.analysis.passes import PIECES, look
from spacy_bert.analysis.stock_trace import trace_stock
from spacy_bert.analysis.trace import Computed, Reading, Trace
from spacy_bert.models.encoder import EncoderShim
from spacy_bert.models.layout import DocLayout


class Traces(Sequence[Trace]):
    """The traces of several Docs, computed in batches as they are asked for.

    Only the batch that was last computed is kept: going through them in order costs one pass, and
    memory does not grow with their number. Whoever keeps a `Trace` keeps what it has computed.

    Args:
        docs: The Docs.
        make: Gives the traces of some Docs, by their numbers, from one batch.
        batches: The numbers of the Docs of each batch.
    """

    def __init__(
        self,
        docs: Sequence[Doc],
        make: Callable[[range], list[Trace]],
        batches: Sequence[range],
    ) -> None:
        self.docs = docs
        self._make, self._batches = make, batches
        self._starts = np.array([batch.start for batch in batches])
        self._last: tuple[int, list[Trace]] | None = None

    def __len__(self) -> int:
        """How many Docs there are."""
        return len(self.docs)

    @overload
    def __getitem__(self, index: int) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trace]: ...
    def __getitem__(self, index: int | slice) -> Trace | list[Trace]:
        """The trace of a Doc, or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        number = range(len(self))[index]
        batch = int(np.searchsorted(self._starts, number, side="right")) - 1
        if self._last is None or self._last[0] != batch:
            self._last = batch, self._make(self._batches[batch])
        return self._last[1][number - self._batches[batch].start]

    def __iter__(self) -> Iterator[Trace]:
        """In order."""
        return (self[i] for i in range(len(self)))


@overload
def trace(  # type: ignore[overload-overlap]
    nlp: Language, docs: Doc | str, *, component: str | None = None
) -> Trace: ...
@overload
def trace(nlp: Language, docs: Iterable[Doc | str], *, component: str | None = None) -> Traces: ...
def trace(
    nlp: Language, docs: Doc | str | Iterable[Doc | str], *, component: str | None = None
) -> Trace | Traces:
    """What BERT makes of a Doc or of several: hidden states of all layers, attention of all heads.

    Nothing is computed before it is asked for, and attention only if it is. The Docs stay as they
    are; texts are tokenized by the pipeline.

    Args:
        nlp: A pipeline with the component "bert", or with another that has an encoder; of a
            `transformer` of spacy-transformers' with any model, hidden states alone are to be had.
        docs: A Doc or a text, or several.
        component: Name of the component whose encoder is meant, if there are several.

    Returns:
        A `Trace`, or of several Docs a sequence of them.

    Raises:
        ValueError: If the pipeline has no encoder, or a Doc has no tokens.
        TypeError: If something else is given than Docs and texts.

    Example:
        >>> trace = spacy_bert.trace(nlp, "Time flies like an arrow.")  # doctest: +SKIP
        >>> trace.hidden.shape, trace.tokens().attention[7, 3]  # doctest: +SKIP
    """
    single = isinstance(docs, (Doc, str))
    if isinstance(docs, Span) or not isinstance(docs, (str, Iterable)):
        raise TypeError(
            f"give a Doc, a text, or several of them, not a {type(docs).__name__}; of a span, "
            "trace(nlp, span.as_doc()), or trace(nlp, doc)[span] with all of its Doc around it"
        )
    several: Iterable[Doc | str] = [docs] if isinstance(docs, (Doc, str)) else docs
    made = [nlp.make_doc(doc) if isinstance(doc, str) else doc for doc in several]
    for number, doc in enumerate(made):
        if not len(doc):
            where = "the Doc" if single else f"Doc {number}"
            raise ValueError(f"{where} has no tokens: there is nothing to trace")
    stock = find_stock(nlp, component)
    if stock is not None:
        make = partial(trace_stock, stock, made)
        traces = Traces(made, make, _batches([len(doc) for doc in made]))
    else:
        shim = find_shim(nlp, component)
        layouts = [layout for layout in shim.lay_out(made) if layout is not None]
        batches = _batches([len(layout.pieces) for layout in layouts])
        traces = Traces(made, partial(_trace_batch, shim, made, layouts), batches)
    return traces[0] if single else traces


def _batches(sizes: Sequence[int]) -> list[range]:
    """Neighbours of together at most so many pieces, or one alone."""
    batches, first, total = [], 0, 0
    for number, size in enumerate(sizes):
        if number > first and total + size > PIECES:
            batches.append(range(first, number))
            first, total = number, 0
        total += size
    return [*batches, range(first, len(sizes))] if sizes else []


def _trace_batch(
    shim: EncoderShim, docs: Sequence[Doc], layouts: Sequence[DocLayout], batch: range
) -> list[Trace]:
    shared = _Batch(shim, [layouts[i] for i in batch])
    return [
        Trace(docs[i], read(docs[i], layouts[i], shim), partial(shared.compute, place))
        for place, i in enumerate(batch)
    ]


def read(doc: Doc, layout: DocLayout, shim: EncoderShim) -> Reading:
    """A layout as traces have it."""
    tokens = shim.wordpiece.tokens
    return Reading(
        pieces=[tokens[piece] for piece in layout.pieces.tolist()],
        lengths=layout.lengths,
        offsets=layout.offsets,
        segment_ids=layout.segment_ids,
        overlaps=np.stack(overlaps(doc, layout.offsets)),
        align_pieces=layout.align_pieces,
        align_lengths=layout.align_lengths,
    )


class _Batch:
    """Docs that are computed together; what one has taken is let go."""

    def __init__(self, shim: EncoderShim, layouts: Sequence[DocLayout]) -> None:
        self._shim, self._layouts = shim, layouts
        self._waiting: dict[bool, dict[int, Computed]] = {}

    def compute(self, place: int, attention: bool) -> Computed:
        """Hidden states of a Doc, and its attention if it is wanted."""
        waiting = self._waiting.setdefault(attention, {})
        if place not in waiting:  # first asked, or asked again for what was let go
            seen = look(self._shim, self._layouts, attention=attention)
            for number, one in enumerate(seen):
                maps = one.attention
                arrays = None if maps is None else [weights.numpy() for weights in maps]
                waiting[number] = one.hidden.numpy(), arrays
        return waiting.pop(place)
