"""Probing: what each layer knows, beside what a control task finds in it.

Edge probing: Tenney et al. 2019 (arXiv 1905.06316). Layers, mixtures and cumulative scores: Tenney
et al. 2019 (arXiv 1905.05950). Control tasks: Hewitt & Liang 2019 (arXiv 1909.03368).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.analysis.probe_tasks import ProbeTask, control_labels
from spacy_bert.analysis.probe_training import (
    ProbeRecipe,
    ProbeScores,
    TargetSet,
    train_probes,
)
from spacy_bert.analysis.token_vectors import TokenVectors

EPSILON = 1e-12
SMALL_SUM = 0.05  # of the gains of cumulative scores: an expected layer means little then


@dataclass(frozen=True, kw_only=True, eq=False)
class Probing:
    """What probes find in an encoder.

    Attributes:
        task: Name of the task.
        scores: Of the task.
        control: Of the control task, at the same spans.
        majority: The F1 of who always says the most frequent label.
        targets: Targets of the training and of the development set.
        labels: How many labels there are.
        linear: Whether the probes are linear, and no edge probes.
    """

    task: str
    scores: ProbeScores
    control: ProbeScores
    majority: float
    targets: tuple[int, int]
    labels: int
    linear: bool = False

    @property
    def selectivity(self) -> np.ndarray:
        """Score of each layer minus that of the control task, (layers,)."""
        return np.asarray(self.scores.layers - self.control.layers)

    @property
    def learned_nothing(self) -> bool:
        """Whether no probe is better than who always says the most frequent label."""
        return max(self.scores.mixture, float(self.scores.layers.max())) <= self.majority

    @property
    def expected_layer(self) -> float | None:
        """Where the cumulative score rises (arXiv 1905.05950, section 3.2); None if it does not."""
        return expected_layer(self.scores.rise)

    @property
    def is_uncertain(self) -> bool:
        """Whether the cumulative score rises so little that the expected layer means nothing."""
        return float(np.diff(self.scores.rise).sum()) < SMALL_SUM

    @property
    def centre_of_gravity(self) -> float:
        """Of the mixture's weights; a uniform one lies in the middle too: look at the weights."""
        return centre_of_gravity(self.scores.weights)


def expected_layer(cumulative: np.ndarray) -> float | None:
    """The mean layer at which the cumulative score rises, each weighted by the rise.

    Tenney et al. 2019 (arXiv 1905.05950), equation 4; falls count negatively, as in the authors'.

    Args:
        cumulative: Score of the probes on layers 0 to l, (layers,).

    Returns:
        None if the last score is no higher than the first.
    """
    rises = np.diff(cumulative)
    total = float(rises.sum())
    if total <= EPSILON:
        return None
    return float(np.arange(1, len(cumulative)) @ rises / total)


def centre_of_gravity(weights: np.ndarray) -> float:
    """The mean layer of a mixture (arXiv 1905.05950, equation 2); layers count from 0."""
    return float(np.arange(len(weights)) @ weights)


def divergence_from_uniform(weights: np.ndarray) -> float:
    """KL divergence of a mixture's weights from uniform ones, in bits."""
    kept = weights[weights > 0.0]
    return float((kept * np.log2(kept * len(weights))).sum())


def probe(
    nlp: Language,
    train: Sequence[Doc],
    dev: Sequence[Doc],
    task: ProbeTask,
    *,
    component: str | None = None,
    cumulative: bool = True,
    recipe: ProbeRecipe | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Probing:
    """Train probes for a task and its control on every layer of an encoder, and on mixtures.

    The encoder stays as it is; its vectors are computed once and kept on disk, and all probes train
    together, those of the control too.

    Args:
        nlp: A pipeline with an encoder.
        train: Annotated Docs.
        dev: Annotated Docs to score on.
        task: What is asked.
        component: Name of the component whose encoder is meant, if there are several.
        cumulative: Whether to mix the layers up to each, too, for the expected layer.
        recipe: How the probes are trained.
        progress: Called with 1 for each Doc that was encoded and each batch that was learned;
            `probe_work` tells how many there will be.

    Raises:
        ValueError: If the Docs give the task nothing to ask.
    """
    recipe = recipe or ProbeRecipe()
    known = [task.targets(doc) for doc in (*train, *dev)]
    own, other = TargetSet.of(known[: len(train)], 0), TargetSet.of(known[len(train) :], len(train))
    _require(task, own, other)
    labels = sorted({label for target in own.targets for label in target.labels})
    drawn = control_labels([*train, *dev], known, seed=recipe.seed)
    scored = [i for i, label in enumerate(labels) if task.scored is None or label in task.scored]
    with TokenVectors(nlp, [*train, *dev], component=component, progress=progress) as vectors:
        scores, control = train_probes(
            vectors,
            task,
            recipe,
            labels,
            scored,
            (own, TargetSet.of(drawn[: len(train)], 0)),
            (other, TargetSet.of(drawn[len(train) :], len(train))),
            progress,
            cumulative=cumulative,
        )
    return Probing(
        task=task.name,
        scores=scores,
        control=control,
        majority=_majority(own, other, labels, scored),
        targets=(len(own.targets), len(other.targets)),
        labels=len(labels),
        linear=recipe.linear,
    )


def probe_work(
    train: Sequence[Doc], dev: Sequence[Doc], task: ProbeTask, recipe: ProbeRecipe | None = None
) -> int:
    """How often `probe` calls `progress`, if no probe stops early."""
    recipe = recipe or ProbeRecipe()
    targets = sum(len(task.targets(doc)) for doc in train)
    batches = recipe.passes(targets) * -(-targets // recipe.batch_size)
    return len(train) + len(dev) + batches


def _require(task: ProbeTask, train: TargetSet, dev: TargetSet) -> None:
    for name, each in (("training", train), ("development", dev)):
        if not each.targets:
            raise ValueError(
                f"the {name} Docs have nothing to probe for {task.name!r}: are they annotated?"
            )
    if len({target.labels for target in train.targets}) < 2:
        raise ValueError(f"all targets of {task.name!r} have the same label: nothing to tell apart")
    labels = {label for target in train.targets for label in target.labels}
    if task.scored is not None and not labels & task.scored:
        raise ValueError(
            f"no training target of {task.name!r} has a label that is scored: "
            f"{', '.join(sorted(task.scored)[:3])} or the like"
        )


def _majority(
    train: TargetSet, dev: TargetSet, labels: Sequence[str], scored: Sequence[int]
) -> float:
    counts = Counter(label for target in train.targets for label in target.labels)
    allowed = {labels[i] for i in scored}
    (label, _), *_ = [each for each in counts.most_common() if each[0] in allowed]
    said = len(dev.targets)
    right = sum(label in target.labels for target in dev.targets)
    gold = sum(len(allowed.intersection(target.labels)) for target in dev.targets)
    return 2.0 * right / max(said + gold, 1)
