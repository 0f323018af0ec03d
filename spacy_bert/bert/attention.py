"""Self-attention over packed sequences: one function, three backends.

Only here do sequence borders matter. The backends agree to 1e-5 in fp32:

* ``grouped``: sequences of exactly the same length form one dense batch for
  `scaled_dot_product_attention`. No padding; right on every device and precision. Predictions on
  a CPU take widths that suit its kernel (`aligned`).
* ``varlen``: one call of `torch.nn.attention.varlen.varlen_attn` for all sequences; CUDA,
  half precision, no attention dropout.
* ``explicit``: the softmax written out, when the attention weights themselves are wanted; also for
  training in half precision on a CPU, where its backward pass is three times as fast.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spacy_bert.bert.aligned import aligned_attention
from spacy_bert.bert.edits import AttentionEdit
from spacy_bert.bert.packed import ranges

varlen_attn: Any
try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch < 2.10
    varlen_attn = None
# How it is told to look back only; the argument changed its name.
_CAUSAL: dict[str, Any] = {}
if varlen_attn is not None:
    _windowed = "window_size" in inspect.signature(varlen_attn).parameters
    _CAUSAL = {"window_size": (-1, 0)} if _windowed else {"is_causal": True}

Backend = Literal["grouped", "varlen", "explicit"]


@dataclass(frozen=True, eq=False)
class AttentionPlan:
    """How the rows of a packed batch attend to each other; made once, used by every layer.

    Attributes:
        backend: which of the three ways computes it.
        lengths: sequence lengths in the order in which the layers see them.
        groups: (sequences, length) of each run of equally long sequences, in that order.
        order: rows of the batch in the order in which the layers see them, (total,), or None
            if that is the batch's own order.
        inverse: takes the layers' order back to the batch's, (total,), or None.
        sequence_order: sequences in the order in which the layers see them, on the host.
        borders: cumulative lengths with a leading 0, (sequences + 1,) int32, for `varlen`.
        longest: no sequence is longer; for `varlen`.
        causal: whether a piece attends only to itself and to those before it.
        weights: whether the attention weights are wanted; for `explicit`.
    """

    backend: Backend
    lengths: tuple[int, ...]
    groups: tuple[tuple[int, int], ...]
    order: Tensor | None
    inverse: Tensor | None
    sequence_order: np.ndarray
    borders: Tensor | None
    longest: int
    causal: bool
    weights: bool

    @classmethod
    def build(
        cls,
        lengths: tuple[int, ...],
        *,
        backend: Backend,
        device: torch.device,
        longest: int,
        causal: bool = False,
        weights: bool = False,
    ) -> AttentionPlan:
        """Plan for sequences of the given lengths; sorts them by length unless `varlen`.

        `longest` is a bound that does not change from batch to batch, such as the number of
        positions: a compiled layer is then compiled once.
        """
        sizes = np.asarray(lengths, dtype=np.int64)
        if backend == "varlen":
            borders = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
            return cls(
                backend=backend,
                lengths=lengths,
                groups=(),
                order=None,
                inverse=None,
                sequence_order=np.arange(len(sizes)),
                borders=torch.from_numpy(borders).to(device, non_blocking=True),
                longest=longest,
                causal=causal,
                weights=weights,
            )
        sequence_order = np.argsort(sizes, kind="stable")
        if len(sizes) == 1:  # a text alone should not have to wait for this
            unique, counts = sizes, np.ones(1, dtype=np.int64)
        else:
            unique, counts = np.unique(sizes, return_counts=True)
        sorted_sizes = sizes[sequence_order]
        order = inverse = None
        if (sequence_order[1:] < sequence_order[:-1]).any():
            starts = np.cumsum(sizes) - sizes
            rows = ranges(starts[sequence_order], sorted_sizes)
            back = np.empty_like(rows)
            back[rows] = np.arange(len(rows))
            order = torch.from_numpy(rows).to(device, non_blocking=True)
            inverse = torch.from_numpy(back).to(device, non_blocking=True)
        return cls(
            backend=backend,
            lengths=tuple(sorted_sizes.tolist()),
            groups=tuple(zip(counts.tolist(), unique.tolist(), strict=True)),
            order=order,
            inverse=inverse,
            sequence_order=sequence_order,
            borders=None,
            longest=longest,
            causal=causal,
            weights=weights,
        )

    def arrange(self, rows: Tensor) -> Tensor:
        """Rows of the batch in the layers' order, (total, ...)."""
        return rows if self.order is None else rows[self.order]

    def restore(self, rows: Tensor) -> Tensor:
        """Rows of the layers back in the batch's order, (total, ...)."""
        return rows if self.inverse is None else rows.index_select(0, self.inverse)

    def rows(self, indices: Tensor) -> Tensor:
        """Where rows of the batch stand in the layers' order; any shape."""
        return indices if self.inverse is None else self.inverse[indices]

    def expand(self, per_sequence: Tensor) -> Tensor:
        """One row a sequence (batch order) -> one row a piece (layers' order)."""
        device = per_sequence.device
        rows = np.repeat(self.sequence_order, self.lengths)
        return per_sequence[torch.from_numpy(rows).to(device)]


def select_backend(
    *, device: torch.device, dtype: torch.dtype, dropout: float, weights: bool
) -> Backend:
    """The fastest backend that can do what is asked.

    Args:
        device: where the network lives.
        dtype: precision in which queries, keys and values will come.
        dropout: rate of attention dropout in this pass.
        weights: whether the attention weights are wanted, or changed.
    """
    if weights:
        return "explicit"
    half = dtype in (torch.float16, torch.bfloat16)
    if varlen_attn is not None and device.type == "cuda" and half and dropout == 0.0:
        return "varlen"
    if device.type == "cpu" and half and torch.is_grad_enabled():
        return "explicit"
    return "grouped"


def packed_attention(
    qkv: Tensor, plan: AttentionPlan, *, dropout: float, edit: AttentionEdit | None = None
) -> tuple[Tensor, list[Tensor] | None]:
    """Scaled dot-product attention inside each sequence (Vaswani et al. 2017, section 3.2).

    Args:
        qkv: queries, keys and values, (total, 3, heads, head size), in the plan's order.
        plan: the sequences' borders.
        dropout: rate of attention dropout.
        edit: changes the weights; the plan must be `explicit`.

    Returns:
        The heads' outputs, (total, heads, head size), and the attention weights, one
        (heads, length, length) tensor for each sequence in the plan's order, if the plan asks
        for them. Dropout is not applied to the weights returned.
    """
    if plan.backend == "varlen":
        borders, longest = plan.borders, plan.longest
        query, key, value = qkv.unbind(1)
        options = _CAUSAL if plan.causal else {}
        return varlen_attn(query, key, value, borders, borders, longest, longest, **options), None
    context: list[Tensor] = []
    weights: list[Tensor] = []
    aligned = not dropout and _has_neighbours(qkv, plan)
    start = first = 0
    for count, length in plan.groups:
        if aligned:
            context.append(aligned_attention(qkv, start=start, count=count, length=length))
            start += count * length
            continue
        rows = qkv[start : start + count * length]
        # (count, length, 3, heads, size) -> three views (count, heads, length, size)
        query, key, value = (
            rows.view(count, length, *rows.shape[1:]).permute(2, 0, 3, 1, 4).unbind(0)
        )
        if plan.backend == "explicit":
            scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
            if plan.causal:
                ahead = scores.new_ones(length, length, dtype=torch.bool).triu(1)
                scores = scores.masked_fill(ahead, float("-inf"))
            probabilities = scores.softmax(-1)
            if edit is not None:
                probabilities = edit(probabilities, plan.sequence_order[first : first + count])
            if plan.weights:
                weights.extend(probabilities.unbind(0))
            heads = F.dropout(probabilities, dropout, training=dropout > 0.0) @ value
        else:
            heads = F.scaled_dot_product_attention(
                query, key, value, dropout_p=dropout, is_causal=plan.causal
            )
        context.append(heads.transpose(1, 2).flatten(0, 1))
        start += count * length
        first += count
    joined = context[0] if len(context) == 1 else torch.cat(context)
    return joined, weights if plan.weights else None


def _has_neighbours(qkv: Tensor, plan: AttentionPlan) -> bool:
    """Whether `aligned_attention` can do it, and is faster: a lone sequence gains nothing."""
    return (
        plan.backend == "grouped"
        and len(plan.lengths) > 1
        and not plan.causal
        and qkv.device.type == "cpu"
        and qkv.dtype in (torch.float32, torch.bfloat16)
        and not qkv.requires_grad
    )
