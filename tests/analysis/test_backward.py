"""Gradients of single losses: right by finite differences, and gone without a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from spacy_transformers.data_classes import TransformerData
from thinc.api import Linear
from transformers.file_utils import ModelOutput

from spacy_bert.analysis.backward import loss_gradients, passing_through
from spacy_bert.analysis.decisions import annotated, decisions_of
from spacy_bert.analysis.task_head import TaskHead
from spacy_bert.models.batch import PackedTransformerData
from spacy_bert.models.heads import head_shim
from spacy_bert.models.optimizer import build_adamw
from tests.analysis.tasks import KINDS, copied, task
from tests.pipeline.lifecycle import weights


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_finite_differences(kind: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    head = one.head
    examples, _ = annotated(head, one.examples)
    examples = examples[:3]
    data = head.encode([example.predicted for example in examples])
    rng = np.random.default_rng(0)
    for example, before, found in zip(
        examples, data, loss_gradients(head, examples, data), strict=True
    ):
        lengths = before.wordpieces.lengths
        assert found.hidden.shape == (sum(lengths), 128)
        state = before.model_output.last_hidden_state
        losses, step = [], 0.02
        direction = rng.standard_normal(state.shape).astype("f")
        direction /= np.linalg.norm(direction)
        # Where the loss is steep, so that rounding does not matter.
        steep = np.zeros_like(state)
        for window, length in enumerate(lengths):
            rows = slice(sum(lengths[:window]), sum(lengths[: window + 1]))
            steep[window, :length] = found.hidden[rows]
        direction += steep / np.linalg.norm(steep)
        for sign in (1.0, -1.0):
            moved = moved_by(before, sign * step * direction)
            (there,) = loss_gradients(head, [example], [moved])
            losses.append(there.loss)
        expected = float((steep * direction).sum())
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(expected, rel=5e-3)


def moved_by(data: TransformerData, change: np.ndarray) -> TransformerData:
    assert isinstance(data, PackedTransformerData)
    state = data.model_output.last_hidden_state + change
    return PackedTransformerData(
        wordpieces=data.wordpieces,
        model_output=ModelOutput(last_hidden_state=state.astype("f")),
        align=data.align,
        offsets=data.offsets,
        pairs=data.pairs,
    )


def test_loss_of_a_class_is_minus_its_likelihood(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    examples, gold = annotated(one.head, one.examples)
    docs = [example.predicted for example in examples]
    data = one.head.encode(docs)
    decisions = decisions_of(one.head)
    likelihoods = [
        decisions.log_likelihood(output, decision)
        for output, decision in zip(one.head.outputs(docs, data), gold, strict=True)
    ]
    losses = [found.loss for found in loss_gradients(one.head, examples, data)]
    np.testing.assert_allclose(losses, -np.array(likelihoods), rtol=1e-4)


def test_leaves_weights_gradients_and_rates_alone(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    nlp = copied(one.nlp)
    nlp.update(one.examples[:4], sgd=False, drop=0.1)  # gradients wait for a step
    head = TaskHead.find(nlp)
    model, shim = head.pipe.model, head_shim(head.pipe.model)
    parameters = [*shim.module.parameters(), *head.shim.network.parameters()]
    before = [None if p.grad is None else p.grad.clone() for p in parameters]
    assert any(gradient is not None and gradient.any() for gradient in before)
    weights = [p.detach().clone() for p in parameters]
    rates = [node.attrs.get("dropout_rate") for node in model.walk()]
    assert 0.1 in rates
    examples, _ = annotated(head, one.examples)
    data = head.encode([example.predicted for example in examples])
    first = loss_gradients(head, examples, data)
    again = loss_gradients(head, examples, data)
    for earlier, later in zip(first, again, strict=True):  # nothing is dropped out
        np.testing.assert_array_equal(earlier.hidden, later.hidden)
    for parameter, gradient, weight in zip(parameters, before, weights, strict=True):
        assert (gradient is None) == (parameter.grad is None)
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, atol=0, rtol=0)
        torch.testing.assert_close(parameter.detach(), weight, atol=0, rtol=0)
    assert rates == [node.attrs.get("dropout_rate") for node in model.walk()]


def test_training_goes_on_as_if_nothing_had_been(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    states = []
    for looking in (False, True):
        nlp, optimizer = copied(one.nlp), build_adamw(1e-3)
        head = TaskHead.find(nlp)
        for _ in range(3):
            torch.manual_seed(0)
            nlp.update(one.examples[:4], sgd=optimizer, drop=0.1)
            if looking:
                data = head.encode([one.examples[0].predicted])
                loss_gradients(head, one.examples[:1], data)
        states.append((weights(nlp, "bert"), weights(nlp, one.component)))
    assert states[0] == states[1]


def test_gradients_of_thinc_layers_are_put_back(checkpoint: Path) -> None:
    layer = Linear(2, 3)
    layer.initialize()
    inputs = np.ones((4, 3), dtype="f")
    with passing_through(layer):
        _, backprop = layer.begin_update(inputs)
        backprop(np.ones((4, 2), dtype="f"))
        assert layer.get_grad("W").any()
    assert not layer.get_grad("W").any()
