"""The trained mixture of layers: its value, its gradients, its place in a pipeline of layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spacy.util import registry

from spacy_bert.models.optimizer import build_adamw
from spacy_bert.models.scalar_mix import MixModel, ScalarMix, build_scalar_mix, mix_shim

LENGTHS = (3, 0, 2)


def sequences(*, layers: int = 4, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal((n, layers, 6), dtype="f") for n in LENGTHS]


def mix(weights: list[float], gamma: float) -> MixModel:
    """A mix with these parameters, initialized from a sample."""
    model = registry.get("layers", "spacy_bert.ScalarMix.v1")()
    model.initialize(X=sequences(layers=len(weights)))
    module = mix_shim(model).module
    assert isinstance(module, ScalarMix)
    with torch.no_grad():
        module.weights.copy_(torch.tensor(weights))
        module.gamma.fill_(gamma)
    return model


def by_hand(vectors: np.ndarray, weights: np.ndarray, gamma: float) -> np.ndarray:
    """Peters et al. 2018, equation 1."""
    shares = np.exp(weights) / np.exp(weights).sum()
    return gamma * (vectors * shares[:, None]).sum(axis=1)


def test_it_begins_as_the_mean_of_the_layers() -> None:
    model = build_scalar_mix()
    inputs = sequences()
    model.initialize(X=inputs)
    for found, vectors in zip(model.predict(inputs), inputs, strict=True):
        np.testing.assert_allclose(found, vectors.mean(axis=1), atol=1e-6)


def test_value_and_gradients_are_those_of_the_equation() -> None:
    weights, gamma = [0.3, -1.2, 0.8, 2.0], 1.7
    model, inputs = mix(weights, gamma), sequences()
    outputs, backprop = model.begin_update(inputs)
    for found, vectors in zip(outputs, inputs, strict=True):
        np.testing.assert_allclose(found, by_hand(vectors, np.array(weights), gamma), rtol=1e-5)
    assert [array.shape for array in model.predict(inputs)] == [(n, 6) for n in LENGTHS]

    d_outputs = [np.random.default_rng(1).standard_normal(o.shape, dtype="f") for o in outputs]
    d_inputs = backprop(d_outputs)

    def loss(vectors: list[np.ndarray], w: np.ndarray, g: float) -> float:
        values = zip(vectors, d_outputs, strict=True)
        return float(sum((by_hand(v.astype("d"), w, g) * d).sum() for v, d in values))

    step, w = 1e-5, np.array(weights)
    module = mix_shim(model).module
    assert isinstance(module, ScalarMix)
    for i, found in enumerate(module.weights.grad.tolist()):
        moved = np.eye(4)[i] * step
        slope = (loss(inputs, w + moved, gamma) - loss(inputs, w - moved, gamma)) / (2 * step)
        assert found == pytest.approx(slope, rel=1e-3, abs=1e-4)
    slope = (loss(inputs, w, gamma + step) - loss(inputs, w, gamma - step)) / (2 * step)
    assert float(module.gamma.grad) == pytest.approx(slope, rel=1e-3)
    shares = np.exp(w) / np.exp(w).sum()
    for found, d_output in zip(d_inputs, d_outputs, strict=True):
        expected = gamma * shares[None, :, None] * d_output[:, None, :]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_it_learns_which_layer_is_wanted_from_sub_batches_of_any_size() -> None:
    model = build_scalar_mix()
    inputs = sequences()
    model.initialize(X=inputs)
    optimizer = build_adamw(0.1)
    for _ in range(150):
        for part in ([inputs[0]], inputs[1:]):  # as accumulate_gradient does
            outputs, backprop = model.begin_update(part)
            backprop([out - 2.0 * v[:, 1] for out, v in zip(outputs, part, strict=True)])
        model.finish_update(optimizer)
        optimizer.step_schedules()
    module = mix_shim(model).module
    assert isinstance(module, ScalarMix)
    assert module.shares[1] > 0.9
    np.testing.assert_allclose(module.gamma.item(), 2.0, atol=0.2)


def test_it_comes_back_from_bytes_and_of_nothing_there_is_nothing() -> None:
    model, inputs = mix([0.3, -1.0, 0.5], 0.5), sequences(layers=3)
    loaded = build_scalar_mix().from_bytes(model.to_bytes())
    for ours, theirs in zip(loaded.predict(inputs), model.predict(inputs), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (empty,), backprop = model.begin_update([np.zeros((0, 3, 6), "f")])
    assert empty.shape == (0, 6)
    assert backprop([empty])[0].shape == (0, 3, 6)
    assert model.predict([]) == []


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match="layers must be at least 1, got 0"):
        build_scalar_mix(0)
    with pytest.raises(ValueError, match="made for 3 layers and is given 4"):
        mix([0.0, 0.0, 0.0], 1.0).predict(sequences())
