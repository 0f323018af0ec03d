"""Networks that predict faster: the layers' matrix products fused, in bf16 or int8.

The residual stream and LayerNorm stay in fp32, the embeddings too: only what costs most of the time
is computed in fewer bits.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spacy_bert.bert.encoder import BertLayer, BertModel, ResidualProjection
from spacy_bert.bert.fused import can_fuse, fuse

_tanh_gelu_ = functools.partial(torch.ops.aten.gelu_, approximate="tanh")
_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "gelu": torch.ops.aten.gelu_,
    "gelu_new": _tanh_gelu_,
    "gelu_pytorch_tanh": _tanh_gelu_,
}
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


class QuantizedLinear(ResidualProjection):
    """A linear layer that multiplies in int8, on a CPU.

    Weights have a scale for each output, found once; what comes in has a scale and a zero point of
    its own at each call (dynamic quantization), for all rows together.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            # Torch means to take quantized tensors away. Its operators for plain int8 tensors do
            # not quantize what comes in, and with that done before them they were not faster.
            warnings.simplefilter("ignore")
            quantized = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
            bias = linear.bias.detach().float()
            self._packed = torch.ops.quantized.linear_prepack(quantized, bias)
        # Without VNNI, pairs of products are added up in 16 bits, which 8-bit inputs overflow.
        self._reduce_range = not has_vnni()

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) fp32 -> (..., out) fp32."""
        found: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, self._reduce_range)
        return found

    def add_to(self, residual: Tensor, x: Tensor, dropout: nn.Dropout) -> Tensor:
        """(..., out) and (..., in) -> residual + product; in predictions nothing is dropped."""
        product: Tensor = self(x)
        return product.add_(residual)


def lowered(network: BertModel, precision: Precision) -> BertModel:
    """A network for predictions alone, in another precision.

    Args:
        network: stays as it is. What is not a matrix product of a layer, embeddings and LayerNorm,
            is shared with it.
        precision: of the matrix products. In "fp32" they are the same up to rounding, by fused
            products on an x86 CPU (see `fused`); elsewhere that is the network itself.

    Raises:
        ValueError: if int8 is asked for and the network is not on a CPU, or this build of torch
            has no int8.
    """
    weight = network.embeddings.piece.weight
    if precision == "fp32" and not can_fuse(weight):
        return network
    device = weight.device
    if precision == "int8":
        require_int8(device)
    # What the memo holds is not copied.
    found = copy.deepcopy(network, {id(p): p for p in network.parameters()})
    found.compute_dtype = torch.bfloat16 if precision == "bf16" else None
    for layer in found.layers:
        assert isinstance(layer, BertLayer)
        if precision == "fp32":
            fuse(layer, network.config.hidden_act)
        else:
            _lower(layer, HalfLinear if precision == "bf16" else QuantizedLinear)
            # A fresh product may be overwritten: 3 to 8 % of the time in int8.
            layer.feed_forward.activation = _IN_PLACE[network.config.hidden_act]
    return found.eval()


def _lower(layer: BertLayer, make: type[HalfLinear] | type[QuantizedLinear]) -> None:
    for parent in (layer.attention, layer.feed_forward):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child.weight.numel():  # no head may be left
                parent.add_module(name, make(child))


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


def has_vnni() -> bool:
    """Whether the CPU adds up products of 8 bits in 32 (AVX512-VNNI, AVX-VNNI)."""
    return bool(getattr(torch.cpu, "_is_vnni_supported", bool)())


def has_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16; without them a CPU is slower in it."""
    if device.type == "cuda":
        return True
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in probes)


def fastest(device: torch.device) -> Precision:
    """The precision in which a device predicts fastest."""
    if has_bf16(device):
        return "bf16"
    if device.type == "cpu" and has_vnni() and has_int8():
        return "int8"
    return "fp32"
