"""What heads read: the shared encoder, through a listener, or an encoder of their own.

Each `...Listener.v1` has its twin `...Encoder.v1` that owns an encoder; `nlp.replace_listeners`
turns the first into the second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from spacy.tokens import Doc
from spacy_transformers.data_classes import FullTransformerBatch, TransformerData
from spacy_transformers.layers import TransformerListener, trfs2arrays
from thinc.api import Model, chain, list2ragged, reduce_mean
from thinc.types import Floats2d, Ragged

from spacy_bert.models.pooling import Piece, pool_cls, pool_first, pool_pairs, pool_windows
from spacy_bert.models.windows import Windows

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are
EncoderModel: TypeAlias = Model[list[Doc], FullTransformerBatch]

# What listens -> what reads the same from an encoder of its own.
PRIVATE = {
    "spacy_bert.ClsListener.v1": "spacy_bert.ClsEncoder.v1",
    "spacy_bert.PairListener.v1": "spacy_bert.PairEncoder.v1",
    "spacy_bert.TokenListener.v1": "spacy_bert.TokenEncoder.v1",
    "spacy_bert.PieceListener.v1": "spacy_bert.PieceEncoder.v1",
    "spacy-transformers.TransformerListener.v1": "spacy_bert.Tok2VecEncoder.v1",
}


def build_cls_listener(upstream: str = "*", piece: Piece = "first") -> Model[list[Doc], Floats2d]:
    """The architecture `spacy_bert.ClsListener.v1`: one [CLS] vector for each Doc.

    Args:
        upstream: name of the `bert` component to listen to; "*" is the only one.
        piece: "first" reads [CLS], "last" the last [SEP] instead, which is what a left-to-right
            encoder needs: its [CLS] sees nothing but itself.

    Raises:
        ValueError: if `piece` is another.
    """
    return _listen(upstream, pool_cls(piece))


def build_cls_encoder(encoder: EncoderModel, piece: Piece = "first") -> Model[list[Doc], Floats2d]:
    """The architecture `spacy_bert.ClsEncoder.v1`: the same from an encoder of its own.

    Args:
        encoder: `spacy_bert.Encoder.v1`.
        piece: as in `spacy_bert.ClsListener.v1`.

    Raises:
        ValueError: if `piece` is another.
    """
    return chain(split(encoder), pool_cls(piece))


def build_pair_listener(upstream: str = "*", piece: Piece = "first") -> Model[list[Doc], Ragged]:
    """The architecture `spacy_bert.PairListener.v1`: one [CLS] vector for each pair of segments.

    The rows of all Docs stand one below the other, (pairs, width), with the pairs of each as the
    lengths of the `Ragged`. A pair that is read in several windows has the mean of their vectors.

    Args:
        upstream: name of the `bert` component to listen to; "*" is the only one.
        piece: as in `spacy_bert.ClsListener.v1`.

    Raises:
        ValueError: if `piece` is another.
    """
    return _listen(upstream, pool_pairs(piece))


def build_pair_encoder(encoder: EncoderModel, piece: Piece = "first") -> Model[list[Doc], Ragged]:
    """The architecture `spacy_bert.PairEncoder.v1`: the same from an encoder of its own.

    Args:
        encoder: `spacy_bert.Encoder.v1`.
        piece: as in `spacy_bert.ClsListener.v1`.

    Raises:
        ValueError: if `piece` is another.
    """
    return chain(split(encoder), pool_pairs(piece))


def build_token_listener(upstream: str = "*") -> Model[list[Doc], list[Floats2d]]:
    """The architecture `spacy_bert.TokenListener.v1`: each token's vector is its first piece's.

    Args:
        upstream: name of the `bert` component to listen to; "*" is the only one.
    """
    return _listen(upstream, pool_first())


def build_token_encoder(encoder: EncoderModel) -> Model[list[Doc], list[Floats2d]]:
    """The architecture `spacy_bert.TokenEncoder.v1`: the same from an encoder of its own.

    Args:
        encoder: `spacy_bert.Encoder.v1`.
    """
    return chain(split(encoder), pool_first())


def build_piece_listener(upstream: str = "*") -> Model[list[Doc], list[Windows]]:
    """The architecture `spacy_bert.PieceListener.v1`: each piece of each window has its vector.

    Args:
        upstream: name of the `bert` component to listen to; "*" is the only one.
    """
    return _listen(upstream, pool_windows())


def build_piece_encoder(encoder: EncoderModel) -> Model[list[Doc], list[Windows]]:
    """The architecture `spacy_bert.PieceEncoder.v1`: the same from an encoder of its own.

    Args:
        encoder: `spacy_bert.Encoder.v1`.
    """
    return chain(split(encoder), pool_windows())


def build_token_mean(tok2vec: Model[list[Doc], list[Floats2d]]) -> Model[list[Doc], Floats2d]:
    """The architecture `spacy_bert.TokenMean.v1`: the mean of each Doc's tokens, for `TextCat.v1`.

    Args:
        tok2vec: gives a vector for each token, such as `spacy_bert.TokenListener.v1`, or a
            `spacy.Tok2Vec.v2` of it and `spacy_bert.BiLSTM.v1`.
    """
    mean: Model[list[Floats2d], Floats2d] = chain(list2ragged(), reduce_mean())
    return Model("token_mean", forward_token_mean, init=init_token_mean, layers=[tok2vec, mean])


def init_token_mean(
    model: Model[list[Doc], Floats2d], X: list[Doc] | None = None, Y: object = None
) -> None:
    """Initialize the layer that is read."""
    model.layers[0].initialize(X=X)


def forward_token_mean(
    model: Model[list[Doc], Floats2d], docs: list[Doc], is_train: bool
) -> tuple[Array, Callable[[Array], list[Doc]]]:
    """Docs -> (Docs, width); zeros for a Doc without tokens, and no width if none has any."""
    if not any(len(doc) for doc in docs):  # no layer behind an encoder can tell its width
        return model.ops.alloc2f(len(docs), 0), lambda gradient: docs
    tok2vec, mean = model.layers
    vectors, backprop_tok2vec = tok2vec(docs, is_train)
    means, backprop_mean = mean(vectors, is_train)

    def backprop(gradient: Array) -> list[Doc]:
        backprop_tok2vec(backprop_mean(gradient))
        return docs

    return means, backprop


def build_tok2vec_encoder(
    encoder: EncoderModel, pooling: Model[Ragged, Floats2d], grad_factor: float = 1.0
) -> Model[list[Doc], list[Floats2d]]:
    """The architecture `spacy_bert.Tok2VecEncoder.v1`: an encoder of its own for any component.

    It stands where `spacy-transformers.TransformerListener.v1` does: in spaCy's tagger, parser ...

    Args:
        encoder: `spacy_bert.Encoder.v1`.
        pooling: makes one vector of each token's pieces, such as `reduce_mean.v1`.
        grad_factor: factor of the gradient that goes on to the encoder.
    """
    return chain(split(encoder), trfs2arrays(pooling, grad_factor))


def split(encoder: EncoderModel) -> Model[list[Doc], list[TransformerData]]:
    """An encoder that gives each Doc's data, as listeners get them from the shared one."""
    return Model("split", forward_split, layers=[encoder], dims={"nO": None}, init=init_split)


def init_split(
    model: Model[list[Doc], list[TransformerData]], X: object = None, Y: object = None
) -> None:
    """Load the encoder."""
    (encoder,) = model.layers
    encoder.initialize()


def forward_split(
    model: Model[list[Doc], list[TransformerData]], docs: list[Doc], is_train: bool
) -> tuple[list[TransformerData], Callable[[list[TransformerData]], list[Doc]]]:
    """Docs -> their data; backward, data with gradients for the Docs that have tokens."""
    (encoder,) = model.layers
    batch, backprop_encoder = encoder(docs, is_train)

    def backprop(gradients: list[TransformerData]) -> list[Doc]:
        if gradients:  # none of the Docs had a token otherwise
            arrays = [[data.model_output.last_hidden_state] for data in gradients]
            backprop_encoder(batch.unsplit_by_doc(arrays))
        return docs

    return batch.doc_data, backprop


def private_config(encoder: dict[str, Any], tok2vec: dict[str, Any]) -> dict[str, Any]:
    """The config of what `nlp.replace_listeners` puts in the place of a listener.

    Args:
        encoder: config of the shared encoder's model.
        tok2vec: config of the listener, or of the `tok2vec` layer that has it inside.

    Raises:
        ValueError: if nothing is known to stand for such a listener.
    """
    listener = _find_listener(tok2vec)
    if listener is None:
        raise ValueError(
            f"replace_listeners: nothing is known to take the place of the listener in "
            f"{tok2vec.get('@architectures')}; known are {', '.join(PRIVATE)}"
        )
    kept = {key: value for key, value in listener.items() if key != "upstream"}
    return {**kept, "@architectures": PRIVATE[listener["@architectures"]], "encoder": encoder}


def _find_listener(config: dict[str, Any]) -> dict[str, Any] | None:
    if config.get("@architectures") in PRIVATE:
        return config
    inner = (_find_listener(value) for value in config.values() if isinstance(value, dict))
    return next((found for found in inner if found is not None), None)


def _listen(upstream: str, pool: Model[list[TransformerData], Any]) -> Model[list[Doc], Any]:
    listener = TransformerListener(upstream_name=upstream)
    model: Model[list[Doc], Any] = chain(listener, pool)
    model.set_ref("listener", listener)
    return model
