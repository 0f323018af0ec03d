"""AdamW's parameter groups, and the learning rate over the steps."""

from __future__ import annotations

import pytest
import torch

from spacy_bert.bert import BertConfig, BertForPreTraining
from spacy_bert.pretraining.config import TrainingSettings
from spacy_bert.pretraining.optimization import build_optimizer, learning_rate, set_rate


def test_biases_and_layer_norm_are_not_decayed():
    model = BertForPreTraining(BertConfig.preset("tiny", vocab_size=50))
    settings = TrainingSettings(steps=1, weight_decay=0.02, bias_correction=True)
    optimizer = build_optimizer(model, settings)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, plain = (
        {names[id(parameter)] for parameter in group["params"]} for group in optimizer.param_groups
    )
    set_rate(optimizer, 1, settings)
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.02)
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    assert decayed | plain == set(names.values())
    assert all(("bias" in name) or ("norm" in name) for name in plain)
    assert not any(("bias" in name) or ("norm" in name) for name in decayed)


def test_the_rate_rises_to_the_peak_and_falls_linearly():
    settings = TrainingSettings(steps=100, learning_rate=2.0, warmup_share=0.1)
    rates = [learning_rate(step, settings) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == max(rates) == 2.0
    assert rates[54] == pytest.approx(2.0 * 46 / 90)
    assert rates[-1] == pytest.approx(2.0 / 90)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup_share", [0.0, 0.01, 0.9])
def test_every_step_of_a_short_run_has_a_rate(steps, warmup_share):
    settings = TrainingSettings(steps=steps, warmup_share=warmup_share)
    for step in range(1, steps + 1):
        assert 0.0 < learning_rate(step, settings) <= settings.learning_rate


@pytest.mark.parametrize("field", ["steps", "learning_rate", "warmup_share", "beta1", "seed"])
def test_values_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} must"):
        TrainingSettings(**{"steps": 1, field: -1})


@pytest.mark.parametrize("bias_correction", [False, True])
def test_steps_are_those_of_the_reference_code(bias_correction):
    """Adam written out as in the paper's `optimization.py`; with the correction, as in torch."""
    settings = TrainingSettings(
        steps=20, learning_rate=0.01, weight_decay=0.1, bias_correction=bias_correction
    )
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    weight, bias = (parameter.detach().clone().double() for parameter in model.parameters())
    means = {id(x): (torch.zeros_like(x), torch.zeros_like(x)) for x in (weight, bias)}
    optimizer = build_optimizer(model, settings)
    for step in range(1, 21):
        gradients = [torch.randn(2, 3), torch.randn(2)]
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        rate = set_rate(optimizer, step, settings)
        optimizer.step()
        for value, gradient, decay in zip((weight, bias), gradients, (0.1, 0.0), strict=True):
            first, second = means[id(value)]
            first.mul_(0.9).add_(gradient, alpha=0.1)
            second.mul_(0.999).add_(gradient.double() ** 2, alpha=0.001)
            corrections = (1 - 0.9**step, 1 - 0.999**step) if bias_correction else (1.0, 1.0)
            update = first / corrections[0] / ((second / corrections[1]).sqrt() + 1e-6)
            value -= rate * (update + decay * value)
    torch.testing.assert_close(model.weight.double(), weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.bias.double(), bias, atol=1e-5, rtol=1e-5)
