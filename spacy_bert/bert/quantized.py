"""Products for predictions in int8 on a CPU: dynamic quantization, outliers made smaller before.

A few inputs of the feed-forward network's products reach many times as far as all others (Kovaleva
et al. 2021, "BERT busters"), and the one scale of a product has to cover them. Made smaller, with
weights that are larger by as much (Xiao et al. 2023, "SmoothQuant"), they leave the scale to the
others: the error of all-MiniLM-L6-v2 is four tenths smaller.
"""

from __future__ import annotations

import copy
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
        factors: what comes in has been multiplied with, (in,); None for ones.
    """

    def __init__(self, linear: nn.Linear, factors: Tensor | None = None) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        if factors is not None:
            weight = weight / factors
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
        found: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, self._reduce_range)
        return found

    def add_to(self, residual: Tensor, x: Tensor, dropout: nn.Dropout) -> Tensor:
        """(rows, out) and (rows, in) -> residual + product; in predictions nothing is dropped."""
        product: Tensor = self(x)
        return product.add_(residual)


class QuantizedDown(QuantizedLinear):
    """The second product of a feed-forward network, which makes its own outliers smaller.

    Args:
        linear: is read.
        factors: to multiply what comes in with, (in,); it is overwritten, nobody else needs it.
        residual_factors: what goes past has been multiplied with, (out,).
    """

    def __init__(self, linear: nn.Linear, factors: Tensor, residual_factors: Tensor) -> None:
        super().__init__(linear, factors)
        self._outliers = (factors < 1.0).nonzero().flatten()
        self._factors = factors[self._outliers]
        self._grow = 1.0 / residual_factors

    def forward(self, x: Tensor) -> Tensor:
        """(rows, in) fp32 -> (rows, out) fp32."""
        if len(self._outliers):
            smaller = x.index_select(1, self._outliers).mul_(self._factors)
            x.index_copy_(1, self._outliers, smaller)
        return super().forward(x)

    def add_to(self, residual: Tensor, x: Tensor, dropout: nn.Dropout) -> Tensor:
        """(rows, out) and (rows, in) -> residual as it was + product."""
        product: Tensor = self(x)
        return product.addcmul_(residual, self._grow)


def shrink_outliers(reach: Tensor) -> Tensor:
    """What to multiply inputs with so that none reaches much farther than the others.

    Args:
        reach: the largest magnitude of each input, (in,).

    Returns:
        Factors, (in,); 1 but for a few.
    """
    factors, median = torch.ones_like(reach), reach.median()
    if median > 0.0:  # else most inputs are dead: no scale to go by
        far, inputs = (reach / (FAR * median)).topk(min(OUTLIERS, len(reach)))
        factors[inputs] = far.clamp(min=1.0) ** -SHRINKING
    return factors


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
        before = shrink_outliers(reach[up])
        layer.attention_norm = _multiplied(layer.attention_norm, before)
        feed_forward.add_module("up", QuantizedLinear(up, before))
        feed_forward.activation = activation_in_place(network.config.hidden_act)
        feed_forward.add_module("down", QuantizedDown(down, shrink_outliers(reach[down]), before))


def _multiplied(norm: nn.LayerNorm, factors: Tensor) -> nn.LayerNorm:
    """A LayerNorm whose outputs are multiplied with factors, at no cost."""
    found = copy.deepcopy(norm).requires_grad_(False)
    found.weight.mul_(factors)
    found.bias.mul_(factors)
    return found


@torch.no_grad()
def _feed_forward_reach(network: BertModel) -> dict[nn.Module, Tensor]:
    """How far the inputs of the feed-forward networks' products reach, (in,) each."""
    config = network.config
    length = min(LENGTH, config.max_position_embeddings)
    half = SEQUENCES * length // 2
    generator = torch.Generator().manual_seed(0)
    drawn = [  # on the CPU, wherever torch has been told to make tensors
        torch.randint(size, (half,), generator=generator, device="cpu")
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
        network(PackedBatch.from_sequences(pieces.tolist()).to("cpu"))
    finally:
        for handle in handles:
            handle.remove()
    return found


def has_vnni() -> bool:
    """Whether the CPU adds up products of 8 bits in 32 (AVX512-VNNI, AVX-VNNI)."""
    return bool(getattr(torch.cpu, "_is_vnni_supported", bool)())
