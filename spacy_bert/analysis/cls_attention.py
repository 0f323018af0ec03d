"""Does attention explain a decision? Permuted and adversarial attention of [CLS].

Jain & Wallace 2019, on the last layer: only its rows of [CLS] reach a head that reads [CLS].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from torch import Tensor

from spacy_bert.analysis.task_head import TaskHead
from spacy_bert.bert import BertModel, PackedBatch
from spacy_bert.bert.attention import AttentionPlan
from spacy_bert.bert.encoder import BertLayer
from spacy_bert.models.batch import Chunks
from spacy_bert.models.heads import Head, head_shim
from spacy_bert.models.layout import DocLayout
from spacy_bert.pipeline.choice import BertChoice
from spacy_bert.pipeline.textcat import BertTextCategorizer

Progress = Callable[[int], object]

TOKENS = 1024  # of Docs that are looked at at once
_RATE = 0.1  # of Adam, on the logits of the attention
_PENALTY = 50.0  # for each unit of total variation above what is allowed
_NOISE = 0.5  # the original attention itself is a stationary point of the distance from it


@dataclass(frozen=True, kw_only=True, eq=False)
class PermutedAttention:
    """How much outputs change when [CLS]'s attention goes to other places.

    Attributes:
        peaks: The greatest attention weight of [CLS] in the last layer, the mean over heads and
            windows, (Docs,) float64.
        changes: The median over permutations of the total variation distance between the outputs,
            (Docs,) float64; 0: the attention might as well be elsewhere, 1: another decision.
        count: How many permutations were drawn of each Doc.
    """

    peaks: np.ndarray
    changes: np.ndarray
    count: int


@dataclass(frozen=True, kw_only=True, eq=False)
class AdversarialAttention:
    """How far [CLS]'s attention can move while the output stays.

    Attributes:
        distances: The greatest Jensen-Shannon divergence that was found from the original
            attention, the mean over heads and windows, (Docs,) float64, in nats (ln 2 at most).
        changes: The total variation distance between the outputs, (Docs,) float64.
        epsilon: What it may be at most.
    """

    distances: np.ndarray
    changes: np.ndarray
    epsilon: float


def permute_attention(
    nlp: Language,
    docs: Iterable[Doc | str],
    component: str | None = None,
    *,
    count: int = 100,
    seed: int = 0,
    progress: Progress = lambda more: None,
) -> PermutedAttention:
    """Shuffle the weights with which [CLS] attends in the last layer (Jain & Wallace 2019, 4.2.1).

    Each permutation is one of places, the same in all heads of a window.

    Args:
        nlp: The pipeline.
        docs: Docs or texts; those without tokens are left out.
        component: A `bert_textcat` of exclusive classes or a `bert_choice`; None for the only one.
        count: Permutations of each Doc.
        seed: Of the random generator.
        progress: Called with 1 for each Doc that was read.

    Raises:
        ValueError: If the component does not read [CLS] alone, there is no Doc, or `count` is
            below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    head = _require_cls(TaskHead.find(nlp, component))
    rng = np.random.default_rng(seed)
    peaks: list[float] = []
    changes: list[float] = []
    for batch in _batches(nlp, docs, progress):
        row = ClsRows(head, batch)
        peaks += row.mean_by_doc([weights.amax(-1).mean() for weights in row.original]).tolist()
        drawn = []
        for _ in range(count):
            places = [torch.from_numpy(rng.permutation(w.shape[-1])) for w in row.original]
            moved = [w[:, p] for w, p in zip(row.original, places, strict=True)]
            with torch.no_grad():
                drawn.append(row.changes(moved))
        changes += torch.stack(drawn).median(dim=0).values.tolist()
    return PermutedAttention(peaks=_required(peaks), changes=_required(changes), count=count)


def attack_attention(
    nlp: Language,
    docs: Iterable[Doc | str],
    component: str | None = None,
    *,
    epsilon: float = 0.01,
    steps: int = 200,
    seed: int = 0,
    progress: Progress = lambda more: None,
) -> AdversarialAttention:
    """Find attention as far as can be from the original that leaves the output as it is.

    All heads' rows of [CLS] in the last layer are moved together by gradient steps (Jain & Wallace
    2019, 4.2.2, with one adversary): the Jensen-Shannon divergence from the original is maximized
    while the total variation distance of the outputs stays within `epsilon`. What is given back
    keeps to that; a Doc for which nothing was found has a distance of 0.

    Args:
        nlp: The pipeline.
        docs: Docs or texts; those without tokens are left out.
        component: A `bert_textcat` of exclusive classes or a `bert_choice`; None for the only one.
        epsilon: By how much the output may change.
        steps: Gradient steps.
        seed: Of the random generator.
        progress: Called with 1 for each Doc that was read.

    Raises:
        ValueError: If the component does not read [CLS] alone, there is no Doc, or a number is out
            of range.
    """
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    head = _require_cls(TaskHead.find(nlp, component))
    generator = torch.Generator().manual_seed(seed)
    distances: list[float] = []
    changes: list[float] = []
    for batch in _batches(nlp, docs, progress):
        row = ClsRows(head, batch)
        far, moved = _attack(row, epsilon, steps, generator)
        distances += far.tolist()
        changes += moved.tolist()
    return AdversarialAttention(
        distances=_required(distances), changes=_required(changes), epsilon=epsilon
    )


class ClsRows:
    """The last layer's attention from [CLS], and the output as a function of it.

    The layers below are run once. Whoever asks for outputs gives the weights of each window,
    (heads, length).

    Args:
        head: A component that reads [CLS] alone.
        docs: The Docs; each has tokens.
    """

    def __init__(self, head: TaskHead, docs: Sequence[Doc]) -> None:
        shim = head.shim
        layouts = cast("list[DocLayout]", shim.lay_out(docs))
        pieces = sum(len(layout.pieces) for layout in layouts)
        chunks = Chunks.build(layouts, max_pieces=pieces, device=shim.device)
        (self._batch,), (windows,) = chunks.batches, chunks.windows
        shim.settle()
        self._head = cast(Head, head_shim(head.pipe.model).module).eval()
        self._last = cast(BertLayer, shim.network.layers[-1])
        with torch.no_grad():
            self._plan, self._below = _below_last(shim.network, self._batch)
        # Of each window, in the order of the batch: its Doc, and what its vector is averaged with.
        lengths = [len(layout.lengths) for layout in layouts]
        docs_of = np.repeat(np.arange(len(docs)), lengths)[windows]
        pairs = np.concatenate([layout.pairs for layout in layouts])[windows]
        if not isinstance(head.pipe, BertChoice):  # all windows of a Doc together
            pairs = np.zeros_like(pairs)
        groups, of_window = np.unique(np.stack([docs_of, pairs]), axis=1, return_inverse=True)
        self._average = _averages(of_window.reshape(-1), shim.device)
        self._doc_average = _averages(docs_of, shim.device)
        # A Doc has one output of all its choices, or one row of classes.
        self._choices = (
            np.bincount(groups[0]).tolist() if isinstance(head.pipe, BertChoice) else None
        )
        self.original = self._weights()
        with torch.no_grad():
            self._outputs = self.probabilities(self.original)

    def probabilities(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """The output of each Doc under these weights of [CLS], (labels,) or (choices,)."""
        vectors = self._average @ self._cls_vectors(weights)
        logits = self._head(vectors)
        if self._choices is None:
            return list(logits.softmax(-1).unbind(0))
        return [each.softmax(0) for each in logits[:, 0].split(self._choices)]

    def changes(self, weights: Sequence[Tensor]) -> Tensor:
        """Total variation distance of each Doc's output from the original one, (Docs,)."""
        pairs = zip(self.probabilities(weights), self._outputs, strict=True)
        return torch.stack([(new - old).abs().sum() / 2 for new, old in pairs])

    def distances(self, weights: Sequence[Tensor]) -> Tensor:
        """Jensen-Shannon divergence from the original, mean over a Doc's heads and windows."""
        pairs = zip(weights, self.original, strict=True)
        return self.mean_by_doc([jensen_shannon(new, old).mean() for new, old in pairs])

    def mean_by_doc(self, of_windows: Sequence[Tensor]) -> Tensor:
        """(windows) numbers -> (Docs,)."""
        return self._doc_average @ torch.stack(list(of_windows))

    def _weights(self) -> list[Tensor]:
        """The original weights, in the order of the batch."""
        found: dict[int, Tensor] = {}

        def note(weights: Tensor, sequences: np.ndarray) -> Tensor:
            found.update(zip(sequences.tolist(), weights[:, :, 0].unbind(0), strict=True))
            return weights

        with torch.no_grad():
            self._last(self._below, self._plan, None, self._cls_places, note)
        return [found[i] for i in range(len(self._batch.lengths))]

    def _cls_vectors(self, weights: Sequence[Tensor]) -> Tensor:
        def put_in(original: Tensor, sequences: np.ndarray) -> Tensor:
            rows = torch.stack([weights[i] for i in sequences.tolist()])
            return torch.cat([rows.unsqueeze(2), original[:, :, 1:]], dim=2)

        hidden, _ = self._last(self._below, self._plan, None, self._cls_places, put_in)
        return cast(Tensor, hidden)

    @property
    def _cls_places(self) -> Tensor:
        return self._plan.rows(torch.from_numpy(self._batch.starts).to(self._below.device))


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence of distributions over the last axis, in nats; ln 2 at most."""
    middle = (p + q) / 2
    return (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2


def _relative_entropy(p: Tensor, q: Tensor) -> Tensor:
    tiny = torch.finfo(p.dtype).tiny
    return (p * (p.clamp_min(tiny).log() - q.clamp_min(tiny).log())).sum(-1)


def _attack(
    row: ClsRows, epsilon: float, steps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Distance and change of output of the farthest attention within `epsilon`, (Docs,) each."""
    tiny = torch.finfo(torch.float32).tiny
    logits = []
    for weights in row.original:
        noise = torch.randn(weights.shape, generator=generator).to(weights.device)
        start = weights.clamp_min(tiny).log() + _NOISE * noise
        logits.append(start.requires_grad_())
    with torch.no_grad():
        best = row.distances(row.original)
        best_change = row.changes(row.original)
    optimizer = torch.optim.Adam(logits, lr=_RATE)
    for _ in range(steps):
        moved = [each.softmax(-1) for each in logits]
        distances, changes = row.distances(moved), row.changes(moved)
        better = (changes <= epsilon) & (distances > best)
        best = torch.where(better, distances.detach(), best)
        best_change = torch.where(better, changes.detach(), best_change)
        # Docs do not share weights, so that each follows a gradient of its own.
        loss = (_PENALTY * (changes - epsilon).clamp_min(0.0) - distances).sum()
        gradients = torch.autograd.grad(loss, logits)
        for each, gradient in zip(logits, gradients, strict=True):
            each.grad = gradient
        optimizer.step()
    return best, best_change


def _below_last(network: BertModel, batch: PackedBatch) -> tuple[AttentionPlan, Tensor]:
    """The plan of a batch, and the states below the last layer, in the plan's order."""
    plan = network.plan(batch, explicit=True)
    hidden = network.embed(batch, plan)
    for module in network.layers[:-1]:
        hidden, _ = module(hidden, plan, None)
    return plan, hidden


def _averages(groups: np.ndarray, device: torch.device) -> Tensor:
    """The matrix that takes rows to the means of their groups, (groups, rows)."""
    members = groups == np.arange(groups.max() + 1)[:, None]
    means = members / members.sum(axis=1, keepdims=True)
    return torch.from_numpy(means.astype("f")).to(device)


def _batches(nlp: Language, docs: Iterable[Doc | str], progress: Progress) -> Iterator[list[Doc]]:
    """Docs of together so many tokens, or one alone; those without tokens are left out."""
    batch: list[Doc] = []
    for each in docs:
        doc = nlp.make_doc(each) if isinstance(each, str) else each
        if batch and sum(map(len, batch)) + len(doc) > TOKENS:
            yield batch
            batch = []
        if len(doc):
            batch.append(doc)
        progress(1)
    if batch:
        yield batch


def _required(values: Sequence[float]) -> np.ndarray:
    if not values:
        raise ValueError("there is no Doc with tokens to look at: give some")
    return np.array(values, dtype=float)


def _require_cls(head: TaskHead) -> TaskHead:
    """Refuse a component whose output is no distribution that [CLS] alone decides.

    Raises:
        ValueError: Says what is needed.
    """
    pipe = head.pipe
    exclusive = isinstance(pipe, BertTextCategorizer) and pipe.mode == "exclusive"
    reads_cls = any(node.attrs.get("cls_piece") == "first" for node in pipe.model.walk())
    if not (exclusive or isinstance(pipe, BertChoice)) or not reads_cls:
        raise ValueError(
            f"{head.name!r} is no bert_textcat of exclusive classes or bert_choice that reads "
            "[CLS]: the attention of [CLS] decides nothing there"
        )
    if head.shim.network.config.kept_heads(-1 % len(head.shim.network.layers)):
        return head
    raise ValueError("the last layer has no attention heads: they were pruned")
