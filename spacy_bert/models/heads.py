"""Heads on top of the encoder, as thinc models around small torch modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from spacy.tokens import Doc
from thinc.api import Model, chain, torch2xp, xp2torch
from thinc.types import Floats2d
from torch import Tensor, nn

from spacy_bert.bert import Pooler
from spacy_bert.bert.encoder import initialize
from spacy_bert.models.shim import Config, TorchShim

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are


class Classifier(nn.Module):
    """Pooler, dropout, linear layer: the paper's head for whole sequences (section 4.1)."""

    def __init__(self, hidden_size: int, labels: int, *, std: float = 0.02) -> None:
        super().__init__()
        self.pooler = Pooler(hidden_size)
        self.dropout = nn.Dropout()
        self.output = nn.Linear(hidden_size, labels)
        initialize(self, std=std)

    def forward(self, cls: Tensor) -> Tensor:
        """(Docs, hidden size) -> logits, (Docs, labels)."""
        logits: Tensor = self.output(self.dropout(self.pooler(cls)))
        return logits


def build_textcat(
    cls: Model[list[Doc], Floats2d], nO: int | None = None
) -> Model[list[Doc], Floats2d]:
    """The architecture `spacy_bert.TextCat.v1`: logits of each label for each Doc.

    Args:
        cls: gives the [CLS] vector of each Doc (`spacy_bert.ClsListener.v1`).
        nO: number of labels; set when the component is initialized.
    """
    head: Model[Floats2d, Floats2d] = Model(
        "bert_classifier",
        forward_head,
        init=init_head,
        dims={"nI": None, "nO": nO},
        attrs={"dropout_rate": 0.1},
        shims=[TorchShim(build_classifier)],
    )
    model: Model[list[Doc], Floats2d] = chain(cls, head)
    model.set_ref("head", head)
    model.attrs["resize_output"] = resize_labels
    return model


def build_classifier(config: Config) -> Classifier:
    """The module that a head's configuration describes."""
    return Classifier(config["hidden_size"], config["labels"])


def init_head(
    model: Model[Floats2d, Floats2d], X: Array | None = None, Y: Array | None = None
) -> None:
    """Draw fresh weights for the width and the number of labels of the sample."""
    if X is not None:
        model.set_dim("nI", X.shape[1])
    if Y is not None:
        model.set_dim("nO", Y.shape[1])
    config = {"hidden_size": model.get_dim("nI"), "labels": model.get_dim("nO")}
    head_shim(model).place(build_classifier(config), config)


def head_shim(model: Model[Any, Any]) -> TorchShim:
    """The shim of a head, or of a model whose reference "head" it is."""
    head = model.get_ref("head") if model.has_ref("head") else model
    shim = head.shims[0]
    assert isinstance(shim, TorchShim)
    return shim


def forward_head(
    model: Model[Floats2d, Floats2d], vectors: Array, is_train: bool
) -> tuple[Array, Callable[[Array], Array]]:
    """(Docs, width) -> (Docs, labels)."""
    shim = head_shim(model)
    if vectors.shape[1] == 0:  # no Doc of the batch has a token: nobody knows the width
        vectors = model.ops.alloc2f(len(vectors), model.get_dim("nI"))
    inputs = xp2torch(vectors, requires_grad=is_train, device=shim.device)
    if not is_train:
        with shim.predicting() as head:
            return torch2xp(head(inputs)), _no_gradient
    with shim.training() as head:
        cast(Classifier, head).dropout.p = model.attrs["dropout_rate"]
        outputs = head(inputs)

    def backprop(gradient: Array) -> Array:
        outputs.backward(xp2torch(gradient, device=outputs.device))
        return torch2xp(cast(Tensor, inputs.grad))

    return torch2xp(outputs.detach()), backprop


def _no_gradient(gradient: Array) -> Array:
    raise RuntimeError("The head ran without training: there is nothing to backpropagate")


def resize_labels(model: Model[list[Doc], Floats2d], labels: int) -> Model[list[Doc], Floats2d]:
    """Make room for more labels; what was learned of the others stays."""
    shim = head_shim(model)
    if not shim.is_loaded:
        return model
    config = {**shim.cfg, "labels": labels}
    resized = build_classifier(config)
    old = cast(Classifier, shim.module)
    with torch.no_grad():
        resized.pooler.load_state_dict(old.pooler.state_dict())
        resized.output.weight[: old.output.out_features] = old.output.weight
        resized.output.bias[: old.output.out_features] = old.output.bias
    shim.place(resized, config)
    model.get_ref("head").set_dim("nO", labels, force=True)
    model.set_dim("nO", labels, force=True)
    return model
