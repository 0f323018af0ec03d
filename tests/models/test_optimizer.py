"""AdamW against torch's own loop, in `spacy train`'s way of calling and without it."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from thinc.api import Linear, warmup_linear
from torch import nn

from spacy_bert.models.optimizer import AdamW, build_adamw
from spacy_bert.models.shim import TorchShim


def build(config: dict[str, int]) -> nn.Module:
    torch.manual_seed(config["seed"])
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3))


def shims() -> list[TorchShim]:
    made = [TorchShim(build, {"seed": seed}) for seed in (0, 1)]
    return made


def accumulate(modules: list[nn.Module], step: int, *, train: bool = True) -> None:
    """A loss that runs through both modules."""
    torch.manual_seed(100 + step)
    first, second = modules
    x = torch.randn(5, 4)
    (100 * first(x).pow(2).sum() + second(x).pow(3).sum()).backward()


def reference(steps: int, rates: Iterator[float]) -> list[torch.Tensor]:
    """The loop as everyone writes it: groups, one global clip, one step."""
    modules = [build({"seed": 0}), build({"seed": 1})]
    parameters = list(itertools.chain(*(m.parameters() for m in modules)))
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.99), eps=1e-6)
    for step, rate in zip(range(steps), rates, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate
        accumulate(modules, step)
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach() for p in parameters]


def schedule() -> Iterator[float]:
    return warmup_linear(1e-2, 2, 6)


def adamw() -> AdamW:
    optimizer = build_adamw(
        schedule(), beta1=0.9, beta2=0.99, eps=1e-6, weight_decay=0.1, grad_clip=0.5
    )
    assert isinstance(optimizer, AdamW)
    return optimizer


def assert_equal(made: list[TorchShim], expected: list[torch.Tensor]) -> None:
    parameters = itertools.chain(*(s.module.parameters() for s in made))
    for parameter, value in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-5, atol=1e-6)


def test_equals_torch_when_spacy_train_calls() -> None:
    made, optimizer = shims(), adamw()
    for step in range(5):
        for shim in made:
            with shim.training():
                pass
        accumulate([s.module for s in made], step)
        for shim in made:
            shim.finish_update(optimizer)
        optimizer.step_schedules()
        assert all(p.grad is None for s in made for p in s.module.parameters())
    assert_equal(made, reference(5, schedule()))


def test_equals_torch_when_nobody_steps_the_schedules() -> None:
    """A bare `nlp.update`: the encoder finishes before its gradient is there."""
    made, optimizer = shims(), adamw()
    encoder, head = made
    for step in range(5):
        with encoder.training():
            pass
        encoder.finish_update(optimizer)
        with head.training():
            pass
        accumulate([encoder.module, head.module], step)
        head.finish_update(optimizer)
    assert optimizer.learn_rate == pytest.approx(5e-3), "the last step waits for the next use"
    with head.predicting():
        pass
    assert_equal(made, reference(5, schedule()))
    assert optimizer.learn_rate == pytest.approx(2.5e-3)


def test_biases_and_layer_norm_are_not_decayed() -> None:
    (shim, _), optimizer = shims(), build_adamw(0.1, weight_decay=0.5)
    module = shim.module
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    shim.finish_update(optimizer)
    optimizer.step_schedules()
    for name, parameter in module.named_parameters():
        factor = 0.95 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), factor * before[name])


def test_parameters_without_gradient_stay(  # frozen encoders must not shrink
) -> None:
    (shim, _), optimizer = shims(), build_adamw(0.1, weight_decay=0.5)
    before = [p.detach().clone() for p in shim.module.parameters()]
    shim.finish_update(optimizer)
    optimizer.step_schedules()
    for parameter, value in zip(shim.module.parameters(), before, strict=True):
        assert torch.equal(parameter, value)


def test_thinc_layers_are_stepped_too_without_decay_of_biases() -> None:
    layer = Linear(3, 4)
    layer.initialize()
    layer.set_param("b", np.ones(3, dtype="f"))
    layer.set_param("W", np.ones((3, 4), dtype="f"))
    layer.set_grad("b", np.zeros(3, dtype="f"))
    layer.set_grad("W", np.zeros((3, 4), dtype="f"))
    layer.finish_update(build_adamw(0.1, weight_decay=0.5))
    np.testing.assert_allclose(layer.get_param("b"), 1.0)
    np.testing.assert_allclose(layer.get_param("W"), 0.95)


def test_no_averages_are_kept_of_thinc_layers_alone() -> None:
    """Else spaCy would save them beside the encoder's last weights."""
    layer, optimizer = Linear(3, 4), build_adamw(0.1)
    layer.initialize()
    layer.set_grad("W", np.ones((3, 4), dtype="f"))
    layer.finish_update(optimizer)
    assert optimizer.averages == {}


def test_averages_of_another_optimizer_are_used_and_given_back() -> None:
    from thinc.api import Adam

    (shim, _), optimizer = shims(), Adam(0.1, use_averages=True)
    for _ in range(3):
        for parameter in shim.module.parameters():
            parameter.grad = torch.ones_like(parameter)
        shim.finish_update(optimizer)
    last = [p.detach().clone() for p in shim.module.parameters()]
    with shim.use_params(optimizer.averages):
        for (name, p), value in zip(shim.module.named_parameters(), last, strict=True):
            average = torch.from_numpy(optimizer.averages[shim.id, name])
            assert torch.equal(p, average.view_as(p))
            assert not torch.equal(p, value)
    assert all(map(torch.equal, shim.module.parameters(), last))


def test_any_thinc_optimizer_can_step_the_shim() -> None:
    from thinc.api import Adam

    (shim, _) = shims()
    before = [p.detach().clone() for p in shim.module.parameters()]
    for parameter in shim.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    shim.finish_update(Adam(0.01))
    for parameter, value in zip(shim.module.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), value - 0.01, atol=1e-4, rtol=0)
        assert parameter.grad is None


def gradient_of(shim: TorchShim) -> list[torch.Tensor]:
    return [p.grad.clone() for p in shim.average_gradients() if p.grad is not None]


def test_sub_batches_give_the_gradient_of_the_mean_over_all() -> None:
    """Of unequal size, as spaCy's accumulate_gradient leaves them."""
    torch.manual_seed(0)
    x = torch.randn(7, 4)
    gradients = []
    for sizes in ([7], [3, 3, 1]):
        (shim, _) = shims()
        for rows in x.split(sizes):
            shim.module(rows).pow(2).mean().mul(shim.share(len(rows))).backward()
        gradients.append(gradient_of(shim))
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts)


def test_one_batch_is_left_bit_for_bit() -> None:
    (shim, _) = shims()
    shim.module(torch.randn(3, 4)).sum().backward()
    before = [p.grad.clone() for p in shim.module.parameters()]
    assert shim.share(3) == 1.0
    for one, two in zip(before, gradient_of(shim), strict=True):
        assert torch.equal(one, two)


class Deep(TorchShim):
    def depth(self, name: str) -> int:
        return {"0": 2, "1": 1, "2": 0}[name[0]]


def test_layers_below_learn_more_slowly() -> None:
    shim, optimizer = Deep(build, {"seed": 0}), build_adamw(0.1, weight_decay=0.0, layer_decay=0.5)
    before = [p.detach().clone() for p in shim.module.parameters()]
    for parameter in shim.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    shim.finish_update(optimizer)
    optimizer.step_schedules()
    moved = [(p - b).abs() for p, b in zip(shim.module.parameters(), before, strict=True)]
    # Adam's first step is the learning rate itself.
    for change, rate in zip(moved, [0.025, 0.025, 0.05, 0.05, 0.1, 0.1], strict=True):
        torch.testing.assert_close(change, torch.full_like(change, rate), rtol=1e-4, atol=0)


@pytest.mark.parametrize("decay", [0.0, 1.1])
def test_an_impossible_layer_decay_is_named(decay: float) -> None:
    with pytest.raises(ValueError, match=r"layer_decay must be in \(0, 1\]"):
        build_adamw(0.1, layer_decay=decay)


def test_pickling_takes_the_step_that_waits() -> None:
    (shim, _), optimizer = shims(), build_adamw(0.1)
    before = [p.detach().clone() for p in shim.module.parameters()]
    for parameter in shim.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    shim.finish_update(optimizer)
    copied, _ = pickle.loads(pickle.dumps((shim, optimizer)))
    for mine, its, old in zip(
        shim.module.parameters(), copied.module.parameters(), before, strict=True
    ):
        assert torch.equal(mine, its)
        assert not torch.equal(mine, old)
