"""Heads cut out of a pipeline for good, and what that changes in size, score and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch

from spacy_bert.analysis.decisions import BATCH, Quality, evaluate
from spacy_bert.analysis.head_pruning import (
    Heads,
    Order,
    closed_heads,
    closing_order,
    first_to_go,
    in_layers,
    masking_loop,
)
from spacy_bert.analysis.inside import find_shim, own_shim, refuse_features
from spacy_bert.analysis.task_head import TaskHead
from spacy_bert.bert import BertModel
from spacy_bert.bert.pruning import prune_heads

TIMED = 256  # Docs that are read for the time


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A pipeline at one time.

    Attributes:
        heads: Attention heads in all layers.
        parameters: Of the encoder.
        quality: Of the component.
        docs_per_second: Read by component and encoder, tokenizer left out.
    """

    heads: int
    parameters: int
    quality: Quality
    docs_per_second: float


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What pruning has done.

    Attributes:
        component: By whose loss heads were chosen.
        heads: What was cut: layer, from 0, to heads as before any pruning.
        before: The pipeline with them.
        after: The pipeline without.
    """

    component: str
    heads: Mapping[int, Sequence[int]]
    before: Condition
    after: Condition


def prune(
    nlp: Language,
    examples: Sequence[Example],
    component: str | None = None,
    *,
    keep: float | None = None,
    threshold: float | None = None,
    order: Order | None = None,
    dev: Sequence[Example] | None = None,
    metric: str | None = None,
    progress: Callable[[int], object] = lambda more: None,
) -> Pruned:
    """Cut the heads out of a pipeline that matter least to a component (Michel et al. 2019).

    Either `keep` or `threshold` says how many.

    Args:
        nlp: The pipeline, which is changed.
        examples: Gold standard for the importance.
        component: Its name; None for the only one.
        keep: Share of the heads that stay; the others go a tenth at a time (`closing_order`).
        threshold: Heads go as long as this share of the score is left (`masking_loop`).
        order: With `keep`, the order of all heads, if it is known already.
        dev: Gold standard for the scores; by default the same.
        metric: Name of a score; by default the component's main one.
        progress: Called with the number of examples, or with `threshold` of heads, that were done.

    Raises:
        ValueError: If it is not clear how many heads go, a number is out of range, there is no such
            component or score, or nothing is annotated.
    """
    head = TaskHead.find(nlp, component)
    scored = examples if dev is None else dev
    if (keep is None) == (threshold is None):
        raise ValueError("say how many heads go: either keep or threshold must be given")
    heads: Heads
    if keep is not None:
        if order is None:
            order = closing_order(nlp, examples, head.name, keep=keep, progress=progress)
        else:
            order = first_to_go(order, keep=keep)
        heads = in_layers(order)
    else:
        assert threshold is not None
        found = masking_loop(
            nlp,
            examples,
            head.name,
            dev=dev,
            threshold=threshold,
            metric=metric,
            progress=progress,
        )
        heads = closed_heads(found.kept)
    whole, before = head.shim.network, evaluate(head, scored, metric=metric)
    prune_pipeline(nlp, heads, head.name)
    pruned, after = head.shim.network, evaluate(head, scored, metric=metric)
    docs = [example.predicted for example in scored[:TIMED]]
    first, second = speeds(head, docs, [whole, pruned])
    return Pruned(
        component=head.name,
        heads=heads,
        before=_condition(whole, before, first),
        after=_condition(pruned, after, second),
    )


def prune_pipeline(nlp: Language, heads: Heads, component: str | None = None) -> None:
    """Cut heads out of a pipeline's encoder for good; whatever else reads it loses them too.

    Args:
        nlp: The pipeline, which is changed.
        heads: Layer, from 0, to heads as before any pruning.
        component: Of the encoder that is meant, or one that reads it; None for the only encoder.

    Raises:
        ValueError: If there is no such encoder, layer or head, or a component reads kept features
            of it.
    """
    shim = find_shim(nlp, component)
    for name, pipe in nlp.components:
        if name == component or own_shim(pipe) is shim:
            refuse_features(nlp, name)
    shim.take(prune_heads(shim.network, heads), shim.wordpiece)


def count_parameters(nlp: Language, component: str | None = None) -> int:
    """How many parameters an encoder has, its pooler included."""
    return sum(p.numel() for p in find_shim(nlp, component).network.parameters())


def speeds(
    head: TaskHead, docs: Sequence[Doc], networks: Sequence[BertModel], *, repeats: int = 5
) -> list[float]:
    """Docs a second that a component reads with each of several networks, tokenizer left out.

    The networks take turns, and the fastest turn of each counts, so that what else the machine does
    meets all of them.

    Args:
        head: The component; it keeps the last network.
        docs: The Docs; they stay as they are.
        networks: Of one vocabulary and hidden size.
        repeats: Turns of each network.
    """
    seconds = np.full(len(networks), np.inf)
    wordpiece = head.shim.wordpiece
    for _ in range(repeats):
        for number, network in enumerate(networks):
            head.shim.take(network, wordpiece)
            head.encode(docs[:1])  # the first prediction lays out the weights
            start = perf_counter()
            for batch in minibatch(docs, BATCH):
                head.outputs(batch, head.encode(batch))
            seconds[number] = min(seconds[number], perf_counter() - start)
    found: list[float] = (len(docs) / seconds).tolist()
    return found


def _condition(network: BertModel, quality: Quality, docs_per_second: float) -> Condition:
    config = network.config
    return Condition(
        heads=sum(len(config.kept_heads(layer)) for layer in range(config.num_hidden_layers)),
        parameters=sum(p.numel() for p in network.parameters()),
        quality=quality,
        docs_per_second=docs_per_second,
    )
