"""How BERT reads a query beside a passage, and what it needs the markers for (Qiao et al. 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch

from spacy_bert.analysis.decisions import BATCH, decisions_of
from spacy_bert.analysis.task_head import TaskHead
from spacy_bert.analysis.trace import Trace
from spacy_bert.analysis.tracing import trace
from spacy_bert.models.intervention import Intervention, Layouts
from spacy_bert.models.layout import DocLayout
from spacy_bert.models.segments import SEPARATOR
from spacy_bert.pipeline.textcat import BertTextCategorizer

PARTS = ("[CLS]", "query", "passage", "[SEP]")
Marker = Literal["[CLS]", "[SEP]"]
Progress = Callable[[int], object]


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentAttention:
    """Where the parts of a pair of segments attend to.

    Attributes:
        mass: Of each layer, how much of its attention a piece of one part gives to all pieces of
            another, the mean over heads, pieces of the part and windows; (layers, 4, 4) float64,
            row attends to column, in the order of `PARTS`. Rows sum to 1.
        even: The same if attention were spread evenly over the pieces, (4,) float64: what a column
            is to be compared with.
        windows: How many windows there were.
    """

    mass: np.ndarray
    even: np.ndarray
    windows: int


@dataclass(frozen=True, kw_only=True, eq=False)
class MarkerRemoval:
    """What becomes of decisions without a marker in the input.

    Attributes:
        marker: What was taken out, "[CLS]" or "[SEP]"; what stood behind it moves up.
        log_likelihoods: Of the decisions with all markers, (Docs,) float64, in nats.
        drops: By how much they fall without it, (Docs,) float64.
        changed: Whether another decision is made, (Docs,) bool; of real values, always False.
    """

    marker: str
    log_likelihoods: np.ndarray
    drops: np.ndarray
    changed: np.ndarray


def segment_attention(
    nlp: Language,
    docs: Iterable[Doc],
    component: str | None = None,
    *,
    progress: Progress = lambda more: None,
) -> SegmentAttention:
    """Attention between [CLS], query, passage and [SEP] by layer (Qiao et al. 2019).

    Args:
        nlp: The pipeline.
        docs: Pairs, `spacy_bert.join(nlp, query, passage)`; of several passages, each is read with
            the query. Other Docs are left out, and windows in which a part is empty.
        component: Of the encoder that is meant; None for the only one.
        progress: Called with the number of Docs that were done.

    Raises:
        ValueError: If there is no such encoder, or no pair.
    """
    mass: np.ndarray | None = None
    even, windows = np.zeros(len(PARTS)), 0
    for batch in minibatch(docs, BATCH):
        pairs = [doc for doc in batch if SEPARATOR in doc.text]
        for one in trace(nlp, pairs, component=component):
            for weights, members in _windows(one):
                means = members / members.sum(axis=0)
                given = means.T @ weights.mean(axis=1) @ members
                mass = given if mass is None else mass + given
                even += members.sum(axis=0) / len(members)
                windows += 1
        progress(len(batch))
    if mass is None:
        raise ValueError(
            "no Doc is a pair of query and passage: make them with "
            "spacy_bert.join(nlp, query, passage)"
        )
    return SegmentAttention(mass=mass / windows, even=even / windows, windows=windows)


def remove_marker(
    nlp: Language,
    docs: Iterable[Doc | Example],
    marker: Marker,
    component: str | None = None,
    *,
    progress: Progress = lambda more: None,
) -> MarkerRemoval:
    """Take every [SEP], or every [CLS], out of what the network reads, and decide again.

    A head that reads [CLS] reads the first piece there is. Segment ids stay.

    Args:
        nlp: The pipeline.
        docs: Docs, whose decision is the component's own, or examples, whose decision is the gold
            one; those without tokens or gold standard are left out.
        marker: "[CLS]" or "[SEP]".
        component: Its name; None for the only one.
        progress: Called with the number of Docs that were done.

    Raises:
        ValueError: If there is no such component or marker, or nothing to decide.
    """
    if marker not in get_args(Marker):
        raise ValueError(f'marker must be "[CLS]" or "[SEP]", got {marker!r}')
    head = TaskHead.find(nlp, component)
    decisions = decisions_of(head)
    real = isinstance(head.pipe, BertTextCategorizer) and head.pipe.mode == "regression"
    wordpiece = head.shim.wordpiece
    without = _without(wordpiece.cls_id if marker == "[CLS]" else wordpiece.sep_id)
    likelihoods: list[float] = []
    drops: list[float] = []
    changed: list[bool] = []
    for batch in minibatch(docs, BATCH):
        read = [each for each in batch if len(_doc(each))]
        own = [_doc(each) for each in read]
        before = head.outputs(own, head.encode(own)) if own else []
        after = head.outputs(own, head.encode(own, without)) if own else []
        for each, doc, old, new in zip(read, own, before, after, strict=True):
            said = decisions.own(doc, old)
            decision = decisions.gold(each) if isinstance(each, Example) else said
            if decision is None:
                continue
            likelihoods.append(decisions.log_likelihood(old, decision))
            drops.append(likelihoods[-1] - decisions.log_likelihood(new, decision))
            changed.append(not real and decisions.own(doc, new) != said)
        progress(len(batch))
    if not drops:
        raise ValueError(f"the data hold no Doc about which {head.name!r} could decide")
    return MarkerRemoval(
        marker=marker,
        log_likelihoods=np.array(likelihoods),
        drops=np.array(drops),
        changed=np.array(changed),
    )


def _doc(each: Doc | Example) -> Doc:
    return each.predicted if isinstance(each, Example) else each


def _windows(one: Trace) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Of each window with all parts its attention, and the parts of its pieces, (pieces, 4)."""
    kinds = one.reading.segment_ids.copy() + 1
    special = one.special
    kinds[special] = [3 if one.pieces[place] == "[SEP]" else 0 for place in special.tolist()]
    members = np.eye(len(PARTS))[kinds]
    borders = np.cumsum(one.reading.lengths)[:-1]
    for weights, own in zip(one.attentions, np.split(members, borders), strict=True):
        if own.any(axis=0).all():
            yield weights, own


def _without(marker: int) -> Intervention:
    """The network reads no such piece."""

    def read(layouts: Layouts) -> list[DocLayout | None]:
        return [None if layout is None else _strip(layout, marker) for layout in layouts]

    return Intervention(read=read)


def _strip(layout: DocLayout, marker: int) -> DocLayout:
    """A layout without one kind of special piece."""
    stays = (layout.pieces != marker) | (layout.offsets[:, 0] >= 0)
    window = np.repeat(np.arange(len(layout.lengths)), layout.lengths)
    lengths: Sequence[int] = np.bincount(window[stays], minlength=len(layout.lengths)).tolist()
    places = np.cumsum(stays) - 1
    return dataclasses.replace(
        layout,
        pieces=layout.pieces[stays],
        segment_ids=layout.segment_ids[stays],
        offsets=layout.offsets[stays],
        lengths=tuple(lengths),
        align_pieces=places[layout.align_pieces].astype(np.int32),
    )
