"""The listener of [CLS] heads: it hears what the shared encoder says of each Doc."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from spacy.tokens import Doc
from spacy_transformers.data_classes import TransformerData
from spacy_transformers.layers import TransformerListener
from thinc.api import Model, chain
from thinc.types import Floats2d
from transformers.file_utils import ModelOutput

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are


def build_cls_listener(upstream: str = "*") -> Model[list[Doc], Floats2d]:
    """The architecture `spacy_bert.ClsListener.v1`: one [CLS] vector for each Doc.

    Args:
        upstream: name of the `bert` component to listen to; "*" is the only one.
    """
    listener = TransformerListener(upstream_name=upstream)
    model: Model[list[Doc], Floats2d] = chain(listener, pool_cls())
    model.set_ref("listener", listener)
    return model


def pool_cls() -> Model[list[TransformerData], Floats2d]:
    """[CLS] of each Doc, the mean over its windows; zeros for a Doc without tokens."""
    return Model("pool_cls", forward)


def forward(
    model: Model[list[TransformerData], Floats2d], data: list[TransformerData], is_train: bool
) -> tuple[Array, Callable[[Array], list[TransformerData]]]:
    """(Docs) -> (Docs, width); the backward pass gives gradients for Docs with tokens only."""
    states = [d.model_output.get("last_hidden_state") for d in data]
    # A Doc without tokens comes without states, or with states of no length.
    filled = [(i, s) for i, s in enumerate(states) if s is not None and s.shape[1]]
    width = filled[0][1].shape[2] if filled else 0
    pooled: Array = model.ops.alloc2f(len(data), width)
    for i, state in filled:
        pooled[i] = state[:, 0].mean(axis=0)

    def backprop(d_pooled: Array) -> list[TransformerData]:
        gradients = []
        for i, state in filled:
            d_state = model.ops.xp.zeros_like(state)
            d_state[:, 0] = d_pooled[i] / len(state)
            gradients.append(
                TransformerData(
                    wordpieces=data[i].wordpieces,
                    model_output=ModelOutput(last_hidden_state=d_state),
                    align=data[i].align,
                )
            )
        return gradients

    return pooled, backprop
