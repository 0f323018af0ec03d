"""The encoder: embeddings and a stack of post-LayerNorm transformer layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spacy_bert.bert.attention import AttentionPlan, packed_attention, select_backend
from spacy_bert.bert.config import BertConfig
from spacy_bert.bert.edits import AttentionEdit, Edits
from spacy_bert.bert.packed import PackedBatch


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderOutput:
    """What the encoder gives back; rows stand in the order of the batch.

    Attributes:
        last_hidden_state: (total, hidden size), or only the rows asked for.
        hidden_states: embeddings and every layer's output, layers + 1 tensors of
            (total, hidden size), if asked for.
        attentions: for every layer, for every sequence, (heads, length, length), if asked for;
            without the heads that were pruned.
    """

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[tuple[Tensor, ...], ...] | None = None


class Embeddings(nn.Module):
    """Sum of wordpiece, position and segment embeddings (Devlin et al. 2018, figure 2)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.piece = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.segment = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, pieces: Tensor, positions: Tensor, segments: Tensor) -> Tensor:
        """Three (total,) index tensors -> (total, hidden size)."""
        summed = self.piece(pieces) + self.segment(segments) + self.position(positions)
        normed: Tensor = self.dropout(self.norm(summed))
        return normed


class ResidualProjection(nn.Module):
    """A projection back to the hidden size, whose result is added to what went past it."""

    def add_to(self, residual: Tensor, x: Tensor, dropout: nn.Dropout) -> Tensor:
        """(..., hidden size) and (..., in) -> residual + dropout(projection of x)."""
        total: Tensor = residual + dropout(self(x))
        return total


class ResidualLinear(ResidualProjection, nn.Linear):
    """The projection with which the network is trained."""


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection and a gate on every head.

    The layer adds what `output` makes of the heads' outputs to the residual stream.

    Args:
        config: of the network.
        heads: how many there are; without any, the output projection's bias is left.
    """

    def __init__(self, config: BertConfig, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.width = heads * config.head_size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about weights without elements
            self.qkv = nn.Linear(config.hidden_size, 3 * self.width)
            self.output = ResidualLinear(self.width, config.hidden_size)
        self.dropout = config.attention_probs_dropout_prob

    def forward(
        self,
        hidden: Tensor,
        plan: AttentionPlan,
        gates: Tensor | None,
        rows: Tensor | None = None,
        edit: AttentionEdit | None = None,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """(total, hidden size) -> the heads' outputs, and the weights if the plan asks for them.

        They are (total, heads * head size), or with `rows`, (rows,), of these rows alone. `gates`,
        (heads,) or (total, heads), multiplies them. `edit` changes the weights.
        """
        if not self.heads:
            count = len(hidden) if rows is None else len(rows)
            none = [hidden.new_zeros(0, length, length) for length in plan.lengths]
            return hidden.new_zeros(count, 0), none if plan.weights else None
        qkv = self.qkv(hidden).unflatten(-1, (3, self.heads, -1))
        dropout = self.dropout if self.training else 0.0
        context, weights = packed_attention(qkv, plan, dropout=dropout, edit=edit)
        if gates is not None:
            context = context * gates.unsqueeze(-1)
        if rows is not None:
            context = context[rows]
        return context.flatten(1), weights


class FeedForward(nn.Module):
    """Position-wise feed-forward network."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = ResidualLinear(config.intermediate_size, config.hidden_size)
        self.activation = activation(config.hidden_act)

    def forward(self, hidden: Tensor, dropout: nn.Dropout) -> Tensor:
        """(total, hidden size) -> the same, with what went in added."""
        return self.down.add_to(hidden, self.activation(self.up(hidden)), dropout)


class BertLayer(nn.Module):
    """Attention and feed-forward, each with dropout, residual and LayerNorm after it."""

    def __init__(self, config: BertConfig, heads: int) -> None:
        super().__init__()
        self.attention = SelfAttention(config, heads)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden: Tensor,
        plan: AttentionPlan,
        gates: Tensor | None,
        rows: Tensor | None = None,
        edit: AttentionEdit | None = None,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """(total, hidden size) -> the same, and the attention weights if planned.

        With `rows`, (rows,), only these go on behind the attention: -> (rows, hidden size). `edit`
        changes the attention weights.
        """
        context, weights = self.attention(hidden, plan, gates, rows, edit)
        if rows is not None:
            hidden = hidden[rows]
        attended = self.attention.output.add_to(hidden, context, self.dropout)
        hidden = self.attention_norm(attended)
        hidden = self.feed_forward_norm(self.feed_forward(hidden, self.dropout))
        return hidden, weights


class Pooler(nn.Module):
    """tanh(W h + b) of the [CLS] vector."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, cls: Tensor) -> Tensor:
        """(sequences, hidden size) -> (sequences, hidden size)."""
        return torch.tanh(self.dense(cls))


class BertModel(nn.Module):
    """The BERT encoder over packed batches (Devlin et al. 2018, section 3).

    `pooler` belongs to the checkpoint but not to the forward pass: heads that read [CLS] use it
    or copy it. It is None where a checkpoint has none.
    """

    def __init__(self, config: BertConfig, *, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(
            BertLayer(config, len(config.kept_heads(layer)))
            for layer in range(config.num_hidden_layers)
        )
        self.pooler = Pooler(config.hidden_size) if pooler else None
        self.compute_dtype: torch.dtype | None = None  # of the layers, if not that of the weights
        initialize(self, std=config.initializer_range)

    def forward(
        self,
        batch: PackedBatch,
        *,
        gates: Tensor | None = None,
        rows: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        edits: Edits | None = None,
    ) -> EncoderOutput:
        """Encode a packed batch.

        Args:
            batch: the sequences, on the network's device.
            gates: multipliers of the heads' outputs, (layers, heads), or one set for each
                sequence, (sequences, layers, heads); those of pruned heads do nothing.
            rows: flat indices of the pieces whose last vector is wanted, (rows,) int64: the last
                layer then does most of its work for these alone.
            output_hidden_states: give every layer's output.
            output_attentions: give every head's attention weights (slower: they are written out).
            edits: what is changed on the way, for analyses.

        Raises:
            ValueError: if a sequence is longer than the network has positions, the gates have
                another shape, or `rows` are asked for together with hidden states or edits.
        """
        if rows is not None and (output_hidden_states or edits is not None):
            raise ValueError("rows go together neither with output_hidden_states nor with edits")
        edits = edits or Edits()
        plan = self.plan(batch, weights=output_attentions, explicit=bool(edits.attention))
        layer_gates = self._layer_gates(gates, batch, plan)
        hidden = _changed(self.embed(batch, plan), plan, edits, 0)
        states, attentions = [hidden], []
        last = self.layers[-1]
        wanted = None if rows is None else plan.rows(rows)
        for number, (layer, gate) in enumerate(zip(self.layers, layer_gates, strict=True)):
            hidden, weights = layer(
                hidden, plan, gate, wanted if layer is last else None, edits.attention.get(number)
            )
            hidden = _changed(hidden, plan, edits, number + 1)
            if output_hidden_states:
                states.append(hidden)
            if weights is not None:
                attentions.append(_in_batch_order(weights, plan))
        return EncoderOutput(
            last_hidden_state=plan.restore(hidden) if rows is None else hidden,
            hidden_states=tuple(map(plan.restore, states)) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def plan(
        self, batch: PackedBatch, *, weights: bool = False, explicit: bool = False
    ) -> AttentionPlan:
        """How the pieces of a batch attend to each other.

        Args:
            batch: the sequences.
            weights: whether the attention weights are wanted.
            explicit: whether the softmax must be written out all the same.

        Raises:
            ValueError: if there is no sequence, or one is longer than the network has positions.
        """
        if not batch.lengths:
            raise ValueError("The batch holds no sequence")
        longest = max(batch.lengths)
        if longest > self.config.max_position_embeddings:
            raise ValueError(
                f"A sequence has {longest} pieces, the network has positions for "
                f"{self.config.max_position_embeddings}: cut it into windows"
            )
        device = batch.pieces.device
        return AttentionPlan.build(
            batch.lengths,
            backend=select_backend(
                device=device,
                dtype=self._compute_dtype(device),
                dropout=self._attention_dropout,
                weights=weights or explicit,
            ),
            device=device,
            longest=self.config.max_position_embeddings,
            causal=self.config.is_decoder,
            weights=weights,
        )

    def embed(self, batch: PackedBatch, plan: AttentionPlan) -> Tensor:
        """The embeddings of a batch, in the layers' order, (total, hidden size)."""
        embedded: Tensor = self.embeddings(
            plan.arrange(batch.pieces), plan.arrange(batch.positions), plan.arrange(batch.segments)
        )
        return embedded

    def through(
        self, hidden: Tensor, plan: AttentionPlan, *, first: int = 0, last: int | None = None
    ) -> Tensor:
        """Some of the layers alone, for analyses; (total, hidden size) in the layers' order.

        Args:
            hidden: what the layer before gave, or the embeddings.
            plan: of the batch.
            first: layer to begin with, from 0.
            last: layer to stop before; None goes through to the end.
        """
        for layer in self.layers[first:last]:
            hidden, _ = layer(hidden, plan, None)
        return hidden

    def set_dropout(self, rate: float) -> None:
        """Use one dropout rate everywhere, attention included, from the next pass on."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate
            elif isinstance(module, SelfAttention):
                module.dropout = rate

    @property
    def _attention_dropout(self) -> float:
        first = self.layers[0]
        assert isinstance(first, BertLayer)
        return first.attention.dropout if self.training else 0.0

    def _compute_dtype(self, device: torch.device) -> torch.dtype:
        if torch.is_autocast_enabled(device.type):
            return torch.get_autocast_dtype(device.type)
        return self.compute_dtype or self.embeddings.piece.weight.dtype

    def _layer_gates(
        self, gates: Tensor | None, batch: PackedBatch, plan: AttentionPlan
    ) -> list[Tensor | None]:
        if gates is None:
            return [None] * len(self.layers)
        shape = (len(self.layers), self.config.num_attention_heads)
        if tuple(gates.shape) == shape:
            return [self._kept(gate, layer) for layer, gate in enumerate(gates.unbind(0))]
        if tuple(gates.shape) == (len(batch.lengths), *shape):
            expanded = plan.expand(gates).unbind(1)
            return [self._kept(gate, layer) for layer, gate in enumerate(expanded)]
        raise ValueError(
            f"gates have shape {tuple(gates.shape)}; they should be (layers, heads) = {shape} "
            f"or (sequences, layers, heads) = {(len(batch.lengths), *shape)}"
        )

    def _kept(self, gates: Tensor, layer: int) -> Tensor:
        """Of the gates of a layer, (..., heads), those of heads that are not pruned."""
        kept = self.config.kept_heads(layer)
        return gates if len(kept) == gates.shape[-1] else gates[..., kept]


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The feed-forward activation that `config.json` calls `name`."""
    if name == "relu":
        return F.relu
    if name == "gelu":
        return F.gelu
    return lambda x: F.gelu(x, approximate="tanh")


def activation_in_place(name: str) -> Callable[[Tensor], Tensor]:
    """The same for predictions: it overwrites what it is given."""
    if name == "relu":
        return torch.relu_
    gelu_: Callable[..., Tensor] = torch.ops.aten.gelu_
    return gelu_ if name == "gelu" else lambda x: gelu_(x, approximate="tanh")


def initialize(module: nn.Module, *, std: float) -> None:
    """Draw weights as the reference code does: truncated normal, biases 0, LayerNorm 1."""
    for child in module.modules():
        if isinstance(child, (nn.Linear, nn.Embedding)) and child.weight.numel():
            nn.init.trunc_normal_(child.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(child, nn.Linear) and child.bias is not None:
            nn.init.zeros_(child.bias)


def _changed(hidden: Tensor, plan: AttentionPlan, edits: Edits, layer: int) -> Tensor:
    edit = edits.states.get(layer)
    return hidden if edit is None else plan.arrange(edit(plan.restore(hidden)))


def _in_batch_order(weights: list[Tensor], plan: AttentionPlan) -> tuple[Tensor, ...]:
    back = np.argsort(plan.sequence_order)
    return tuple(weights[i] for i in back)
