"""The encoder: embeddings and a stack of post-LayerNorm transformer layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spacy_bert.bert.attention import AttentionPlan, packed_attention, select_backend
from spacy_bert.bert.config import BertConfig
from spacy_bert.bert.packed import PackedBatch


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderOutput:
    """What the encoder gives back; rows stand in the order of the batch.

    Attributes:
        last_hidden_state: (total, hidden size), or only the rows asked for.
        hidden_states: embeddings and every layer's output, layers + 1 tensors of
            (total, hidden size), if asked for.
        attentions: for every layer, for every sequence, (heads, length, length), if asked for.
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


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection and a gate on every head."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = config.attention_probs_dropout_prob

    def forward(
        self,
        hidden: Tensor,
        plan: AttentionPlan,
        gates: Tensor | None,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """(total, hidden size) -> the same, and the weights if the plan is `explicit`.

        `gates`, (heads,) or (total, heads), multiplies the heads' outputs before the output
        projection. With `rows`, (rows,), only these are projected: -> (rows, hidden size).
        """
        qkv = self.qkv(hidden).unflatten(-1, (3, self.heads, -1))
        dropout = self.dropout if self.training else 0.0
        context, weights = packed_attention(qkv, plan, dropout=dropout)
        if gates is not None:
            context = context * gates.unsqueeze(-1)
        if rows is not None:
            context = context[rows]
        return self.output(context.flatten(1)), weights


class FeedForward(nn.Module):
    """Position-wise feed-forward network."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = activation(config.hidden_act)

    def forward(self, hidden: Tensor) -> Tensor:
        """(total, hidden size) -> (total, hidden size)."""
        projected: Tensor = self.down(self.activation(self.up(hidden)))
        return projected


class BertLayer(nn.Module):
    """Attention and feed-forward, each with dropout, residual and LayerNorm after it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
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
    ) -> tuple[Tensor, list[Tensor] | None]:
        """(total, hidden size) -> the same, and the attention weights if planned.

        With `rows`, (rows,), only these go on behind the attention: -> (rows, hidden size).
        """
        attended, weights = self.attention(hidden, plan, gates, rows)
        if rows is not None:
            hidden = hidden[rows]
        hidden = self.attention_norm(hidden + self.dropout(attended))
        hidden = self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))
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
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))
        self.pooler = Pooler(config.hidden_size) if pooler else None
        initialize(self, std=config.initializer_range)

    def forward(
        self,
        batch: PackedBatch,
        *,
        gates: Tensor | None = None,
        rows: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> EncoderOutput:
        """Encode a packed batch.

        Args:
            batch: the sequences, on the network's device.
            gates: multipliers of the heads' outputs, (layers, heads), or one set for each
                sequence, (sequences, layers, heads).
            rows: flat indices of the pieces whose last vector is wanted, (rows,) int64: the last
                layer then does most of its work for these alone.
            output_hidden_states: give every layer's output.
            output_attentions: give every head's attention weights (slower: they are written out).

        Raises:
            ValueError: if a sequence is longer than the network has positions, the gates have
                another shape, or `rows` are asked for together with hidden states.
        """
        if rows is not None and output_hidden_states:
            raise ValueError("rows and output_hidden_states do not go together")
        if not batch.lengths:
            raise ValueError("The batch holds no sequence")
        longest = max(batch.lengths)
        if longest > self.config.max_position_embeddings:
            raise ValueError(
                f"A sequence has {longest} pieces, the network has positions for "
                f"{self.config.max_position_embeddings}: cut it into windows"
            )
        plan = AttentionPlan.build(
            batch.lengths,
            backend=select_backend(
                device=batch.pieces.device,
                dtype=self._compute_dtype(batch.pieces.device),
                dropout=self._attention_dropout,
                weights=output_attentions,
            ),
            device=batch.pieces.device,
            longest=self.config.max_position_embeddings,
            causal=self.config.is_decoder,
            weights=output_attentions,
        )
        layer_gates = self._layer_gates(gates, batch, plan)
        hidden = self.embeddings(
            plan.arrange(batch.pieces), plan.arrange(batch.positions), plan.arrange(batch.segments)
        )
        states, attentions = [hidden], []
        last = self.layers[-1]
        wanted = None if rows is None else plan.rows(rows)
        for layer, gate in zip(self.layers, layer_gates, strict=True):
            hidden, weights = layer(hidden, plan, gate, wanted if layer is last else None)
            if output_hidden_states:
                states.append(hidden)
            if weights is not None:
                attentions.append(_in_batch_order(weights, plan))
        return EncoderOutput(
            last_hidden_state=plan.restore(hidden) if rows is None else hidden,
            hidden_states=tuple(map(plan.restore, states)) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

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
        return self.embeddings.piece.weight.dtype

    def _layer_gates(
        self, gates: Tensor | None, batch: PackedBatch, plan: AttentionPlan
    ) -> list[Tensor | None]:
        if gates is None:
            return [None] * len(self.layers)
        shape = (len(self.layers), self.config.num_attention_heads)
        if tuple(gates.shape) == shape:
            return list(gates.unbind(0))
        if tuple(gates.shape) == (len(batch.lengths), *shape):
            return list(plan.expand(gates).unbind(1))
        raise ValueError(
            f"gates have shape {tuple(gates.shape)}; they should be (layers, heads) = {shape} "
            f"or (sequences, layers, heads) = {(len(batch.lengths), *shape)}"
        )


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The feed-forward activation that `config.json` calls `name`."""
    if name == "relu":
        return F.relu
    if name == "gelu":
        return F.gelu
    return lambda x: F.gelu(x, approximate="tanh")


def initialize(module: nn.Module, *, std: float) -> None:
    """Draw weights as the reference code does: truncated normal, biases 0, LayerNorm 1."""
    for child in module.modules():
        if isinstance(child, (nn.Linear, nn.Embedding)):
            nn.init.trunc_normal_(child.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(child, nn.Linear) and child.bias is not None:
            nn.init.zeros_(child.bias)


def _in_batch_order(weights: list[Tensor], plan: AttentionPlan) -> tuple[Tensor, ...]:
    back = np.argsort(plan.sequence_order)
    return tuple(weights[i] for i in back)
