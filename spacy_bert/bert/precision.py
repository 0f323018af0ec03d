"""Networks that predict faster: the layers' matrix products fused, in bf16 or int8.

The residual stream and LayerNorm stay in fp32, the embeddings too: only what costs most of the time
is computed in fewer bits.
"""

from __future__ import annotations

import copy
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spacy_bert.bert.encoder import BertLayer, BertModel, ResidualProjection, activation_in_place
from spacy_bert.bert.fused import can_fuse, fuse, is_plain
from spacy_bert.bert.quantized import has_vnni, quantize

Precision: TypeAlias = Literal["fp32", "bf16", "int8"]


class HalfLinear(ResidualProjection):
    """A linear layer that multiplies in bf16."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().bfloat16(), persistent=False)
        self.register_buffer("bias", linear.bias.detach().bfloat16(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) of any floating type -> (..., out) bf16."""
        return F.linear(x.bfloat16(), self.weight, self.bias)  # type: ignore[arg-type]


def lowered(network: BertModel, precision: Precision) -> BertModel:
    """A network for predictions alone, in another precision.

    Args:
        network: stays as it is. What is not a matrix product of a layer is shared with it (in int8
            but for the LayerNorms before the feed-forward networks).
        precision: of the matrix products. In "fp32" they are the same up to rounding, by fused
            products on an x86 CPU (see `fused`); elsewhere, or if the network has hooks or products
            of another kind (adapters), that is the network itself.

    Raises:
        ValueError: if int8 is asked for and the network is not on a CPU, or this build of torch
            has no int8.
    """
    weight = network.embeddings.piece.weight
    if precision == "fp32" and not (can_fuse(weight) and is_plain(network)):
        return network
    device = weight.device
    if precision == "int8":
        require_int8(device)
    # What the memo holds is not copied.
    found = copy.deepcopy(network, {id(p): p for p in network.parameters()}).eval()
    if precision == "fp32":
        fuse(found)
    elif precision == "bf16":
        halve(found)
    else:
        quantize(found)
    return found


def halve(network: BertModel) -> None:
    """Put bf16 products in the place of a network's own, fused ones where the CPU has them.

    Args:
        network: is for predictions alone from then on.
    """
    network.compute_dtype = torch.bfloat16
    weight = network.embeddings.piece.weight
    if has_bf16(weight.device) and can_fuse(weight) and is_plain(network):
        fuse(network, torch.bfloat16)
        return
    for layer in network.layers:
        assert isinstance(layer, BertLayer)
        layer.feed_forward.activation = activation_in_place(network.config.hidden_act)
        for parent in (layer.attention, layer.feed_forward):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear) and child.weight.numel():  # no head may be left
                    parent.add_module(name, HalfLinear(child))


def require_int8(device: torch.device) -> None:
    """See that int8 can be computed.

    Raises:
        ValueError: says why it cannot.
    """
    if device.type != "cpu":
        raise ValueError(
            f'precision "int8" is for CPUs, the network is on {device.type}: use "bf16" or "auto"'
        )
    if not has_int8():
        raise ValueError(
            'this build of torch has no int8 products for this CPU: use precision "fp32" or "auto"'
        )


def has_int8() -> bool:
    """Whether torch computes int8 products on this CPU."""
    return bool(
        {"x86", "fbgemm", "onednn"} & set(torch.backends.quantized.supported_engines)
        and hasattr(torch.ops.quantized, "linear_dynamic")
    )


def has_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16; without them a CPU is slower in it."""
    if device.type == "cuda":
        return True
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in probes)


def automatic(device: torch.device) -> Precision:
    """What "auto" picks for a device: bf16 if it computes in it, which is all but exact, else int8.

    Where neither is fast, fp32. (Of a CPU that has both, int8 may be the faster.)
    """
    if has_bf16(device):
        return "bf16"
    if device.type == "cpu" and has_vnni() and has_int8():
        return "int8"
    return "fp32"
