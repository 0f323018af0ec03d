"""Fused products: what the network says, up to rounding, and nothing of the network touched."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spacy_bert.bert import BertConfig, BertModel, PackedBatch, fused
from spacy_bert.bert.config import ACTIVATIONS
from spacy_bert.bert.fused import FusedLinear, can_fuse
from spacy_bert.bert.precision import lowered
from spacy_bert.bert.pruning import prune_heads

BATCH = PackedBatch.from_sequences([[5, 6, 7, 8, 9], [10, 11], [12, 13, 14], [3] * 20])
CONFIG = BertConfig.preset("tiny", vocab_size=50, max_position_embeddings=64)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}

pytestmark = pytest.mark.skipif(
    not can_fuse(torch.zeros(1)), reason="this CPU or build of torch has no fused products"
)


def make(config: BertConfig = CONFIG) -> BertModel:
    torch.manual_seed(0)
    network = BertModel(config).eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:  # of a size that trained weights have
            parameter.data.mul_(2.5)
        elif name.endswith("bias"):
            parameter.data.normal_(std=0.1)
    return network


@pytest.mark.parametrize("hidden_act", ACTIVATIONS)
@torch.no_grad()
def test_the_same_with_every_activation(hidden_act: str) -> None:
    network = make(dataclasses.replace(CONFIG, hidden_act=hidden_act))
    ours = lowered(network, "fp32")
    assert sum(isinstance(module, FusedLinear) for module in ours.modules()) == 8
    torch.testing.assert_close(
        ours(BATCH).last_hidden_state, network(BATCH).last_hidden_state, **CLOSE
    )


@torch.no_grad()
def test_the_same_in_all_that_the_network_can_be_asked() -> None:
    network = make()
    ours = lowered(network, "fp32")
    options = {"output_hidden_states": True, "output_attentions": True}
    for gates in (None, torch.rand(2, 2), torch.rand(4, 2, 2)):
        found = ours(BATCH, gates=gates, **options)
        expected = network(BATCH, gates=gates, **options)
        for one, other in zip(found.hidden_states, expected.hidden_states, strict=True):
            torch.testing.assert_close(one, other, **CLOSE)
        for layer, other_layer in zip(found.attentions, expected.attentions, strict=True):
            for one, other in zip(layer, other_layer, strict=True):
                torch.testing.assert_close(one, other, **CLOSE)
    rows = torch.tensor([0, 7, 29])
    some = ours(BATCH, rows=rows).last_hidden_state
    torch.testing.assert_close(some, network(BATCH, rows=rows).last_hidden_state, **CLOSE)


@torch.no_grad()
def test_pruned_networks_and_layers_without_heads() -> None:
    network = prune_heads(make(), {0: [0, 1], 1: [1]})
    ours = lowered(network, "fp32")
    torch.testing.assert_close(
        ours(BATCH).last_hidden_state, network(BATCH).last_hidden_state, **CLOSE
    )


def test_weights_stay_and_what_is_no_product_is_shared() -> None:
    network = make()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    ours = lowered(network, "fp32")
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(isinstance(module, FusedLinear) for module in network.modules())
    own = {id(parameter) for parameter in network.parameters()}
    assert all(id(parameter) in own for parameter in ours.parameters())
    assert ours.embeddings.piece.weight is network.embeddings.piece.weight


@torch.no_grad()
def test_one_sequence_alone() -> None:
    network = make()
    ours = lowered(network, "fp32")
    for sequence in ([5], [5, 6, 7, 8, 9], [3] * 64):
        batch = PackedBatch.from_sequences([sequence])
        for gates in (None, torch.ones(2, 2)):
            found = ours(batch, gates=gates).last_hidden_state
            torch.testing.assert_close(found, network(batch).last_hidden_state, **CLOSE)


@torch.no_grad()
def test_a_product_on_top_of_the_residual() -> None:
    torch.manual_seed(0)
    linear, x, residual = nn.Linear(24, 16), torch.randn(7, 24), torch.randn(7, 16)
    kept = residual.clone()
    product = F.linear(x, linear.weight, linear.bias)
    own = FusedLinear(linear)
    torch.testing.assert_close(own(x), product, **CLOSE)
    torch.testing.assert_close(own.add_to(residual, x, nn.Dropout(0.5)), residual + product)
    assert torch.equal(residual, kept)
    gelu = FusedLinear(linear, ("gelu", "none"))
    torch.testing.assert_close(gelu(x), F.gelu(product), **CLOSE)


def test_only_where_there_are_such_products(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make()
    assert not can_fuse(torch.zeros(1, dtype=torch.bfloat16))
    assert not can_fuse(torch.zeros(1, device="meta"))
    monkeypatch.setattr(fused.platform, "machine", lambda: "arm64")
    assert not can_fuse(torch.zeros(1))
    assert lowered(network, "fp32") is network
