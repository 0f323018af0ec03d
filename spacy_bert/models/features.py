"""The feature-based approach: a frozen encoder whose layers are read by something that is trained.

Devlin et al. 2018, section 5.3: features of one or several layers, at the first piece of each
token, feed a randomly initialised BiLSTM before the classification layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Model, chain, torch2xp
from thinc.types import Floats2d, Floats3d
from torch import Tensor

from spacy_bert.models.batch import Chunks
from spacy_bert.models.encoder import EncoderShim, encoder_shim
from spacy_bert.models.feature_cache import FeatureCache, Key, content_key
from spacy_bert.models.layout import DocLayout
from spacy_bert.models.listeners import EncoderModel
from spacy_bert.models.scalar_mix import build_scalar_mix

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are
VectorsModel: TypeAlias = Model[list[Doc], list[Floats3d]]
Combine = Literal["concat", "weighted"]


@dataclass(frozen=True)
class LayerChoice:
    """Which layers are read; not saved with the weights, so that the config has the say.

    Attributes:
        indices: 0 is the embeddings, 1 the lowest layer, -1 the highest; None for all but the
            embeddings.
    """

    indices: tuple[int, ...] | None

    def resolve(self, depth: int) -> list[int]:
        """The indices from 0 in a network of so many layers.

        Raises:
            ValueError: if one is out of range, or two are the same layer.
        """
        if self.indices is None:
            return list(range(1, depth + 1))
        for index in self.indices:
            if not -depth - 1 <= index <= depth:
                raise ValueError(
                    f"layers has {index}, but the encoder has {depth} layers: an index goes from 0 "
                    f"(the embeddings) to {depth}, or from -1 (the last layer) to {-depth - 1}"
                )
        resolved = [index % (depth + 1) for index in self.indices]
        if len(set(resolved)) < len(resolved):
            raise ValueError(
                f"layers names a layer twice: {list(self.indices)}, in an encoder of {depth} layers"
            )
        return resolved


def build_layer_features(
    encoder: EncoderModel,
    layers: list[int] | None,
    combine: Combine = "concat",
    cache_mb: int = 4096,
) -> Model[list[Doc], list[Floats2d]]:
    """The architecture `spacy_bert.LayerFeatures.v1`: token vectors from a frozen encoder's layers.

    Each token has the vector of its first piece, zeros if it is white space. The encoder is the
    component's own; neither gradient nor dropout reaches it. As its weights stay, what it says of a
    text is kept for the next epochs, training and dev set alike, so that these need no encoder. An
    augmenter that makes new texts gains nothing by that: set `cache_mb = 0` then.

    Args:
        encoder: `spacy_bert.Encoder.v1`.
        layers: 0 is the embeddings, 1 the lowest layer, -1 the last one, and so on; null for all
            layers, without the embeddings.
        combine: "concat" puts the vectors of the layers side by side; "weighted" is their
            `spacy_bert.ScalarMix.v1`, whose weights are trained.
        cache_mb: megabytes of memory that kept features may take: 4 * tokens * layers * hidden
            size bytes. What does not fit is computed again in each epoch.

    Raises:
        ValueError: if an option is out of range.
    """
    if combine not in get_args(Combine):
        raise ValueError(f'combine must be "concat" or "weighted", got {combine!r}')
    if layers is not None and not layers:
        raise ValueError("layers is empty: name at least one, or set it to null for all")
    vectors: VectorsModel = Model(
        "layer_vectors",
        forward_vectors,
        init=init_vectors,
        layers=[encoder],
        attrs={
            "layer_choice": LayerChoice(None if layers is None else tuple(layers)),
            "cache": FeatureCache(cache_mb),
        },
    )
    if combine == "concat":
        return chain(vectors, concat_layers())
    return chain(vectors, build_scalar_mix(None if layers is None else len(layers)))


def init_vectors(model: VectorsModel, X: object = None, Y: object = None) -> None:
    """Load the encoder, and see that it has the layers."""
    (encoder,) = model.layers
    encoder.initialize()
    model.attrs["layer_choice"].resolve(encoder_shim(encoder).network.config.num_hidden_layers)


def forward_vectors(
    model: VectorsModel, docs: Sequence[Doc], is_train: bool
) -> tuple[list[Array], Callable[[list[Array]], list[Doc]]]:
    """Docs -> (tokens, layers, width) of each; nothing is trained.

    Raises:
        ValueError: if the encoder has not the layers.
    """
    shim = encoder_shim(model.layers[0])
    cache: FeatureCache = model.attrs["cache"]
    layers = model.attrs["layer_choice"].resolve(shim.network.config.num_hidden_layers)
    cache.attend(shim.network, is_train=is_train)
    keys = [content_key(doc) for doc in docs]
    known: dict[Key, Array] = {key: cache.get(key) for key in keys}
    missing = {key: doc for key, doc in zip(keys, docs, strict=True) if known[key] is None}
    if missing:
        fresh = encode_layers(shim, list(missing.values()), layers)
        for key, tensor in zip(missing, fresh, strict=True):
            known[key] = torch2xp(tensor)
            if cache.is_open:
                cache.put(key, model.ops.to_numpy(known[key]))
    return [model.ops.asarray3f(known[key]) for key in keys], lambda gradients: list(docs)


def encode_layers(shim: EncoderShim, docs: Sequence[Doc], layers: Sequence[int]) -> list[Tensor]:
    """The hidden states of layers at the first piece of each token, without dropout or gradients.

    Args:
        shim: the encoder.
        docs: what it reads.
        layers: indices from 0, which is the embeddings.

    Returns:
        (tokens, layers, width) for each Doc; zeros for white space.
    """
    settings, config = shim.settings, shim.network.config
    layouts = shim.lay_out(docs)
    sizes = [0 if layout is None else len(layout.align_lengths) for layout in layouts]
    vectors = torch.zeros(sum(sizes), len(layers), config.hidden_size, device=shim.device)
    filled = [layout for layout in layouts if layout is not None]
    if filled:
        pieces = settings.pieces_at_once(shim.device)
        chunks = Chunks.build(filled, max_pieces=pieces, device=shim.device)
        tokens, rows = (torch.from_numpy(array).to(shim.device) for array in first_pieces(filled))
        rows = chunks.find(rows)
        begin = 0
        with shim.predicting() as network:
            for batch in chunks.batches:
                end = begin + len(batch.pieces)
                states = network(batch, output_hidden_states=True).hidden_states
                here = ((begin <= rows) & (rows < end)).nonzero().squeeze(1)
                for column, layer in enumerate(layers):
                    vectors[tokens[here], column] = states[layer][rows[here] - begin].float()
                begin = end
    return list(vectors.split(sizes))


def first_pieces(layouts: Sequence[DocLayout]) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that have pieces, counted through all Docs, and the first piece of each."""
    lengths = np.concatenate([layout.align_lengths for layout in layouts]).astype(np.int64)
    offsets = np.cumsum([0, *(len(layout.pieces) for layout in layouts)])[:-1]
    pieces = np.concatenate(
        [layout.align_pieces + offset for layout, offset in zip(layouts, offsets, strict=True)]
    )
    tokens = np.flatnonzero(lengths)
    starts = np.cumsum(lengths) - lengths
    return tokens, pieces[starts[tokens]].astype(np.int64)


def concat_layers() -> Model[list[Floats3d], list[Floats2d]]:
    """The vectors of each token's layers side by side."""
    return Model("concat_layers", forward_concat)


def forward_concat(
    model: Model[list[Floats3d], list[Floats2d]], sequences: list[Array], is_train: bool
) -> tuple[list[Array], Callable[[list[Array]], list[Array]]]:
    """(tokens, layers, width) of each Doc -> (tokens, layers * width)."""
    shapes = [sequence.shape for sequence in sequences]

    def backprop(gradients: list[Array]) -> list[Array]:
        return [array.reshape(shape) for array, shape in zip(gradients, shapes, strict=True)]

    # Copies: what goes out may be changed (`doc.tensor`), what is kept may not.
    flat = [
        model.ops.xp.array(sequence).reshape(tokens, layers * width)
        for sequence, (tokens, layers, width) in zip(sequences, shapes, strict=True)
    ]
    return flat, backprop
