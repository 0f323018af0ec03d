"""Products for predictions in fp32 on a CPU: weights laid out once, what comes behind fused in.

oneDNN adds the bias and the residual, or computes the activation, while a block of the product is
still in the cache, and finds the weights in the blocks in which it reads them: to lay them out at
each call costs more than the product itself if there is but one sentence.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn

from spacy_bert.bert.encoder import BertLayer, BertModel, ResidualProjection

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
        linear: is read, and its bias shared.
        activation: as oneDNN calls it, and the algorithm it takes; "none" for none.
    """

    def __init__(self, linear: nn.Linear, activation: tuple[str, str] = ("none", "")) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)
        self._bias = linear.bias.detach()
        self._activation, self._algorithm = activation

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, self._activation, [], self._algorithm
        )
        return found

    def add_to(self, residual: Tensor, x: Tensor, dropout: nn.Dropout) -> Tensor:
        """(..., out) and (..., in) -> residual + product; in predictions nothing is dropped."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, residual, self._weight, self._bias, "add"
        )
        return found


def fuse(network: BertModel) -> None:
    """Put fused products in the place of a network's own.

    Args:
        network: is for predictions alone from then on.
    """
    for layer in network.layers:
        assert isinstance(layer, BertLayer)
        attention, feed_forward = layer.attention, layer.feed_forward
        if attention.heads:  # without any there is no product
            attention.add_module("qkv", FusedLinear(attention.qkv))
            attention.add_module("output", FusedLinear(attention.output))
        activation = _ACTIVATIONS[network.config.hidden_act]
        feed_forward.add_module("up", FusedLinear(feed_forward.up, activation))
        feed_forward.activation = _as_it_is
        feed_forward.add_module("down", FusedLinear(feed_forward.down))


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


def _as_it_is(x: Tensor) -> Tensor:
    return x
