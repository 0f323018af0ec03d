"""Erasure: what a decision loses without a word, or without a dimension (Li et al. 2016)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch
from torch import Tensor

from spacy_bert.analysis.alignment import overlaps
from spacy_bert.analysis.decisions import BATCH, Decision, decisions_of
from spacy_bert.analysis.task_head import Output, TaskHead
from spacy_bert.bert import BertModel, PackedBatch
from spacy_bert.bert.edits import Edits
from spacy_bert.models.intervention import Intervention, Layouts
from spacy_bert.models.layout import DocLayout

How = Literal["mask", "zero"]
Progress = Callable[[int], object]

PIECES = 8192  # of the variants of a Doc that are run at once


@dataclass(frozen=True, kw_only=True, eq=False)
class WordErasure:
    """What a decision about one Doc loses without each of its words.

    Attributes:
        words: Of the Doc.
        decision: What was decided, in words: a label, an answer, the entities.
        log_likelihood: Of the decision when nothing is erased, in nats.
        drops: By how much it falls without each word, (tokens,) float64; NaN for what has no
            pieces, such as white space.
    """

    words: tuple[str, ...]
    decision: str
    log_likelihood: float
    drops: np.ndarray

    @property
    def relative(self) -> np.ndarray:
        """The drops by |S|, (tokens,); NaN where the log-likelihood S is 0 (`relative_drops`)."""
        return relative_drops(self.log_likelihood, self.drops)


@dataclass(frozen=True, kw_only=True, eq=False)
class DimensionErasure:
    """What decisions lose without single dimensions of a layer.

    Attributes:
        layer: 0 is the embeddings, n the output of the n-th layer.
        dimensions: Which ones were erased, (dimensions,) int64.
        log_likelihoods: Of the decisions when nothing is erased, (Docs,) float64, in nats.
        drops: The mean over Docs of how much they fall, (dimensions,) float64.
        relative: The mean over Docs of the drop by |S|, (dimensions,) float64; Docs whose
            log-likelihood S is 0 are left out.
    """

    layer: int
    dimensions: np.ndarray
    log_likelihoods: np.ndarray
    drops: np.ndarray
    relative: np.ndarray


def erase_words(
    nlp: Language,
    docs: Iterable[Doc | Example | str],
    component: str | None = None,
    *,
    how: How = "mask",
    progress: Progress = lambda more: None,
) -> Iterator[WordErasure]:
    """What the log-likelihood of a decision loses without each word of a Doc.

    All variants of a Doc are run in batches, with all pieces of one word erased in every window. A
    positive drop says that the word speaks for the decision, a negative one, against it.

    Args:
        nlp: The pipeline.
        docs: Docs or texts, whose decision is the component's own; or examples, whose decision is
            the gold one. Those without tokens or without gold standard are left out.
        component: Its name; None for the only one.
        how: "mask" puts [MASK] in the place of the word's pieces, "zero" sets the embeddings of
            these (with position and segment, after LayerNorm) to 0.
        progress: Called with 1 for each Doc.

    Yields:
        One for each Doc, as it is done.

    Raises:
        ValueError: If there is no such component, or no such way.
    """
    if how not in get_args(How):
        raise ValueError(f'how must be "mask" or "zero", got {how!r}')
    head = TaskHead.find(nlp, component)
    return _erase_words(nlp, head, docs, how, progress)


def erase_dimensions(
    nlp: Language,
    docs: Iterable[Doc | Example | str],
    component: str | None = None,
    *,
    layer: int = -1,
    dimensions: Sequence[int] | None = None,
    progress: Progress = lambda more: None,
) -> DimensionErasure:
    """What the log-likelihood of decisions loses without each dimension of a layer.

    The dimension is 0 in all pieces of a Doc. The layers below run once, those above once for each
    dimension.

    Args:
        nlp: The pipeline.
        docs: Docs or texts, whose decision is the component's own; or examples, whose decision is
            the gold one. Those without tokens or without gold standard are left out.
        component: Its name; None for the only one.
        layer: 0 is the embeddings, n the output of the n-th layer, -1 that of the last.
        dimensions: Which ones; by default all.
        progress: Called with the number of dimensions times Docs that were done.

    Raises:
        ValueError: If there is no such component, layer or dimension, or nothing to decide.
    """
    head = TaskHead.find(nlp, component)
    config = head.shim.network.config
    depth = range(config.num_hidden_layers + 1)
    if not -len(depth) <= layer <= depth[-1]:
        raise ValueError(f"there is no layer {layer}: 0 is the embeddings, {depth[-1]} the last")
    wanted = np.arange(config.hidden_size) if dimensions is None else np.array(dimensions)
    if not len(wanted) or wanted.min() < 0 or wanted.max() >= config.hidden_size:
        raise ValueError(f"dimensions must be some of 0 to {config.hidden_size - 1}")
    likelihoods: list[np.ndarray] = []
    falls: list[np.ndarray] = []
    for batch in minibatch(docs, BATCH):
        subjects = _subjects(nlp, head, batch)
        own = [doc for doc, _ in subjects]
        if not own:
            continue
        known = [decision for _, decision in subjects]
        plain = _likelihoods(head, head.outputs(own, head.encode(own)), known)
        restart = _Restart(depth[layer])
        drops = np.zeros((len(own), len(wanted)))
        for column, dimension in enumerate(wanted.tolist()):
            data = head.encode(own, Intervention(run=restart.without(dimension)))
            drops[:, column] = plain - _likelihoods(head, head.outputs(own, data), known)
            progress(len(own))
        likelihoods.append(plain)
        falls.append(drops)
    if not falls:
        raise ValueError(f"the data hold no Doc about which {head.name!r} could decide")
    together, drops = np.concatenate(likelihoods), np.concatenate(falls)
    return DimensionErasure(
        layer=depth[layer],
        dimensions=wanted,
        log_likelihoods=together,
        drops=_mean(drops),
        relative=_mean(relative_drops(together[:, None], drops)),
    )


def relative_drops(log_likelihood: float | np.ndarray, drops: np.ndarray) -> np.ndarray:
    """(S - S erased) / |S| (Li et al. 2016, but by the absolute value).

    S is a log-likelihood, below 0: divided by S itself, as in the paper, what speaks for a decision
    would be negative. Where S is 0 there is no such ratio: NaN.
    """
    size = np.broadcast_to(np.abs(log_likelihood), drops.shape)
    found = np.full(drops.shape, np.nan)
    np.divide(drops, size, out=found, where=size > 0)
    return found


def _subjects(
    nlp: Language, head: TaskHead, given: Iterable[Doc | Example | str]
) -> list[tuple[Doc, Decision]]:
    """The Docs with the decision whose likelihood is looked at."""
    decisions = decisions_of(head)
    made = [nlp.make_doc(each) if isinstance(each, str) else each for each in given]
    docs = [each.predicted if isinstance(each, Example) else each for each in made]
    plain = [doc for doc, each in zip(docs, made, strict=True) if not isinstance(each, Example)]
    outputs = iter(head.outputs(plain, head.encode(plain)) if plain else [])
    found = []
    for doc, each in zip(docs, made, strict=True):
        if isinstance(each, Example):
            decision = decisions.gold(each) if len(doc) else None
        else:
            output = next(outputs)
            decision = decisions.own(doc, output) if len(doc) else None
        if decision is not None:
            found.append((doc, decision))
    return found


def _likelihoods(
    head: TaskHead, outputs: Sequence[Output], known: Sequence[Decision]
) -> np.ndarray:
    decisions = decisions_of(head)
    pairs = zip(outputs, known, strict=True)
    return np.array([decisions.log_likelihood(output, decision) for output, decision in pairs])


def _erase_words(
    nlp: Language,
    head: TaskHead,
    docs: Iterable[Doc | Example | str],
    how: How,
    progress: Progress,
) -> Iterator[WordErasure]:
    for batch in minibatch(docs, BATCH):
        subjects = _subjects(nlp, head, batch)
        for doc, decision in subjects:
            yield _erase_words_of(head, doc, decision, how)
        progress(len(batch))


def _erase_words_of(head: TaskHead, doc: Doc, decision: Decision, how: How) -> WordErasure:
    (layout,) = cast("list[DocLayout]", head.shim.lay_out([doc]))
    pieces, tokens = overlaps(doc, layout.offsets)
    (plain,) = _likelihoods(head, head.outputs([doc], head.encode([doc])), [decision])
    drops = np.full(len(doc), np.nan)
    at_once = max(1, PIECES // len(layout.pieces))
    for group in minibatch(np.unique(tokens).tolist(), at_once):
        erased = [pieces[tokens == token] for token in group]
        intervention = (
            _masked(erased, head.shim.wordpiece.mask_id)
            if how == "mask"
            else _zeroed(erased, layout)
        )
        variants = [doc] * len(group)
        outputs = head.outputs(variants, head.encode(variants, intervention))
        drops[group] = plain - _likelihoods(head, outputs, [decision] * len(group))
    words = tuple(token.text for token in doc)
    said = decisions_of(head).say(doc, decision)
    return WordErasure(words=words, decision=said, log_likelihood=float(plain), drops=drops)


def _masked(erased: Sequence[np.ndarray], mask: int) -> Intervention:
    """In the n-th variant of a Doc, [MASK] at the n-th pieces."""

    def read(layouts: Layouts) -> list[DocLayout | None]:
        found: list[DocLayout | None] = []
        for layout, places in zip(layouts, erased, strict=True):
            assert layout is not None
            changed = layout.pieces.copy()
            changed[places] = mask
            found.append(dataclasses.replace(layout, pieces=changed))
        return found

    return Intervention(read=read)


def _zeroed(erased: Sequence[np.ndarray], layout: DocLayout) -> Intervention:
    """In the n-th variant of a Doc, the embeddings of the n-th pieces are 0."""
    borders = np.cumsum(layout.lengths)[:-1]
    kept = []  # of each window of each variant, (pieces,) bool
    for places in erased:
        stays = np.ones(len(layout.pieces), dtype=bool)
        stays[places] = False
        kept += np.split(stays, borders)

    def run(network: BertModel, batch: PackedBatch, windows: np.ndarray) -> Tensor:
        stays = torch.from_numpy(np.concatenate([kept[i] for i in windows.tolist()]))
        factor = stays.to(batch.pieces.device).unsqueeze(1)
        hidden: Tensor = network(
            batch, edits=Edits(states={0: lambda states: states * factor})
        ).last_hidden_state
        return hidden

    return Intervention(run=run)


class _Restart:
    """Passes that begin at a layer, whose states are computed once for each chunk of windows."""

    def __init__(self, layer: int) -> None:
        self._layer = layer
        self._states: dict[bytes, Tensor] = {}

    def without(self, dimension: int) -> Callable[[BertModel, PackedBatch, np.ndarray], Tensor]:
        """The pass in which one dimension of the layer is 0."""

        def run(network: BertModel, batch: PackedBatch, windows: np.ndarray) -> Tensor:
            plan = network.plan(batch)
            key = windows.tobytes()
            if key not in self._states:
                hidden = network.embed(batch, plan)
                for module in network.layers[: self._layer]:
                    hidden, _ = module(hidden, plan, None)
                self._states[key] = hidden
            hidden = self._states[key].clone()
            hidden[:, dimension] = 0.0
            for module in network.layers[self._layer :]:
                hidden, _ = module(hidden, plan, None)
            return plan.restore(hidden)

        return run


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is not NaN; NaN if nothing else is there."""
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    found = np.full(values.shape[1], np.nan)
    sums = np.where(known, values, 0.0).sum(axis=0)
    np.divide(sums, counts, out=found, where=counts > 0)
    return found
