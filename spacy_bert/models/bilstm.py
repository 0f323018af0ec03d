"""A BiLSTM over the tokens' vectors, as the paper puts one on top of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import torch
from thinc.api import Model, torch2xp, xp2torch
from thinc.types import Floats2d
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence, unpad_sequence

from spacy_bert.models.shim import Config, TorchShim

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are


class BiLSTM(nn.Module):
    """An LSTM in both directions over sequences of any lengths, which do not see padding."""

    def __init__(self, size: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        between = dropout if depth > 1 else 0.0  # torch has it between layers alone
        self.lstm = nn.LSTM(size, width // 2, depth, dropout=between, bidirectional=True)

    def forward(self, rows: Tensor, lengths: Sequence[int]) -> Tensor:
        """(total, size) -> (total, width); every length is at least 1."""
        packed, _ = self.lstm(pack_sequence(rows.split(list(lengths)), enforce_sorted=False))
        return torch.cat(unpad_sequence(*pad_packed_sequence(packed)))


def build_bilstm(
    width: int, depth: int = 2, dropout: float = 0.1
) -> Model[list[Floats2d], list[Floats2d]]:
    """The architecture `spacy_bert.BiLSTM.v1`, `encode` of a `spacy.Tok2Vec.v2`.

    `spacy.TorchBiLSTMEncoder.v1` would serve too, but it reads the padding of shorter Docs: what it
    says of a Doc depends on the others in the batch. This one also takes part in the one step and
    clip of `spacy_bert.AdamW.v1`.

    Args:
        width: of the output, both directions together: the encoder's hidden size if a pre-trained
            pooler is to read it.
        depth: layers; the paper's feature-based approach has 2 (Devlin et al. 2018, section 5.3).
        dropout: between the layers.

    Raises:
        ValueError: if a number is out of range.
    """
    if width < 2 or width % 2:
        raise ValueError(f"width must be even, for two directions, and at least 2, got {width}")
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    return Model(
        "bilstm",
        forward_bilstm,
        init=init_bilstm,
        dims={"nI": None, "nO": width},
        attrs={"depth": depth, "dropout": dropout},
        shims=[TorchShim(build_module)],
    )


def build_module(config: Config) -> BiLSTM:
    """The module that a BiLSTM's configuration describes."""
    return BiLSTM(config["size"], config["width"], config["depth"], config["dropout"])


def init_bilstm(
    model: Model[list[Floats2d], list[Floats2d]], X: list[Array] | None = None, Y: object = None
) -> None:
    """Draw fresh weights for the width of the sample."""
    if X:
        model.set_dim("nI", max(x.shape[1] for x in X))
    config = {
        "size": model.get_dim("nI"),
        "width": model.get_dim("nO"),
        "depth": model.attrs["depth"],
        "dropout": model.attrs["dropout"],
    }
    _shim(model).begin(config)


def forward_bilstm(
    model: Model[list[Floats2d], list[Floats2d]], sequences: list[Array], is_train: bool
) -> tuple[list[Array], Callable[[list[Array]], list[Array]]]:
    """(tokens, size) of each Doc -> (tokens, width)."""
    shim, ops = _shim(model), model.ops
    lengths = [len(sequence) for sequence in sequences]
    read = [length for length in lengths if length]
    if not read:
        width = model.get_dim("nO")
        return [ops.alloc2f(0, width) for _ in sequences], lambda gradients: sequences
    rows = ops.xp.concatenate([sequence for sequence in sequences if len(sequence)])
    inputs = xp2torch(rows, requires_grad=is_train, device=shim.device)
    sizes = ops.asarray1i(lengths)
    if not is_train:
        with shim.predicting() as module:
            return ops.unflatten(torch2xp(module(inputs, read)), sizes), _no_gradient
    with shim.training() as module:
        outputs = module(inputs, read)

    def backprop(gradients: list[Array]) -> list[Array]:
        gradient = ops.xp.concatenate([array for array in gradients if len(array)])
        share = shim.share(len(rows))
        shim.backward(outputs, share * xp2torch(gradient, device=outputs.device))
        return ops.unflatten(torch2xp(cast(Tensor, inputs.grad) / share), sizes)

    return ops.unflatten(torch2xp(outputs.detach()), sizes), backprop


def _no_gradient(gradients: list[Array]) -> list[Array]:
    raise RuntimeError("The BiLSTM ran without training: there is nothing to backpropagate")


def _shim(model: Model[Any, Any]) -> TorchShim:
    shim = model.shims[0]
    assert isinstance(shim, TorchShim)
    return shim
