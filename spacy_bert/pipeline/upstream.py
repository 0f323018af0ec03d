"""What a component reads: the shared encoder before it in the pipeline, or one of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from spacy.language import Language
from spacy.tokens import Doc
from spacy_transformers import Transformer
from spacy_transformers.layers import TransformerListener
from spacy_transformers.pipeline_component import install_extensions
from thinc.api import Model

from spacy_bert.models.batch import PackedTransformerData
from spacy_bert.models.encoder import EncoderShim
from spacy_bert.models.heads import Head, head_shim

install_extensions()  # without an encoder in the pipeline nobody else does


def find_encoder(name: str, model: Model[Any, Any], nlp: Language) -> EncoderShim | None:
    """The encoder that a component's model reads; None if it is not one of ours.

    Args:
        name: name of the component.
        model: its model.
        nlp: the pipeline.

    Raises:
        ValueError: if the model listens to a component that does not stand before it.
    """
    upstream = {listener.upstream_name for listener in _listeners(model)}
    if not upstream:
        return _encoder_shim(model)
    for other, component in nlp.components:
        if other == name:
            break
        if isinstance(component, Transformer) and upstream & {"*", other}:
            return _encoder_shim(component.model)
    wanted = 'any "bert"' if upstream == {"*"} else " and ".join(map(repr, sorted(upstream)))
    raise ValueError(
        f"[components.{name}] listens to {wanted}, but no such component stands before it in "
        "[nlp] pipeline: add one, or move it up"
    )


def require_informed_piece(name: str, model: Model[Any, Any], encoder: EncoderShim) -> None:
    """Refuse to read [CLS] of a left-to-right encoder: it sees no other piece.

    Raises:
        ValueError: names the setting to change.
    """
    if not encoder.network.config.is_decoder:
        return
    if any(node.attrs.get("cls_piece") == "first" for node in model.walk()):
        raise ValueError(
            f"[components.{name}] reads the first piece, [CLS], but the encoder is left-to-right "
            "(is_decoder), so that [CLS] sees nothing of the text: set "
            f'[components.{name}.model.tok2vec] piece = "last"'
        )


def take_pooler(model: Model[Any, Any], encoder: EncoderShim | None) -> None:
    """Begin with the encoder's pre-trained pooler, if it has one, in the place of the head's own.

    A head that reads vectors of another width (of several layers, of a BiLSTM) keeps its own.

    Args:
        model: of a component, with a head that has a pooler.
        encoder: what it reads; None if it is not one of ours.
    """
    pooler = None if encoder is None else encoder.network.pooler
    own = cast(Head, head_shim(model).module).pooler
    if pooler is None or own is None or own.dense.in_features != pooler.dense.in_features:
        return
    own.load_state_dict(pooler.state_dict())


def require_encoding(name: str, model: Model[Any, Any], docs: Sequence[Doc]) -> None:
    """Refuse Docs that the shared encoder has not seen: a listener would read zeros.

    Raises:
        ValueError: if a Doc with tokens has no `doc._.trf_data`.
    """
    if next(iter(_listeners(model)), None) is None:
        return
    if any(doc._.trf_data is None for doc in docs if len(doc)):
        raise ValueError(
            f"{name!r} reads what the shared encoder leaves in doc._.trf_data, but it has not seen "
            'this Doc: enable the component "bert" and run it first, or give this one an encoder '
            "of its own (nlp.replace_listeners)"
        )


def require_windows(name: str, model: Model[Any, Any], docs: Sequence[Doc]) -> None:
    """Refuse Docs whose encoding does not tell where its pieces stand.

    Raises:
        ValueError: if another encoder left it, or it was read from bytes.
    """
    if next(iter(_listeners(model)), None) is None:
        return
    if any(not isinstance(doc._.trf_data, PackedTransformerData) for doc in docs if len(doc)):
        raise ValueError(
            f"{name!r} cannot tell where the pieces in doc._.trf_data stand in the text: run the "
            'component "bert" on the Doc itself, not on what was saved of it'
        )


def _listeners(model: Model[Any, Any]) -> Iterable[TransformerListener]:
    return (node for node in model.walk() if isinstance(node, TransformerListener))


def _encoder_shim(model: Model[Any, Any]) -> EncoderShim | None:
    shims = (shim for node in model.walk() for shim in node.shims)
    return next((shim for shim in shims if isinstance(shim, EncoderShim)), None)
