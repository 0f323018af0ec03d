"""Products for predictions in int8 on a CPU: dynamic quantization, outliers made smaller before.

A few inputs of the feed-forward network's products reach many times as far as all others (Kovaleva
et al. 2021, "BERT busters"), and the one scale of a product has to cover them. Made smaller, with
weights that are larger by as much (Xiao et al. 2023, "SmoothQuant"), they leave the scale to the
others: the error of all-MiniLM-L6-v2 is four tenths smaller.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from spacy_bert.bert.encoder import BertLayer, BertModel, ResidualProjection, activation_in_place
from spacy_bert.bert.packed import PackedBatch

OUTLIERS = 4  # inputs of a product at most that are made smaller
FAR = 3.0  # times the reach of the median input
# By which power of what is above that: the weights they are multiplied with have a scale too.
SHRINKING = 0.75
# The pieces that show the outliers: half of them of those that a vocabulary has first, marks and
# frequent words. They need not make sense: in any text the first piece and the marks stand out.
SEQUENCES, LENGTH, FIRST = 16, 32, 2000


class QuantizedLinear(ResidualProjection):
    """A linear layer that multiplies in int8, on a CPU.

    Weights have a scale for each output, found once; what comes in has a scale and a zero point of
    its own at each call (dynamic quantization), for all rows together.

    Args:
        linear: is read.
        reach: the largest magnitude of each input, (in,), to find outliers by; None for none.
        overwrites: whether what comes in is needed by nobody else.
    """

    def __init__(
        self, linear: nn.Linear, reach: Tensor | None = None, *, overwrites: bool = False
    ) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        self._outliers = None if reach is None else find_outliers(reach)
        if self._outliers is not None:
            inputs, factors = self._outliers
            weight = weight.index_copy(1, inputs, weight[:, inputs] / factors)
        self._overwrites = overwrites
        scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        zeros = torch.zeros(len(scales), dtype=torch.int64, device=weight.device)
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
        """(rows, in) fp32 -> (rows, out) fp32."""
        if self._outliers is not None:
            inputs, factors = self._outliers
            smaller = x.index_select(1, inputs) * factors
            replace = x.index_copy_ if self._overwrites else x.index_copy
            x = replace(1, inputs, smaller)
        found: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, self._reduce_range)
        return found

    def add_to(self, residual: Tensor, x: Tensor, dropout: nn.Dropout) -> Tensor:
        """(rows, out) and (rows, in) -> residual + product; in predictions nothing is dropped."""
        product: Tensor = self(x)
        return product.add_(residual)


def find_outliers(reach: Tensor) -> tuple[Tensor, Tensor] | None:
    """The inputs that reach much farther than the others, and what to multiply them with.

    Args:
        reach: the largest magnitude of each input, (in,).

    Returns:
        Their indices and factors, (outliers,) each; None if there is none.
    """
    median = reach.median()
    if not median > 0.0:  # most inputs are dead: no scale to go by
        return None
    farther = reach / (FAR * median)
    far, inputs = farther.topk(min(OUTLIERS, len(farther)))
    are = far > 1.0
    return (inputs[are], far[are] ** -SHRINKING) if bool(are.any()) else None


def quantize(network: BertModel) -> None:
    """Put int8 products in the place of a network's own.

    Args:
        network: is for predictions alone from then on.
    """
    reach = _feed_forward_reach(network)
    for layer in network.layers:
        assert isinstance(layer, BertLayer)
        attention, feed_forward = layer.attention, layer.feed_forward
        if attention.heads:  # without any there is no product
            attention.add_module("qkv", QuantizedLinear(attention.qkv))
            attention.add_module("output", QuantizedLinear(attention.output))
        up, down = feed_forward.up, feed_forward.down
        feed_forward.add_module("up", QuantizedLinear(up, reach[up]))
        feed_forward.activation = activation_in_place(network.config.hidden_act)
        feed_forward.add_module("down", QuantizedLinear(down, reach[down], overwrites=True))


@torch.no_grad()
def _feed_forward_reach(network: BertModel) -> dict[nn.Module, Tensor]:
    """How far the inputs of the feed-forward networks' products reach, (in,) each."""
    config = network.config
    length = min(LENGTH, config.max_position_embeddings)
    half = SEQUENCES * length // 2
    generator = torch.Generator().manual_seed(0)
    drawn = [
        torch.randint(size, (half,), generator=generator)
        for size in (min(FIRST, config.vocab_size), config.vocab_size)
    ]
    # Each sequence has pieces of both kinds in turn.
    pieces = torch.stack(drawn, dim=1).reshape(-1, length)
    found: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
        found[module] = inputs[0].abs().amax(dim=0)

    products = (
        network.get_submodule(f"layers.{i}.feed_forward.{name}")
        for i in range(len(network.layers))
        for name in ("up", "down")
    )
    handles = [product.register_forward_pre_hook(note) for product in products]
    try:
        network(PackedBatch.from_sequences(pieces.tolist()))
    finally:
        for handle in handles:
            handle.remove()
    return found


def has_vnni() -> bool:
    """Whether the CPU adds up products of 8 bits in 32 (AVX512-VNNI, AVX-VNNI)."""
    return bool(getattr(torch.cpu, "_is_vnni_supported", bool)())
