"""A trained mixture of an encoder's layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from thinc.api import Model, torch2xp, xp2torch
from thinc.types import Floats2d, Floats3d
from torch import Tensor, nn

from spacy_bert.models.shim import Config, TorchShim

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are
MixModel: TypeAlias = Model[list[Floats3d], list[Floats2d]]


class ScalarMix(nn.Module):
    """gamma * sum_j softmax(w)_j h_j over the layers j (Peters et al. 2018, "ELMo", eq. 1).

    All layers weigh the same at first, and gamma is 1: it begins as their mean.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(1))

    @property
    def shares(self) -> Tensor:
        """The share of each layer, (layers,); they sum to 1."""
        return torch.softmax(self.weights, dim=0)

    def forward(self, vectors: Tensor) -> Tensor:
        """(rows, layers, width) -> (rows, width)."""
        return self.gamma * (self.shares @ vectors)


def build_scalar_mix(layers: int | None = None) -> MixModel:
    """The layer `spacy_bert.ScalarMix.v1`: a weighted sum of layers, whose weights are trained.

    For each Doc, (tokens, layers, width) -> (tokens, width).

    Args:
        layers: how many; None: as many as the sample has with which the model is initialized.

    Raises:
        ValueError: if there is not at least one.
    """
    if layers is not None and layers < 1:
        raise ValueError(f"layers must be at least 1, got {layers}")
    return Model(
        "scalar_mix",
        forward_mix,
        init=init_mix,
        dims={"nL": layers},
        shims=[TorchShim(build_module)],
    )


def build_module(config: Config) -> ScalarMix:
    """The module that a mix's configuration describes."""
    return ScalarMix(config["layers"])


def init_mix(model: MixModel, X: list[Array] | None = None, Y: object = None) -> None:
    """Begin with equal weights for the layers of the sample."""
    if X and not model.has_dim("nL"):
        model.set_dim("nL", X[0].shape[1])
    config = {"layers": model.get_dim("nL")}
    mix_shim(model).begin(config)


def mix_shim(model: MixModel) -> TorchShim:
    """The shim of a mix."""
    shim = model.shims[0]
    assert isinstance(shim, TorchShim)
    return shim


def forward_mix(
    model: MixModel, sequences: list[Array], is_train: bool
) -> tuple[list[Array], Callable[[list[Array]], list[Array]]]:
    """(tokens, layers, width) of each Doc -> (tokens, width).

    Raises:
        ValueError: if there are other layers than the model was made for.
    """
    shim, ops = mix_shim(model), model.ops
    lengths = [len(sequence) for sequence in sequences]
    if not sum(lengths):
        width = sequences[0].shape[2] if sequences else 0
        return [ops.alloc2f(0, width) for _ in sequences], lambda gradients: sequences
    rows = ops.xp.concatenate(sequences)
    if rows.shape[1] != model.get_dim("nL"):
        raise ValueError(
            f"ScalarMix was made for {model.get_dim('nL')} layers and is given {rows.shape[1]}: "
            "initialize the component again"
        )
    inputs = xp2torch(rows, requires_grad=is_train, device=shim.device)
    sizes = ops.asarray1i(lengths)
    if not is_train:
        with shim.predicting() as module:
            return ops.unflatten(torch2xp(module(inputs)), sizes), _no_gradient
    with shim.training() as module:
        outputs = module(inputs)

    def backprop(gradients: list[Array]) -> list[Array]:
        gradient = ops.xp.concatenate(gradients)
        share = shim.share(len(rows))
        shim.backward(outputs, share * xp2torch(gradient, device=outputs.device))
        # Not ops.unflatten: its rows are flat.
        d_rows: Array = torch2xp(cast(Tensor, inputs.grad) / share)
        ends = ops.to_numpy(sizes).cumsum()
        return cast(list[Array], ops.xp.split(d_rows, ends[:-1].tolist()))

    return ops.unflatten(torch2xp(outputs.detach()), sizes), backprop


def _no_gradient(gradients: list[Array]) -> list[Array]:
    raise RuntimeError("ScalarMix ran without training: there is nothing to backpropagate")
