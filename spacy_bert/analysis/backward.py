"""Gradients of each example's own loss, for analyses: nothing is learned of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from spacy.training import Example
from spacy_transformers.data_classes import TransformerData
from thinc.api import Model, set_dropout_rate, to_numpy
from torch import nn

from spacy_bert.analysis.task_head import TaskHead, feeding
from spacy_bert.models.batch import unpad
from spacy_bert.models.shim import TorchShim


@dataclass(frozen=True, kw_only=True, eq=False)
class LossGradient:
    """The loss of one example and its gradient.

    Attributes:
        loss: The component's loss of this example alone, without its `loss_weight`.
        hidden: Its gradient with respect to the encoder's last hidden states, (pieces, hidden
            size), all windows end to end.
    """

    loss: float
    hidden: np.ndarray


def loss_gradients(
    head: TaskHead, examples: Sequence[Example], data: Sequence[TransformerData]
) -> list[LossGradient]:
    """The gradient of each example's loss with respect to what the encoder has said of it.

    Nothing is dropped out, and the gradients of the head's weights are afterwards as before.

    Args:
        head: The component.
        examples: Gold standard; each Doc has tokens.
        data: What the encoder says of their Docs.
    """
    weight = getattr(head.pipe, "loss_weight", 1.0)
    found = []
    with passing_through(head.pipe.model):
        for example, one in zip(examples, data, strict=True):
            with feeding(head.pipe.model, [one]) as gradients:
                scores, backprop = head.pipe.model.begin_update([example.predicted])
                loss, d_scores = head.pipe.get_loss([example], scores)
                backprop(d_scores)
            # One for each layer of the head that reads the encoder.
            states = sum(to_numpy(g.model_output.last_hidden_state) for (g,) in gradients)
            hidden = unpad(states, one.wordpieces.lengths)
            found.append(LossGradient(loss=loss / weight, hidden=hidden / np.float32(weight)))
    return found


@contextlib.contextmanager
def passing_through(model: Model[Any, Any]) -> Iterator[None]:
    """Let backward passes run through a model that change nothing in it, and drop nothing out."""
    nodes = list(model.walk())
    rates = {i: node.attrs["dropout_rate"] for i, node in enumerate(nodes) if _drops_out(node)}
    kept = {
        (i, name): node.get_grad(name).copy() if node.has_grad(name) else None
        for i, node in enumerate(nodes)
        for name in node.param_names
        if node.has_param(name)
    }
    shims = {id(shim): shim for node in nodes for shim in node.shims}
    with contextlib.ExitStack() as stack:
        for shim in shims.values():
            if isinstance(shim, TorchShim) and shim.is_loaded:
                stack.enter_context(shim.unlearning())
                stack.enter_context(_without_dropout(shim.module))
        set_dropout_rate(model, 0.0)
        try:
            yield
        finally:
            for i, rate in rates.items():
                nodes[i].attrs["dropout_rate"] = rate
            for (i, name), gradient in kept.items():
                if nodes[i].has_grad(name):
                    before = nodes[i].ops.xp.zeros_like(nodes[i].get_param(name))
                    nodes[i].set_grad(name, before if gradient is None else gradient)


def _drops_out(node: Model[Any, Any]) -> bool:
    return "dropout_rate" in node.attrs


@contextlib.contextmanager
def _without_dropout(module: nn.Module) -> Iterator[None]:
    """Rates of 0, in training mode too: cuDNN has no backward pass of an LSTM in another one."""
    dropouts = [part for part in module.modules() if isinstance(part, nn.Dropout)]
    recurrent = [part for part in module.modules() if isinstance(part, nn.RNNBase)]
    rates = [part.p for part in dropouts], [part.dropout for part in recurrent]
    for part in dropouts:
        part.p = 0.0
    for layer in recurrent:
        layer.dropout = 0.0
    try:
        yield
    finally:
        for part, rate in zip(dropouts, rates[0], strict=True):
            part.p = rate
        for layer, rate in zip(recurrent, rates[1], strict=True):
            layer.dropout = rate
