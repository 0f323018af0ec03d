"""How probes are trained: their recipe, their targets, their scores.

Edge probing: Tenney et al. 2019 (arXiv 1905.06316).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spacy_bert.analysis.probe_tasks import ProbeTask, Target
from spacy_bert.analysis.probes import (
    EdgeProbes,
    LinearProbes,
    Probes,
    SpanBatch,
    StackedAMSGrad,
)
from spacy_bert.analysis.token_vectors import TokenVectors

AT_ONCE = 256  # targets that are scored together
MOST_EPOCHS, MOST_BATCHES = 3, 6_000


@dataclass(frozen=True, kw_only=True)
class ProbeRecipe:
    """How probes are trained; the defaults are those of edge probing but for the epochs.

    Attributes:
        linear: Whether the probes are linear, in the place of edge probes: they can remember less
            (a greater rate, as 1e-3, suits them: `LINEAR`).
        epochs: Passes over the training targets at most; None for 3, or for fewer where those are
            more than 6,000 batches (but one pass at least).
        batch_size: Targets in a batch.
        rate: Learning rate to begin with.
        clip: Greatest norm of a probe's gradient.
        patience: A probe's rate is halved when its score on the development set has not risen so
            often, and it stops after four times as many.
        checks: Looks at the development set in each epoch.
        seed: Of weights, batches and control labels.
    """

    linear: bool = False
    epochs: int | None = None
    batch_size: int = 32
    rate: float = 1e-4
    clip: float = 5.0
    patience: int = 5
    checks: int = 5
    seed: int = 0

    def passes(self, targets: int) -> int:
        """Passes over so many training targets."""
        if self.epochs is not None:
            return self.epochs
        batches = -(-targets // self.batch_size)
        return max(min(MOST_EPOCHS, MOST_BATCHES // max(batches, 1)), 1)


LINEAR = ProbeRecipe(linear=True, rate=1e-3)


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeScores:
    """The micro-averaged F1 of probes, 0 to 1, on the development set.

    Attributes:
        layers: Of a probe on each layer alone, (layers,); 0 is the embeddings.
        mixture: Of a probe on a learned mixture of all layers.
        weights: That mixture: the share of each layer, (layers,).
        cumulative: Of a probe on a learned mixture of the layers 0 to l, (layers,); None if there
            were no such probes.
    """

    layers: np.ndarray
    mixture: float
    weights: np.ndarray
    cumulative: np.ndarray | None = None

    @property
    def rise(self) -> np.ndarray:
        """The cumulative scores.

        Raises:
            ValueError: If there are none.
        """
        if self.cumulative is None:
            raise ValueError("no cumulative probes were trained: probe(..., cumulative=True)")
        return self.cumulative


@dataclass(frozen=True, eq=False)
class TargetSet:
    """Targets of some Docs."""

    targets: list[Target]
    docs: list[int]

    @classmethod
    def of(cls, known: Sequence[Sequence[Target]], first: int) -> TargetSet:
        """Of the Docs with the numbers from `first` on."""
        pairs = [(target, doc) for doc, own in enumerate(known, start=first) for target in own]
        return cls([target for target, _ in pairs], [doc for _, doc in pairs])

    def spans(
        self, vectors: TokenVectors, index: Sequence[int]
    ) -> tuple[SpanBatch, SpanBatch | None]:
        """The spans of some targets."""
        chosen = [(self.docs[i], self.targets[i]) for i in index]
        first = _spans(vectors, [(doc, *target.first) for doc, target in chosen])
        pairs = [(doc, *target.second) for doc, target in chosen if target.second is not None]
        return first, _spans(vectors, pairs) if pairs else None

    def gold(self, labels: Sequence[str]) -> Tensor:
        """What holds of each target, (targets, labels) bool."""
        place = {label: i for i, label in enumerate(labels)}
        holds = torch.zeros(len(self.targets), len(labels), dtype=torch.bool)
        for own, target in zip(holds.numpy(), self.targets, strict=True):
            own[[place[label] for label in target.labels if label in place]] = True
        return holds


def _spans(vectors: TokenVectors, places: Sequence[tuple[int, int, int]]) -> SpanBatch:
    rows, lengths = vectors.spans(places)
    return SpanBatch(vectors=torch.from_numpy(rows), lengths=lengths)


def _probe_layers(layers: int, *, cumulative: bool) -> Tensor:
    """Which layers each probe reads: one alone, for each; then all up to one, for each or all."""
    mixtures = torch.ones(layers, layers).tril().bool()
    return torch.cat([torch.eye(layers).bool(), mixtures if cumulative else mixtures[-1:]])


def train_probes(
    vectors: TokenVectors,
    task: ProbeTask,
    recipe: ProbeRecipe,
    labels: Sequence[str],
    scored: Sequence[int],
    train: Sequence[TargetSet],
    dev: Sequence[TargetSet],
    progress: Callable[[int], object],
    *,
    cumulative: bool = True,
) -> list[ProbeScores]:
    """Train a probe on each layer and on a mixture of all, for each labelling of the same spans.

    Args:
        vectors: Of all Docs.
        task: What is asked.
        recipe: How they are trained.
        labels: All labels.
        scored: Which of them count.
        train: Targets to learn: the task's, its control's, of the same spans.
        dev: Targets to score on, likewise.
        progress: Called with 1 for each batch.
        cumulative: Whether the first labelling has probes on the layers up to each, too.

    Returns:
        The best scores on the development set that the probes of each labelling had.
    """
    layers = vectors.layers
    groups = [_probe_layers(layers, cumulative=cumulative and not i) for i in range(len(train))]
    sizes = torch.tensor([len(group) for group in groups])
    labelling = torch.arange(len(train)).repeat_interleave(sizes)  # that each probe learns
    gold, judged = (torch.stack([each.gold(labels) for each in sets]) for sets in (train, dev))
    (asked, *_), (scored_on, *_) = train, dev
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        probes = make_probes(
            torch.cat(groups), task, linear=recipe.linear, width=vectors.width, labels=len(labels)
        )
        optimizer = StackedAMSGrad(probes, rate=recipe.rate, clip=recipe.clip)
        course = _Course(probes, optimizer, recipe.patience)
        batches = -(-len(asked.targets) // recipe.batch_size)
        every = max(batches // recipe.checks, 1)
        for _ in range(recipe.passes(len(asked.targets))):
            order = torch.randperm(len(asked.targets)).split(recipe.batch_size)
            for number, index in enumerate(order, start=1):
                logits = probes.train()(*asked.spans(vectors, index.tolist()))
                losses = F.binary_cross_entropy_with_logits(
                    logits, gold[:, index][labelling].float(), reduction="none"
                )
                losses.mean(dim=(1, 2)).sum().backward()  # probes share nothing
                optimizer.step()
                progress(1)
                if number % every == 0 or number == batches:
                    course.check(_f1(probes, vectors, scored_on, judged, labelling, scored))
            if course.is_over:
                break
    ends = sizes.cumsum(0)[:-1].numpy()
    parts = zip(np.split(course.best, ends), np.split(course.weights, ends), strict=True)
    return [
        ProbeScores(
            layers=best[:layers],
            mixture=float(best[-1]),
            weights=weights[-1],
            cumulative=best[layers:] if len(best) == 2 * layers else None,
        )
        for best, weights in parts
    ]


def make_probes(
    layers: Tensor, task: ProbeTask, *, linear: bool, width: int, labels: int
) -> Probes:
    """Probes for a task.

    Args:
        layers: Which layers each reads, (probes, layers) bool.
        task: Says whether there are two spans, and whether they are alike.
        linear: Whether they are linear, in the place of edge probes.
        width: Of the vectors.
        labels: How many there are.
    """
    if linear:
        return LinearProbes(layers, width=width, labels=labels, pairs=task.pairs)
    return EdgeProbes(
        layers, width=width, labels=labels, pairs=task.pairs, symmetric=task.symmetric
    )


class _Course:
    """How the probes do: the best scores, and when to learn slower or stop."""

    def __init__(self, probes: Probes, optimizer: StackedAMSGrad, patience: int) -> None:
        self._probes, self._optimizer, self._patience = probes, optimizer, patience
        count = len(optimizer.rates)
        self.best = np.full(count, -1.0)
        self.weights = np.zeros(tuple(probes.layers.shape), dtype=np.float32)
        self._waited = np.zeros(count, dtype=int)

    @property
    def is_over(self) -> bool:
        """Whether all have stopped."""
        return bool((self._optimizer.rates == 0.0).all())

    def check(self, scores: np.ndarray) -> None:
        """Take the scores of all probes."""
        better = scores > self.best
        self.best = np.maximum(self.best, scores)
        self.weights[better] = self._probes.weights().detach().cpu().numpy()[better]
        self._waited = np.where(better, 0, self._waited + 1)
        slower = (self._waited > 0) & (self._waited % self._patience == 0)
        over = self._waited >= 4 * self._patience
        factor = np.where(over, 0.0, np.where(slower, 0.5, 1.0)).astype(np.float32)
        self._optimizer.rates *= torch.from_numpy(factor)


@torch.inference_mode()
def _f1(
    probes: Probes,
    vectors: TokenVectors,
    dev: TargetSet,
    gold: Tensor,
    labelling: Tensor,
    scored: Sequence[int],
) -> np.ndarray:
    """Micro-averaged F1 of each probe in its labelling, over the labels that are scored."""
    probes.eval()
    counts = torch.zeros(3, len(probes.layers))
    for index in torch.arange(len(dev.targets)).split(AT_ONCE):
        said = probes(*dev.spans(vectors, index.tolist()))[..., scored] > 0.0
        right = gold[:, index][..., scored][labelling]
        counts[0] += (said & right).sum(dim=(1, 2))
        counts[1] += said.sum(dim=(1, 2))
        counts[2] += right.sum(dim=(1, 2))
    f1: np.ndarray = (2.0 * counts[0] / (counts[1] + counts[2]).clamp_min(1.0)).numpy()
    return f1
