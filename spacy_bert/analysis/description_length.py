"""Probing by minimum description length: how few bits the labels cost, given the vectors.

Voita & Titov 2020 (arXiv 2003.12298), section 2.2: labels are sent in portions, each by a probe
that has learned from all before it. What is easy to learn from few examples costs little, so that
the size of the probe and of its training set are part of the figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from spacy.language import Language
from spacy.tokens import Doc
from torch import Tensor

from spacy_bert.analysis.probe_tasks import ProbeTask, control_labels
from spacy_bert.analysis.probe_training import ProbeRecipe, TargetSet
from spacy_bert.analysis.probes import EdgeProbes, StackedAMSGrad
from spacy_bert.analysis.token_vectors import TokenVectors

# How much of the labels has been sent after each portion, as in the paper.
SHARES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
RECIPE = ProbeRecipe(epochs=10, rate=1e-3)  # early portions have few batches
LEAST_STEPS = 100  # on a portion, however small
_CHOSEN_BY = 1000  # targets of the development set, that decide when a probe is best
_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeLength:
    """What it costs to send labels to somebody who has the vectors of one layer.

    Attributes:
        portions: Bits of each portion, the first of them in the uniform code, (portions, layers);
            layer 0 is the embeddings.
        uniform: Bits of all labels in the uniform code: each of `classes` costs the same.
        targets: How many labels were sent.
        classes: How many different ones there are; of tasks with several labels at once, how many
            sets of labels.
    """

    portions: np.ndarray
    uniform: float
    targets: int
    classes: int

    @property
    def bits(self) -> np.ndarray:
        """The length of the whole code, (layers,)."""
        return np.asarray(self.portions.sum(axis=0))

    @property
    def compression(self) -> np.ndarray:
        """How many times shorter than the uniform code it is, (layers,); 1 of random labels."""
        return np.asarray(self.uniform / self.bits)


@dataclass(frozen=True, kw_only=True, eq=False)
class OnlineCode:
    """The code of a task, and of its control.

    Attributes:
        task: Name of the task.
        code: Of the task's labels.
        control: Of labels drawn at random for each word, at the same spans.
    """

    task: str
    code: CodeLength
    control: CodeLength


def online_code(
    nlp: Language,
    train: Sequence[Doc],
    dev: Sequence[Doc],
    task: ProbeTask,
    *,
    component: str | None = None,
    recipe: ProbeRecipe = RECIPE,
    progress: Callable[[int], object] = lambda _: None,
) -> OnlineCode:
    """The online code of a task's labels and of its control's, from each layer of an encoder.

    Args:
        nlp: A pipeline with an encoder, which is not changed.
        train: Annotated Docs, whose labels are sent.
        dev: Annotated Docs that tell when a probe has learned enough.
        task: What is asked.
        component: Name of the component whose encoder is meant, if there are several.
        recipe: How the probes of each portion are trained.
        progress: Called with 1 for each Doc that was encoded and each batch that was learned.

    Raises:
        ValueError: If the Docs give the task nothing to ask, or but one answer.
    """
    together = [*train, *dev]
    known = [task.targets(doc) for doc in together]
    drawn = control_labels(together, known, seed=recipe.seed) if any(known) else known
    with TokenVectors(nlp, together, component=component, progress=progress) as vectors:
        own, control = (
            code_length(
                vectors,
                task,
                TargetSet.of(targets[: len(train)], 0),
                TargetSet.of(targets[len(train) :], len(train)),
                recipe=recipe,
                progress=progress,
            )
            for targets in (known, drawn)
        )
    return OnlineCode(task=task.name, code=own, control=control)


def code_length(
    vectors: TokenVectors,
    task: ProbeTask,
    train: TargetSet,
    dev: TargetSet,
    *,
    recipe: ProbeRecipe = RECIPE,
    progress: Callable[[int], object] = lambda _: None,
) -> CodeLength:
    """The online code of some labels, from each layer.

    Args:
        vectors: Of all Docs.
        task: What is asked.
        train: The labels that are sent, in random order.
        dev: Targets that tell when a probe has learned enough.
        recipe: How the probes of each portion are trained.
        progress: Called with 1 for each batch that was learned.

    Raises:
        ValueError: If there are fewer than two classes, or a set is empty.
    """
    kinds = sorted({target.labels for target in (*train.targets, *dev.targets)})
    if len(kinds) < 2 or not train.targets or not dev.targets:
        raise ValueError(
            f"{len(train.targets)} training and {len(dev.targets)} development targets of "
            f"{task.name!r} have {len(kinds)} kinds of labels: nothing to tell apart"
        )
    number = {labels: place for place, labels in enumerate(kinds)}
    sent, scored = (
        _Asked(vectors, found, torch.tensor([number[t.labels] for t in found.targets]))
        for found in (train, dev)
    )
    size, price = len(train.targets), math.log2(len(kinds))
    ends = sorted({max(round(share * size), 1) for share in SHARES})
    portions = [np.full(vectors.layers, ends[0] * price)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        order = torch.randperm(size).tolist()
        judges = torch.randperm(len(dev.targets))[:_CHOSEN_BY].tolist()
        for start, end in pairwise(ends):
            probes = EdgeProbes(
                torch.eye(vectors.layers, dtype=torch.bool),
                width=vectors.width,
                labels=len(kinds),
                pairs=task.pairs,
                symmetric=task.symmetric,
            )
            _learn(probes, sent, order[:start], scored, judges, recipe, progress)
            portions.append(_nats(probes, sent, order[start:end]) / math.log(2.0))
    return CodeLength(
        portions=np.stack(portions), uniform=size * price, targets=size, classes=len(kinds)
    )


@dataclass(frozen=True, eq=False)
class _Asked:
    """Targets, and the class of each, (targets,) int64."""

    vectors: TokenVectors
    found: TargetSet
    gold: Tensor

    def losses(self, probes: EdgeProbes, index: Sequence[int]) -> Tensor:
        """What the classes of some targets cost each probe, in nats, (probes, targets)."""
        logits = probes(*self.found.spans(self.vectors, index))
        gold = self.gold[list(index)].expand(len(logits), -1)
        return F.cross_entropy(logits.transpose(1, 2), gold, reduction="none")


def _learn(
    probes: EdgeProbes,
    sent: _Asked,
    known: Sequence[int],
    scored: _Asked,
    judges: Sequence[int],
    recipe: ProbeRecipe,
    progress: Callable[[int], object],
) -> None:
    """Train all probes on what was sent; of each, keep the weights that cost the judges least."""
    with torch.no_grad():  # the uniform code to begin with: no probe is worse on the judges
        probes.output.weight.zero_()
        probes.output.bias.zero_()
    optimizer = StackedAMSGrad(probes, rate=recipe.rate, clip=recipe.clip)
    kept = {name: value.detach().clone() for name, value in probes.named_parameters()}
    least = _nats(probes, scored, judges)
    batches = -(-len(known) // recipe.batch_size)
    steps = max(recipe.passes(len(known)) * batches, LEAST_STEPS)
    every, waited = max(batches // recipe.checks, recipe.checks), 0
    order: list[int] = []
    for step in range(1, steps + 1):
        order = order or [known[i] for i in torch.randperm(len(known)).tolist()]
        batch, order = order[: recipe.batch_size], order[recipe.batch_size :]
        sent.losses(probes.train(), batch).mean(dim=1).sum().backward()  # probes share nothing
        optimizer.step()
        progress(1)
        if step % every and step != steps:
            continue
        now = _nats(probes, scored, judges)
        better = torch.from_numpy(now < least)
        for name, value in probes.named_parameters():
            kept[name][better] = value.detach()[better]
        waited = 0 if better.any() else waited + 1
        least = np.minimum(least, now)
        if waited == recipe.patience:
            break
    with torch.no_grad():
        for name, value in probes.named_parameters():
            value.copy_(kept[name])


@torch.inference_mode()
def _nats(probes: EdgeProbes, asked: _Asked, index: Sequence[int]) -> np.ndarray:
    """What the classes of some targets cost, (probes,) float64."""
    probes.eval()
    total = np.zeros(len(probes.layers))
    for start in range(0, len(index), _AT_ONCE):
        losses = asked.losses(probes, index[start : start + _AT_ONCE])
        total += losses.double().sum(dim=1).numpy()
    return total
