"""Edge probes and linear ones, any number of them at once: each on its own mixture of layers.

Tenney et al. 2019 (arXiv 1905.06316), section 3; scalar mixture: Tenney et al. 2019 (arXiv
1905.05950), equation 1; linear probes: Hewitt & Liang 2019 (arXiv 1909.03368), section 3.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PROJECTION = HIDDEN = 256
DROPOUT = 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class SpanBatch:
    """Spans of some targets, and the vectors of their tokens.

    Attributes:
        vectors: (tokens, layers, width), span after span.
        lengths: Tokens of each span, (targets,), on the host.
    """

    vectors: Tensor
    lengths: list[int]


class Stacked(nn.Module):
    """A linear layer for each of several probes, as one product."""

    def __init__(self, probes: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(probes, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(probes, 1, outputs).uniform_(-bound, bound))

    def forward(self, rows: Tensor) -> Tensor:
        """(probes, rows, inputs) -> (probes, rows, outputs)."""
        return torch.baddbmm(self.bias, rows, self.weight)


class Probes(nn.Module):
    """Mixtures of layers, one for each of several probes that know nothing of each other.

    Args:
        layers: Which layers each probe may read, (probes, layers) bool; of several, it learns a
            weighted sum.
    """

    def __init__(self, layers: Tensor) -> None:
        super().__init__()
        self.layers: Tensor
        self.register_buffer("layers", layers)
        self.mixture = nn.Parameter(torch.zeros(layers.shape))
        self.scale = nn.Parameter(torch.ones(len(layers), 1, 1))

    def weights(self) -> Tensor:
        """How much of each layer each probe reads, (probes, layers); rows sum to 1."""
        return self.mixture.masked_fill(~self.layers, float("-inf")).softmax(dim=1)

    def mix(self, vectors: Tensor) -> Tensor:
        """(tokens, layers, width) -> (probes, tokens, width)."""
        single = self.layers.sum(dim=1) == 1
        scale = torch.where(single[:, None, None], 1.0, self.scale)
        return torch.einsum("pl,tlw->ptw", self.weights(), vectors) * scale

    @abstractmethod
    def forward(self, first: SpanBatch, second: SpanBatch | None = None) -> Tensor:
        """Logits of all labels, (probes, targets, labels)."""


class LinearProbes(Probes):
    """Probes that decide each label by a linear map of the mean vector of each span.

    Args:
        layers: Which layers each probe may read, (probes, layers) bool.
        width: Of the vectors.
        labels: How many there are.
        pairs: Whether there are two spans.
    """

    def __init__(self, layers: Tensor, *, width: int, labels: int, pairs: bool) -> None:
        super().__init__(layers)
        self.output = Stacked(len(layers), width * (2 if pairs else 1), labels)

    def forward(self, first: SpanBatch, second: SpanBatch | None = None) -> Tensor:
        """Logits of all labels, (probes, targets, labels)."""
        means = [self._mean(spans) for spans in (first, second) if spans is not None]
        logits: Tensor = self.output(torch.cat(means, dim=-1))
        return logits

    def _mean(self, spans: SpanBatch) -> Tensor:
        """(tokens, layers, width) -> (probes, targets, width)."""
        mixed = self.mix(spans.vectors)
        if max(spans.lengths, default=0) <= 1:
            return mixed
        lengths = torch.tensor(spans.lengths, device=mixed.device)
        owner = torch.arange(len(lengths), device=mixed.device).repeat_interleave(lengths)
        sums = mixed.new_zeros(len(mixed), len(lengths), mixed.shape[-1])
        return sums.index_add(1, owner, mixed) / lengths[:, None]


class EdgeProbes(Probes):
    """Edge probes.

    A probe mixes layers, projects each token (to 256, apart for the two spans), pools a span by
    attention, and decides each label by an MLP (256 wide, tanh, LayerNorm, dropout .3) and a
    sigmoid.

    Args:
        layers: Which layers each probe may read, (probes, layers) bool.
        width: Of the vectors.
        labels: How many there are.
        pairs: Whether there are two spans.
        symmetric: Whether both are projected alike.
    """

    def __init__(
        self, layers: Tensor, *, width: int, labels: int, pairs: bool, symmetric: bool
    ) -> None:
        super().__init__(layers)
        probes = len(layers)
        count = 2 if pairs and not symmetric else 1
        self.projections = nn.ModuleList(Stacked(probes, width, PROJECTION) for _ in range(count))
        self.scores = nn.ModuleList(Stacked(probes, PROJECTION, 1) for _ in range(count))
        self.hidden = Stacked(probes, PROJECTION * (2 if pairs else 1), HIDDEN)
        self.norm_weight = nn.Parameter(torch.ones(probes, 1, HIDDEN))
        self.norm_bias = nn.Parameter(torch.zeros(probes, 1, HIDDEN))
        self.output = Stacked(probes, HIDDEN, labels)

    def forward(self, first: SpanBatch, second: SpanBatch | None = None) -> Tensor:
        """Logits of all labels, (probes, targets, labels)."""
        pooled = [self._pool(first, 0)]
        if second is not None:
            pooled.append(self._pool(second, len(self.projections) - 1))
        rows = torch.tanh(self.hidden(torch.cat(pooled, dim=-1)))
        rows = F.layer_norm(rows, (HIDDEN,)) * self.norm_weight + self.norm_bias
        logits: Tensor = self.output(F.dropout(rows, DROPOUT, self.training))
        return logits

    def _pool(self, spans: SpanBatch, place: int) -> Tensor:
        """(tokens, layers, width) -> (probes, targets, 256)."""
        mixed = self.mix(spans.vectors)
        projected = self.projections[place](mixed)
        if max(spans.lengths, default=0) <= 1:
            pooled: Tensor = projected
            return pooled
        scores = self.scores[place](projected)
        longest = max(spans.lengths)
        lengths = torch.tensor(spans.lengths, device=mixed.device)
        inside = torch.arange(longest, device=mixed.device) < lengths[:, None]
        shape = len(projected), *inside.shape
        grid = scores.new_full(shape, float("-inf"))
        grid[:, inside] = scores.squeeze(-1)
        values = projected.new_zeros(*shape, PROJECTION)
        values[:, inside] = projected
        return torch.einsum("pst,pstw->psw", grid.softmax(dim=-1), values)


class StackedAMSGrad:
    """Adam with AMSGrad (Reddi et al. 2018) where each probe has a rate and a clip of its own.

    Args:
        module: All its parameters have the probes as first dimension.
        rate: Learning rate of every probe to begin with.
        clip: Greatest norm of a probe's gradient.
    """

    def __init__(self, module: nn.Module, *, rate: float, clip: float) -> None:
        self._stacked = list(module.parameters())
        count = len(self._stacked[0])
        self.rates = torch.full((count,), rate)
        self._clip = clip
        # Views: what the optimizer writes to them stands in the stacked parameters.
        self._probes = [[nn.Parameter(p.data[i]) for p in self._stacked] for i in range(count)]
        self._optimizer = torch.optim.Adam(
            [{"params": own} for own in self._probes], lr=rate, amsgrad=True, fused=True
        )

    def step(self) -> None:
        """Update all parameters and drop their gradients."""
        gradients = [p.grad for p in self._stacked if p.grad is not None]
        norms = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]
        factors = (self._clip / (torch.stack(norms).norm(dim=0) + 1e-6)).clamp_max(1.0)
        if float(factors.min()) < 1.0:
            for gradient in gradients:
                gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))
        for number, own in enumerate(self._probes):
            for view, stacked in zip(own, self._stacked, strict=True):
                view.grad = None if stacked.grad is None else stacked.grad[number]
            self._optimizer.param_groups[number]["lr"] = float(self.rates[number])
        self._optimizer.step()
        for parameter in self._stacked:
            parameter.grad = None
