"""Layers for predictions on an x86 CPU: weights laid out once, bias and activation fused in.

oneDNN adds the bias and the residual, or computes the activation, while a block of the product is
still in the cache, and finds the weights in the blocks in which it reads them: to lay them out at
each call costs more than the product itself if there is but one sentence. Beside such a sentence
even the way from module to module takes time, so that a layer goes straight through its parts.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn

from spacy_bert.bert.attention import AttentionPlan, packed_attention
from spacy_bert.bert.edits import AttentionEdit
from spacy_bert.bert.encoder import BertLayer, BertModel, ResidualLinear, ResidualProjection

ROWS = 1024  # about as many as a call has in a stream of texts
# What config.json calls an activation -> what oneDNN calls it, and its algorithm.
_ACTIVATIONS = {
    "relu": ("relu", ""),
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
}


class FusedLinear(ResidualProjection):
    """A linear layer with its weights as oneDNN reads them, and an activation behind it or none.

    Args:
        linear: is read; in fp32 its bias is shared.
        activation: as oneDNN calls it, and the algorithm it takes; "none" for none.
        dtype: to multiply in, fp32 or bf16.
    """

    def __init__(
        self,
        linear: nn.Linear,
        activation: tuple[str, str] = ("none", ""),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        weight = linear.weight.detach().to(dtype)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        self._bias = linear.bias.detach().to(dtype)
        self._activation, self._algorithm = activation
        self._dtype = dtype
        self._multiply = torch.ops.mkldnn._linear_pointwise.default
        self._multiply_add = torch.ops.mkldnn._linear_pointwise.binary

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) of any floating type -> (..., out) of this layer's."""
        found: Tensor = self._multiply(
            x.to(self._dtype), self._weight, self._bias, self._activation, [], self._algorithm
        )
        return found

    def add_to(self, residual: Tensor, x: Tensor, dropout: nn.Dropout) -> Tensor:
        """(..., out) fp32 and (..., in) -> residual + product; nothing is dropped."""
        found: Tensor
        if self._dtype == residual.dtype:
            found = self._multiply_add(x, residual, self._weight, self._bias, "add")
        else:  # the sum keeps its precision
            found = residual + self.forward(x)
        return found


class FusedLayer(BertLayer):
    """A layer with fused products, which passes by the modules between them.

    Args:
        layer: is taken apart.
        activation: of the feed-forward network, as oneDNN calls it.
        dtype: to multiply in, fp32 or bf16.
    """

    def __init__(self, layer: BertLayer, activation: tuple[str, str], dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.attention, self.attention_norm = layer.attention, layer.attention_norm
        self.feed_forward, self.feed_forward_norm = layer.feed_forward, layer.feed_forward_norm
        self.dropout = layer.dropout
        attention, feed_forward = self.attention, self.feed_forward
        if attention.heads:  # without any there is no product
            attention.add_module("qkv", FusedLinear(attention.qkv, dtype=dtype))
            attention.add_module("output", FusedLinear(attention.output, dtype=dtype))
        feed_forward.add_module("up", FusedLinear(feed_forward.up, activation, dtype))
        feed_forward.activation = _as_it_is
        feed_forward.add_module("down", FusedLinear(feed_forward.down, dtype=dtype))
        # With every use torch would look them up.
        self._products = (
            attention.qkv.forward,
            attention.output.add_to,
            feed_forward.up.forward,
            feed_forward.down.add_to,
        )
        self._norms = [
            (norm.normalized_shape, norm.weight, norm.bias, norm.eps)
            for norm in (self.attention_norm, self.feed_forward_norm)
        ]
        self._heads, self._dropout = attention.heads, layer.dropout

    def forward(
        self,
        hidden: Tensor,
        plan: AttentionPlan,
        gates: Tensor | None,
        rows: Tensor | None = None,
        edit: AttentionEdit | None = None,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """As `BertLayer.forward`."""
        if gates is not None or rows is not None or not self._heads:
            return super().forward(hidden, plan, gates, rows, edit)
        project, add_context, up, add_down = self._products
        qkv = project(hidden).view(hidden.shape[0], 3, self._heads, -1)
        context, weights = packed_attention(qkv, plan, dropout=0.0, edit=edit)
        attended = add_context(hidden, context.flatten(1), self._dropout)
        hidden = torch.layer_norm(attended, *self._norms[0])
        hidden = torch.layer_norm(add_down(hidden, up(hidden), self._dropout), *self._norms[1])
        return hidden, weights


def fuse(network: BertModel, dtype: torch.dtype = torch.float32) -> None:
    """Put layers with fused products in the place of a network's own.

    Args:
        network: is for predictions alone from then on.
        dtype: to multiply in, fp32 or bf16; what goes past the products stays in fp32.
    """
    activation = _ACTIVATIONS[network.config.hidden_act]
    network.compute_dtype = dtype
    for number, layer in enumerate(network.layers):
        assert isinstance(layer, BertLayer)
        network.layers[number] = FusedLayer(layer, activation, dtype)


def can_fuse(weight: Tensor) -> bool:
    """Whether a network with such weights predicts faster with fused products."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def is_plain(network: BertModel) -> bool:
    """Whether all products are the network's own and no module has hooks, which are passed by."""
    hooks = any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    products = {
        type(product)
        for name in ("attention", "feed_forward")
        for layer in network.layers
        for product in layer.get_submodule(name).children()
    }
    return not hooks and products <= {nn.Linear, ResidualLinear}


def _as_it_is(x: Tensor) -> Tensor:
    return x
