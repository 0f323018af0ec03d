"""The heads of one component: importance, ablation, pruning, time (Michel et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.stats import spearmanr
from spacy.language import Language
from spacy.training import Example

from spacy_bert.analysis.gates import HeadImportance, head_importance
from spacy_bert.analysis.head_pruning import (
    HeadAblation,
    PruningCurve,
    closing_order,
    leave_one_head_out,
    pruning_curve,
)
from spacy_bert.analysis.pruned_pipeline import Pruned, prune
from spacy_bert.analysis.task_head import TaskHead


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadStudy:
    """What is known of the heads of a component.

    Attributes:
        importance: From the examples.
        left_out: Each head closed by itself, scored on the dev set.
        curve: Ever more heads closed, scored on the dev set.
        pruned: A share of the heads cut out for good.
    """

    importance: HeadImportance
    left_out: HeadAblation
    curve: PruningCurve
    pruned: Pruned

    @property
    def spearman(self) -> float:
        """Rank correlation of importance with the drop in log-likelihood without a head.

        Of the heads that are not pruned. A drop may be below 0, where a head does harm; importance
        knows no sign, and neither does what is compared here.
        """
        there = ~self.importance.pruned
        drops = abs(self.left_out.drops[there])
        return float(spearmanr(self.importance.raw[there], drops).statistic)


def study_heads(
    nlp: Language,
    examples: Sequence[Example],
    component: str | None = None,
    *,
    dev: Sequence[Example] | None = None,
    keep: float = 0.5,
    shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    seeds: int = 3,
    metric: str | None = None,
    progress: Callable[[int], object] = lambda more: None,
) -> HeadStudy:
    """Find the importance of heads, check it by ablation, prune by it and at random, and take time.

    Args:
        nlp: The pipeline; stays as it is.
        examples: Gold standard for the importance.
        component: Its name; None for the only one.
        dev: Gold standard for the scores; by default the same.
        keep: Share of the heads that stay when heads are cut out.
        shares: Shares of heads that are closed in the curve.
        seeds: How many random orders are drawn.
        metric: Name of a score; by default the component's main one.
        progress: Called with 1 for each pass over a set.

    Raises:
        ValueError: If a number is out of range, there is no such component or score, or nothing is
            annotated.
    """
    head = TaskHead.find(nlp, component)
    scored = examples if dev is None else dev
    importance = head_importance(nlp, examples, head.name)
    progress(1)
    left_out = leave_one_head_out(nlp, scored, head.name, metric=metric, progress=progress)
    order = closing_order(nlp, examples, head.name, importance=importance)
    curve = pruning_curve(
        nlp, scored, order, head.name, shares=shares, seeds=seeds, metric=metric, progress=progress
    )
    network, wordpiece = head.shim.network, head.shim.wordpiece
    try:
        pruned = prune(nlp, examples, head.name, keep=keep, order=order, dev=scored, metric=metric)
    finally:
        head.shim.take(network, wordpiece)
    progress(1)
    return HeadStudy(importance=importance, left_out=left_out, curve=curve, pruned=pruned)
