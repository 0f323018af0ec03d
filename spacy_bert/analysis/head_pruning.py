"""Attention heads closed one by one, or ever more of them (Michel et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from spacy.language import Language
from spacy.training import Example

from spacy_bert.analysis.decisions import Quality, evaluate
from spacy_bert.analysis.gates import HeadImportance, gated, head_importance
from spacy_bert.analysis.task_head import TaskHead

# Layer, from 0, to heads, as before any pruning.
Heads = Mapping[int, Sequence[int]]
# Layer and head, in the order in which they go.
Order = Sequence[tuple[int, int]]
Progress = Callable[[int], object]

STEP = 0.1  # share of all heads that goes in one step
THRESHOLD = 0.9  # share of the original score that must be kept
FALLING = ("cats_mse",)  # scores that fall as a pipeline gets better


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadAblation:
    """What a component is worth without some heads.

    Attributes:
        component: Its name.
        original: With all heads.
        scores: (layers, heads) float64.
        log_likelihoods: Mean log-likelihood of the gold decisions, (layers, heads) float64, nats.
    """

    component: str
    original: Quality
    scores: np.ndarray
    log_likelihoods: np.ndarray

    @property
    def drops(self) -> np.ndarray:
        """By how much the log-likelihood falls, (layers, heads): finer than scores."""
        return np.asarray(self.original.log_likelihood - self.log_likelihoods)


@dataclass(frozen=True, kw_only=True, eq=False)
class PruningCurve:
    """Scores with ever more heads closed, by importance and at random.

    Attributes:
        component: Its name.
        original: With all heads.
        shares: Shares of all heads that are closed, ascending, (steps,) float64.
        by_importance: Scores with the least important ones closed, (steps,) float64.
        random: Scores with as many closed at random, (seeds, steps) float64.
    """

    component: str
    original: Quality
    shares: np.ndarray
    by_importance: np.ndarray
    random: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Masking:
    """What a masking loop has found.

    Attributes:
        component: Its name.
        original: With all heads.
        kept: Which heads stay, (layers, heads) bool.
        score: With these alone.
        steps: Heads closed and score of each step, the last of which may be too low.
    """

    component: str
    original: Quality
    kept: np.ndarray
    score: float
    steps: list[tuple[int, float]]


def leave_one_head_out(
    nlp: Language,
    examples: Sequence[Example],
    component: str | None = None,
    *,
    metric: str | None = None,
    progress: Progress = lambda more: None,
) -> HeadAblation:
    """Each head closed by itself (Michel et al. 2019, section 3.2).

    Args:
        nlp: The pipeline.
        examples: Gold standard.
        component: Its name; None for the only one.
        metric: Name of a score; by default the component's main one.
        progress: Called with the number of heads that were done.

    Raises:
        ValueError: If there is no such component or score, or nothing is annotated.
    """
    return _ablate(nlp, examples, component, metric, progress, _without)


def one_head_alone(
    nlp: Language,
    examples: Sequence[Example],
    component: str | None = None,
    *,
    metric: str | None = None,
    progress: Progress = lambda more: None,
) -> HeadAblation:
    """Each head with all others of its layer closed (Michel et al. 2019, section 3.3).

    Arguments and errors are those of `leave_one_head_out`.
    """
    return _ablate(nlp, examples, component, metric, progress, _alone)


def masking_loop(
    nlp: Language,
    examples: Sequence[Example],
    component: str | None = None,
    *,
    dev: Sequence[Example] | None = None,
    threshold: float = THRESHOLD,
    step: float = STEP,
    metric: str | None = None,
    progress: Progress = lambda more: None,
) -> Masking:
    """Close the least important heads until the score falls too low, and take that step back.

    The importance is found anew after each step, of the network as it then is.

    Args:
        nlp: The pipeline; stays as it is.
        examples: Gold standard for the importance.
        component: Its name; None for the only one.
        dev: Gold standard for the scores; by default the same.
        threshold: Share of the original score that must be kept.
        step: Share of all heads that is closed in each step; one head at least.
        metric: Name of a score; by default the component's main one.
        progress: Called with the number of heads that were closed.

    Raises:
        ValueError: If a number is out of range, there is no such component or score, or nothing is
            annotated.
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must be in [0, 1], got {threshold}")
    if not 0.0 < step <= 1.0:
        raise ValueError(f"step must be in (0, 1], got {step}")
    head = TaskHead.find(nlp, component)
    scored = examples if dev is None else dev
    original = evaluate(head, scored, metric=metric)
    if original.metric in FALLING or not original.score > 0.0:
        raise ValueError(
            f"{original.metric} is {original.score:.4g}: a share of it can only be kept of a score "
            "above 0 that rises as the pipeline gets better; name another metric"
        )
    least = threshold * original.score
    importance = head_importance(nlp, examples, head.name)
    kept = ~importance.pruned
    score, steps = original.score, []
    at_once = max(1, int(kept.size * step))
    while kept.any():
        trial = kept.copy()
        trial[_places(ranking(importance, among=kept)[:at_once])] = False
        quality = evaluate(head, scored, metric=metric, intervention=gated(trial.astype("f")))
        steps.append((int((~trial).sum()), quality.score))
        progress(int((kept & ~trial).sum()))
        if quality.score < least:
            break
        kept, score = trial, quality.score
        importance = head_importance(nlp, examples, head.name, gates=kept.astype("f"))
    return Masking(component=head.name, original=original, kept=kept, score=score, steps=steps)


def closing_order(
    nlp: Language,
    examples: Sequence[Example],
    component: str | None = None,
    *,
    importance: HeadImportance | None = None,
    keep: float = 0.0,
    step: float = STEP,
    progress: Progress = lambda more: None,
) -> list[tuple[int, int]]:
    """In which order heads go, the least important first, as in `masking_loop`.

    The importance is found anew after each step: what a head is worth depends on which others are
    there.

    Args:
        nlp: The pipeline; stays as it is.
        examples: Gold standard for the importance.
        component: Its name; None for the only one.
        importance: With all heads, if it is known already.
        keep: Share of the heads that need not be put in order, since they stay.
        step: Share of all heads that goes in each step; one head at least.
        progress: Called with the number of examples that were done.

    Raises:
        ValueError: If a number is out of range, there is no such component, or nothing is
            annotated.
    """
    if not 0.0 < step <= 1.0:
        raise ValueError(f"step must be in (0, 1], got {step}")
    if importance is None:
        importance = head_importance(nlp, examples, component, progress=progress)
    left = ~importance.pruned
    wanted = int(left.sum()) - _count(keep, int(left.sum()), "keep")
    at_once = max(1, int(left.size * step))
    order: list[tuple[int, int]] = []
    while len(order) < wanted:
        order += ranking(importance, among=left)[: min(at_once, wanted - len(order))]
        left[_places(order)] = False
        if len(order) < wanted:
            gates = left.astype("f")
            importance = head_importance(nlp, examples, component, gates=gates, progress=progress)
    return order


def pruning_curve(
    nlp: Language,
    examples: Sequence[Example],
    order: Order,
    component: str | None = None,
    *,
    shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    seeds: int = 3,
    metric: str | None = None,
    progress: Progress = lambda more: None,
) -> PruningCurve:
    """Scores with shares of all heads closed, the least important first, and in random order.

    Args:
        nlp: The pipeline; stays as it is.
        examples: Gold standard for the scores.
        order: Of all heads, by `closing_order` from other examples.
        component: Its name; None for the only one.
        shares: How many are closed, of those that there are.
        seeds: How many random orders are drawn.
        metric: Name of a score; by default the component's main one.
        progress: Called with 1 for each score.

    Raises:
        ValueError: If a share is out of range, there is no such score, or nothing is annotated.
    """
    head = TaskHead.find(nlp, component)
    config = head.shim.network.config
    orders = [order]
    for seed in range(seeds):
        orders.append([order[i] for i in np.random.default_rng(seed).permutation(len(order))])
    found = np.zeros((len(orders), len(shares)))
    for row, each in enumerate(orders):
        for column, share in enumerate(shares):
            gates = np.ones((config.num_hidden_layers, config.num_attention_heads), dtype="f")
            gates[_places(each[: _count(share, len(order), "share")])] = 0.0
            quality = evaluate(head, examples, metric=metric, intervention=gated(gates))
            found[row, column] = quality.score
            progress(1)
    return PruningCurve(
        component=head.name,
        original=evaluate(head, examples, metric=metric),
        shares=np.array(shares, dtype=float),
        by_importance=found[0],
        random=found[1:],
    )


def ranking(
    importance: HeadImportance, *, among: np.ndarray | None = None
) -> list[tuple[int, int]]:
    """Layer and head of all that are not pruned, the least important first.

    Args:
        importance: By which they are compared, each layer normalized.
        among: Only these, (layers, heads) bool.
    """
    there = ~importance.pruned if among is None else among & ~importance.pruned
    layers, heads = np.nonzero(there)
    order = np.argsort(importance.by_layer[layers, heads], kind="stable")
    return [(int(layers[i]), int(heads[i])) for i in order]


def first_to_go(order: Order, *, keep: float) -> Order:
    """Of heads in order, those that go if a share of them is kept.

    Raises:
        ValueError: If the share is out of range.
    """
    return order[: len(order) - _count(keep, len(order), "keep")]


def in_layers(order: Order) -> dict[int, list[int]]:
    """The same heads, layer by layer."""
    found: dict[int, list[int]] = {}
    for layer, head in sorted(order):
        found.setdefault(layer, []).append(head)
    return found


def closed_heads(kept: np.ndarray) -> dict[int, list[int]]:
    """The heads that a mask, (layers, heads) bool, does not keep."""
    return in_layers([(int(layer), int(head)) for layer, head in np.argwhere(~kept)])


def _ablate(
    nlp: Language,
    examples: Sequence[Example],
    component: str | None,
    metric: str | None,
    progress: Progress,
    close: Callable[[tuple[int, int], int, int], np.ndarray],
) -> HeadAblation:
    head = TaskHead.find(nlp, component)
    config = head.shim.network.config
    shape = (config.num_hidden_layers, config.num_attention_heads)
    scores, likelihoods = np.zeros(shape), np.zeros(shape)
    for layer, number in np.ndindex(shape):
        gates = close(shape, layer, number)
        quality = evaluate(head, examples, metric=metric, intervention=gated(gates))
        scores[layer, number] = quality.score
        likelihoods[layer, number] = quality.log_likelihood
        progress(1)
    return HeadAblation(
        component=head.name,
        original=evaluate(head, examples, metric=metric),
        scores=scores,
        log_likelihoods=likelihoods,
    )


def _without(shape: tuple[int, int], layer: int, head: int) -> np.ndarray:
    gates = np.ones(shape, dtype="f")
    gates[layer, head] = 0.0
    return gates


def _alone(shape: tuple[int, int], layer: int, head: int) -> np.ndarray:
    gates = np.ones(shape, dtype="f")
    gates[layer] = 0.0
    gates[layer, head] = 1.0
    return gates


def _places(heads: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [layer for layer, _ in heads], [head for _, head in heads]


def _count(share: float, heads: int, name: str) -> int:
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {share}")
    return round(share * heads)
