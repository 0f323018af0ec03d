"""Heads on top of the encoder, as thinc models around small torch modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Model, chain, torch2xp, with_array, xp2torch
from thinc.layers.with_array import init as init_rows
from thinc.types import Floats2d, Ragged
from torch import Tensor, nn

from spacy_bert.bert import Pooler
from spacy_bert.bert.encoder import initialize
from spacy_bert.models.shim import Config, TorchShim

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are


class Head(nn.Module):
    """Dropout and a linear layer on each token's vector (Devlin et al. 2018, section 5.3).

    With a pooler before them, it is the paper's head of whole sequences (section 4.1).
    """

    def __init__(
        self, hidden_size: int, labels: int, *, pooler: bool = False, std: float = 0.02
    ) -> None:
        super().__init__()
        self.pooler = Pooler(hidden_size) if pooler else None
        self.dropout = nn.Dropout()
        self.output = nn.Linear(hidden_size, labels)
        initialize(self, std=std)

    def forward(self, vectors: Tensor) -> Tensor:
        """(rows, hidden size) -> logits, (rows, labels)."""
        if self.pooler is not None:
            vectors = self.pooler(vectors)
        logits: Tensor = self.output(self.dropout(vectors))
        return logits


def build_textcat(
    tok2vec: Model[list[Doc], Floats2d], nO: int | None = None
) -> Model[list[Doc], Floats2d]:
    """The architecture `spacy_bert.TextCat.v1`: logits of each label for each Doc.

    Args:
        tok2vec: gives a vector for each Doc (`spacy_bert.ClsListener.v1`: that of [CLS]); named
            as `nlp.replace_listeners` expects it.
        nO: number of labels; set when the component is initialized.
    """
    head = build_head(nO, pooler=True)
    model: Model[list[Doc], Floats2d] = chain(tok2vec, head)
    return _with_head(model, tok2vec, head)


def build_ner(
    tok2vec: Model[list[Doc], list[Floats2d]], nO: int | None = None
) -> Model[list[Doc], list[Floats2d]]:
    """The architecture `spacy_bert.NER.v1`: logits of each tag for each token.

    Args:
        tok2vec: gives a vector for each token (`spacy_bert.TokenListener.v1`, or any layer that
            spaCy's tagger could read).
        nO: number of tags; set when the component is initialized.
    """
    head = build_head(nO, pooler=False)
    model: Model[list[Doc], list[Floats2d]] = chain(tok2vec, with_rows(head))
    return _with_head(model, tok2vec, head)


def build_choice(tok2vec: Model[list[Doc], Ragged]) -> Model[list[Doc], Ragged]:
    """The architecture `spacy_bert.Choice.v1`: one logit for each choice of each Doc.

    A pooler, dropout and one vector, whose product with what comes of [CLS] is the score (Devlin et
    al. 2018, section 4.4).

    Args:
        tok2vec: gives a vector for each pair of segments (`spacy_bert.PairListener.v1`); named as
            `nlp.replace_listeners` expects it.
    """
    head = build_head(1, pooler=True)
    model: Model[list[Doc], Ragged] = chain(tok2vec, with_array(head))
    return _with_refs(model, tok2vec, head)


def with_rows(layer: Model[Floats2d, Floats2d]) -> Model[list[Floats2d], list[Floats2d]]:
    """A layer on the rows of all Docs at once, as thinc's `with_array` of lists.

    The rows of a single Doc, which may be a long one, are not copied.
    """
    dims = {name: layer.maybe_get_dim(name) for name in layer.dim_names}
    return Model(
        "with_rows", forward_rows, init=init_rows, layers=[layer], dims=dims, attrs={"pad": 0}
    )


def forward_rows(
    model: Model[list[Floats2d], list[Floats2d]], docs: list[Array], is_train: bool
) -> tuple[list[Array], Callable[[list[Array]], list[Array]]]:
    """(rows, width) of each Doc -> (rows, labels) of each."""
    ops = model.ops
    if len(docs) == 1:
        outputs, backprop_doc = model.layers[0](docs[0], is_train)
        return [outputs], lambda gradients: [backprop_doc(gradients[0])]
    outputs, backprop_rows = model.layers[0](ops.flatten(docs), is_train)
    lengths = ops.asarray1i([len(own) for own in docs])

    def backprop(gradients: list[Array]) -> list[Array]:
        return ops.unflatten(backprop_rows(ops.flatten(gradients)), lengths)

    return ops.unflatten(outputs, lengths), backprop


def build_head(nO: int | None, *, pooler: bool, dropout: bool = True) -> Model[Floats2d, Floats2d]:
    """A `Head` as a thinc model of rows; without `dropout`, no setting switches it on."""
    return Model(
        "bert_head",
        forward_head,
        init=init_head,
        dims={"nI": None, "nO": nO},
        attrs={"pooler": pooler} | ({"dropout_rate": 0.1} if dropout else {}),
        shims=[TorchShim(build_module)],
    )


def build_module(config: Config) -> Head:
    """The module that a head's configuration describes."""
    return Head(config["hidden_size"], config["labels"], pooler=config["pooler"])


def init_head(
    model: Model[Floats2d, Floats2d], X: Array | None = None, Y: Array | None = None
) -> None:
    """Draw fresh weights for the width and the number of labels of the sample."""
    if X is not None:
        model.set_dim("nI", X.shape[1])
    if Y is not None:
        model.set_dim("nO", Y.shape[1])
    config = {
        "hidden_size": model.get_dim("nI"),
        "labels": model.get_dim("nO"),
        "pooler": model.attrs["pooler"],
    }
    head_shim(model).begin(config)


def head_shim(model: Model[Any, Any]) -> TorchShim:
    """The shim of a head, or of a model whose reference "head" it is."""
    head = model.get_ref("head") if model.has_ref("head") else model
    shim = head.shims[0]
    assert isinstance(shim, TorchShim)
    return shim


def forward_head(
    model: Model[Floats2d, Floats2d], vectors: Array, is_train: bool
) -> tuple[Array, Callable[[Array], Array]]:
    """(rows, width) -> (rows, labels)."""
    shim = head_shim(model)
    if vectors.shape[1] == 0:  # no Doc of the batch has a token: nobody knows the width
        vectors = model.ops.alloc2f(len(vectors), model.get_dim("nI"))
    inputs = xp2torch(vectors, requires_grad=is_train, device=shim.device)
    if not is_train:
        with shim.predicting() as head:
            return torch2xp(head(inputs)), _no_gradient
    with shim.training() as head:
        cast(Head, head).dropout.p = model.attrs.get("dropout_rate", 0.0)
        outputs = head(inputs)

    def backprop(gradient: Array) -> Array:
        if not len(vectors):
            return vectors
        share = shim.share(len(vectors))
        shim.backward(outputs, share * xp2torch(gradient, device=outputs.device))
        return torch2xp(cast(Tensor, inputs.grad) / share)

    return torch2xp(outputs.detach()), backprop


def _no_gradient(gradient: Array) -> Array:
    raise RuntimeError("The head ran without training: there is nothing to backpropagate")


def resize_labels(model: Model[list[Doc], Any], labels: int) -> Model[list[Doc], Any]:
    """Make room for more labels; what was learned of the others stays.

    A new one begins as unlikely as the least likely of them, so that it takes nothing from them.
    """
    shim = head_shim(model)
    if not shim.is_loaded:
        return model
    shim.settle()
    old = cast(Head, shim.module)
    known = old.output.out_features
    shim.begin({**shim.cfg, "labels": labels})
    resized = cast(Head, shim.module)
    with torch.no_grad():
        if resized.pooler is not None and old.pooler is not None:
            resized.pooler.load_state_dict(old.pooler.state_dict())
        resized.output.weight[:known] = old.output.weight
        resized.output.bias[:known] = old.output.bias
        resized.output.bias[known:] = old.output.bias.min()
    for node in (model.get_ref("head"), model.layers[-1], model):
        if node.has_dim("nO"):
            node.set_dim("nO", labels, force=True)
    return model


def start_at(model: Model[list[Doc], Any], outputs: np.ndarray) -> None:
    """Let a fresh head say the same of every row until it has learnt more.

    One that begins at 0 first learns what holds of all rows: that most tokens are outside of
    entities, or how high values lie. At the small rates of fine-tuning its bias cannot take that,
    and the encoder is taught to make all vectors alike instead.

    Args:
        model: initialized; one without a head of ours stays as it is.
        outputs: a logit or value of each label, (labels,).
    """
    if model.has_ref("head"):
        head = cast(Head, head_shim(model).module)
        with torch.no_grad():
            head.output.bias.copy_(torch.from_numpy(outputs))


def _with_head(
    model: Model[list[Doc], Any], tok2vec: Model[list[Doc], Any], head: Model[Floats2d, Floats2d]
) -> Model[list[Doc], Any]:
    model.attrs["resize_output"] = resize_labels
    return _with_refs(model, tok2vec, head)


def _with_refs(
    model: Model[list[Doc], Any], tok2vec: Model[list[Doc], Any], head: Model[Floats2d, Floats2d]
) -> Model[list[Doc], Any]:
    model.set_ref("tok2vec", tok2vec)  # `spacy debug model` looks for a listener here
    model.set_ref("head", head)
    return model
