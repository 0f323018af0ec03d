"""Products in int8: within their steps, and outliers leave the steps to the others."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spacy_bert.bert import BertConfig, BertModel, PackedBatch
from spacy_bert.bert.precision import has_int8, lowered
from spacy_bert.bert.quantized import (
    OUTLIERS,
    QuantizedDown,
    QuantizedLinear,
    has_vnni,
    shrink_outliers,
)

pytestmark = pytest.mark.skipif(not has_int8(), reason="this build of torch has no int8 products")

BATCH = PackedBatch.from_sequences([[5, 6, 7, 8, 9], [10, 11], [12, 13, 14], [3] * 20])


def far_reaching(inputs: list[int], times: float) -> tuple[nn.Linear, torch.Tensor]:
    """A layer, and rows of which some inputs reach farther than the others."""
    torch.manual_seed(0)
    x = torch.randn(300, 64)
    x[:, inputs] *= times
    return nn.Linear(64, 48), x


def error(product: QuantizedLinear, linear: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return (product(x) - F.linear(x, linear.weight, linear.bias)).abs()


@torch.no_grad()
def test_products_err_within_their_steps() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 48)
    linear.weight.data[7] = 0.0  # an output that reads nothing
    x = 3.0 * torch.randn(30, 64) + 1.0
    wrong = error(QuantizedLinear(linear), linear, x)
    # Half a step of every input times its weight, and the other way round; a step of inputs is
    # twice as wide without VNNI.
    steps = 127 if not has_vnni() else 255
    of_inputs = (x.max().clamp(min=0) - x.min().clamp(max=0)) / steps
    of_weights = linear.weight.abs().amax(dim=1) / 127
    bound = of_inputs * linear.weight.abs().sum(dim=1) + of_weights * x.abs().sum(dim=1)[:, None]
    assert (wrong <= bound + 1e-5).all()
    assert wrong[:, 7].max() < 1e-6
    assert wrong.max() > 1e-3  # it is not fp32


def test_outliers_leave_the_scale_to_the_others() -> None:
    linear, x = far_reaching([3, 40], times=30.0)
    plain = error(QuantizedLinear(linear), linear, x).mean()
    factors = shrink_outliers(x.abs().amax(dim=0))
    wrong = (QuantizedLinear(linear, factors)(x * factors) - linear(x)).abs().mean()
    assert wrong < 0.6 * plain


@torch.no_grad()
def test_the_second_product_shrinks_its_own_outliers() -> None:
    linear, x = far_reaching([3], times=30.0)
    factors = shrink_outliers(x.abs().amax(dim=0))
    past = torch.rand(48) + 0.5
    expected = QuantizedLinear(linear, factors)(x * factors)
    residual, dropout = torch.randn(len(x), 48), nn.Dropout()
    found = QuantizedDown(linear, factors, past).add_to(residual * past, x.clone(), dropout)
    torch.testing.assert_close(found, residual + expected, atol=1e-5, rtol=1e-5)
    before = x.clone()
    QuantizedDown(linear, factors, past)(x)
    assert (x != before).any(dim=0).nonzero().flatten().tolist() == [3]  # not a copy of all


def test_only_what_is_far_from_the_median_is_an_outlier() -> None:
    reach = torch.tensor([1.0, 0.9, 1.0, 1.0, 2.9, 1.0, 1.0, 1.0])
    assert torch.equal(shrink_outliers(reach), torch.ones(8))
    reach[[1, 5]] = torch.tensor([12.0, 48.0])
    expected = torch.ones(8)
    expected[[1, 5]] = torch.tensor([(1 / 4) ** 0.75, 1 / 8])
    torch.testing.assert_close(shrink_outliers(reach), expected)


def test_a_few_outliers_at_most() -> None:
    reach = torch.ones(100)
    reach[:20] = torch.arange(100.0, 120.0)
    found = (shrink_outliers(reach) < 1.0).nonzero().flatten().tolist()
    assert found == list(range(20 - OUTLIERS, 20))  # the farthest


def test_no_outliers_among_dead_inputs() -> None:
    reach = torch.zeros(8)
    assert torch.equal(shrink_outliers(reach), torch.ones(8))
    reach[2] = 1.0  # the median is 0
    assert torch.equal(shrink_outliers(reach), torch.ones(8))


@pytest.fixture
def outlying() -> BertModel:
    """A network with an outlier in each feed-forward network, as trained ones have."""
    torch.manual_seed(0)
    network = BertModel(BertConfig.preset("tiny", vocab_size=50, max_position_embeddings=64)).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(2.5)
    for layer in network.layers:
        layer.attention_norm.weight.data[5] *= 25.0
        layer.feed_forward.up.weight.data[9] *= 12.0
    return network


@torch.no_grad()
def test_a_network_with_outliers(outlying: BertModel, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = outlying(BATCH).last_hidden_state
    found = lowered(outlying, "int8")
    ours = (found(BATCH).last_hidden_state - exact).abs().mean()
    monkeypatch.setattr("spacy_bert.bert.quantized.shrink_outliers", torch.ones_like)
    plain = (lowered(outlying, "int8")(BATCH).last_hidden_state - exact).abs().mean()
    assert ours < 0.7 * plain


@torch.no_grad()
def test_the_same_network_is_quantized_the_same_way(outlying: BertModel) -> None:
    first = lowered(outlying, "int8")(BATCH).last_hidden_state
    torch.manual_seed(5)
    before = torch.get_rng_state()
    second = lowered(outlying, "int8")(BATCH).last_hidden_state
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)  # nobody's random numbers were drawn
    assert not any(module._forward_pre_hooks for module in outlying.modules())
