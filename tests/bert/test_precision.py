"""Networks that predict in bf16 and int8: close to fp32, and nothing else is touched."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from spacy_bert.bert import BertConfig, BertModel, PackedBatch, precision
from spacy_bert.bert.config import ACTIVATIONS
from spacy_bert.bert.fused import FusedLinear, can_fuse
from spacy_bert.bert.precision import HalfLinear, lowered, require_int8
from spacy_bert.bert.pruning import prune_heads
from spacy_bert.bert.quantized import QuantizedLinear

CPU = torch.device("cpu")
CAN_FUSE = can_fuse(torch.zeros(1))
needs_fused_bf16 = pytest.mark.skipif(
    not (CAN_FUSE and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="oneDNN has no products in bf16 for this CPU",
)
BATCH = PackedBatch.from_sequences([[5, 6, 7, 8, 9], [10, 11], [12, 13, 14], [3] * 20])
LOW = ["bf16", "int8"]


@pytest.fixture
def network() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig.preset("tiny", vocab_size=50, max_position_embeddings=64)
    network = BertModel(config).eval()
    for parameter in network.parameters():  # of a size that trained weights have
        if parameter.ndim > 1:
            parameter.data.mul_(2.5)
    return network


@pytest.mark.parametrize(("name", "bound"), [("bf16", 0.01), ("int8", 0.03)])
@torch.no_grad()
def test_close_to_fp32(name: precision.Precision, bound: float, network: BertModel) -> None:
    exact = network(BATCH).last_hidden_state
    low = lowered(network, name)(BATCH).last_hidden_state
    assert low.dtype == torch.float32
    error = (low - exact).abs().mean()
    assert 1e-5 < error < bound * exact.abs().mean()


@torch.no_grad()
def test_hooks_and_adapters_are_not_passed_by(network: BertModel) -> None:
    class Adapter(torch.nn.Module):
        def __init__(self, base: torch.nn.Linear) -> None:
            super().__init__()
            self.base, self.weight, self.bias = base, base.weight, base.bias

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2.0 * self.base(x)

    seen: list[torch.nn.Module] = []
    handle = network.layers[0].register_forward_hook(lambda module, *_: seen.append(module))
    assert lowered(network, "fp32") is network
    lowered(network, "fp32")(BATCH)
    assert seen
    handle.remove()
    assert (lowered(network, "fp32") is not network) == CAN_FUSE
    attention = network.layers[0].attention
    attention.qkv = Adapter(attention.qkv)
    exact = network(BATCH).last_hidden_state
    torch.testing.assert_close(lowered(network, "fp32")(BATCH).last_hidden_state, exact)
    low = lowered(network, "bf16")(BATCH).last_hidden_state
    assert (low - exact).abs().mean() < 0.01 * exact.abs().mean()


@pytest.mark.parametrize(
    ("has_bf16", "kind"),
    [pytest.param(True, FusedLinear, marks=needs_fused_bf16), (False, HalfLinear)],
)
@torch.no_grad()
def test_bf16_with_and_without_fused_products(
    has_bf16: bool,
    kind: type[torch.nn.Module],
    network: BertModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CPU without instructions for bf16 takes the plain products; both say the same."""
    monkeypatch.setattr(precision, "has_bf16", lambda device: has_bf16)
    low = lowered(network, "bf16")
    assert isinstance(low.get_submodule("layers.0.feed_forward.up"), kind)
    exact, found = network(BATCH).last_hidden_state, low(BATCH).last_hidden_state
    assert found.dtype == torch.float32
    assert 1e-5 < (found - exact).abs().mean() < 0.01 * exact.abs().mean()


@pytest.mark.parametrize("hidden_act", ACTIVATIONS)
@pytest.mark.parametrize("name", LOW)
@torch.no_grad()
def test_every_activation(name: precision.Precision, hidden_act: str, network: BertModel) -> None:
    other = BertModel(dataclasses.replace(network.config, hidden_act=hidden_act)).eval()
    other.load_state_dict(network.state_dict())
    exact = other(BATCH).last_hidden_state
    error = (lowered(other, name)(BATCH).last_hidden_state - exact).abs().mean()
    assert 1e-5 < error < 0.03 * exact.abs().mean()


@pytest.mark.parametrize("name", LOW)
def test_only_matrix_products_of_layers_change(
    name: precision.Precision, network: BertModel
) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    low = lowered(network, name)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    half = FusedLinear if CAN_FUSE and precision.has_bf16(CPU) else HalfLinear
    kind = half if name == "bf16" else QuantizedLinear
    assert sum(isinstance(module, kind) for module in low.modules()) == 4 * len(network.layers)
    own = {id(parameter) for parameter in network.parameters()}
    others = [parameter for parameter in low.parameters() if id(parameter) not in own]
    # Shared, not copied: but for the norms that make outliers smaller.
    assert len(others) == (2 * len(network.layers) if name == "int8" else 0)
    assert low.embeddings.piece.weight is network.embeddings.piece.weight


@pytest.mark.parametrize("name", LOW)
@torch.no_grad()
def test_some_rows_and_hidden_states(name: precision.Precision, network: BertModel) -> None:
    low = lowered(network, name)
    whole = low(BATCH, output_hidden_states=True)
    assert len(whole.hidden_states) == len(network.layers) + 1
    torch.testing.assert_close(whole.hidden_states[-1], whole.last_hidden_state)
    some = low(BATCH, rows=torch.tensor([0, 7])).last_hidden_state
    # Fewer rows have another range of values, and other scales.
    torch.testing.assert_close(some, whole.last_hidden_state[[0, 7]], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", LOW)
@torch.no_grad()
def test_gates_and_pruned_heads(name: precision.Precision, network: BertModel) -> None:
    pruned = prune_heads(network, {0: [0, 1], 1: [1]})
    gates = torch.ones(2, 2)
    gates[0], gates[1, 1] = 0.0, 0.0
    low = lowered(pruned, name)(BATCH).last_hidden_state
    torch.testing.assert_close(low, pruned(BATCH).last_hidden_state, atol=0.05, rtol=0.05)
    gated = lowered(network, name)(BATCH, gates=gates).last_hidden_state
    torch.testing.assert_close(low, gated, atol=0.05, rtol=0.05)


def test_int8_needs_a_cpu_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match='"int8" is for CPUs, the network is on cuda'):
        require_int8(torch.device("cuda"))
    monkeypatch.setattr(precision, "has_int8", lambda: False)
    with pytest.raises(ValueError, match="no int8 products"):
        require_int8(CPU)


@pytest.mark.parametrize(
    ("bf16", "vnni", "expected"),
    [(True, True, "bf16"), (False, True, "int8"), (False, False, "fp32")],
)
def test_auto_on_a_cpu(
    bf16: bool, vnni: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device: bf16)
    monkeypatch.setattr(precision, "has_vnni", lambda: vnni)
    assert precision.automatic(CPU) == expected


def test_auto_on_a_gpu_is_bf16() -> None:
    assert precision.automatic(torch.device("cuda")) == "bf16"
