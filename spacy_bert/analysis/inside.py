"""Which encoder of a pipeline an analysis looks into, and who reads it."""

from __future__ import annotations

from typing import Any

from spacy.language import Language
from spacy_transformers import Transformer

from spacy_bert.models.encoder import EncoderShim
from spacy_bert.pipeline.upstream import find_encoder

LAYER_FEATURES = "layer_vectors"  # name of the model that keeps what a frozen encoder has said


def find_shim(nlp: Language, component: str | None = None) -> EncoderShim:
    """The encoder of a component, the one it owns or listens to; no update is still under way.

    Args:
        nlp: The pipeline.
        component: Its name; None for the only encoder there is.

    Raises:
        ValueError: If there is no such component, it has no encoder of ours, or there are several
            encoders and none is named.
    """
    shim = _only_shim(nlp) if component is None else _shim_of(nlp, component)
    shim.settle()
    return shim


def own_shim(pipe: object) -> EncoderShim | None:
    """The encoder inside a component, if there is one."""
    model: Any = getattr(pipe, "model", None)
    if model is None or not hasattr(model, "walk"):
        return None
    shims = (shim for node in model.walk() for shim in node.shims)
    return next((shim for shim in shims if isinstance(shim, EncoderShim)), None)


def find_stock(nlp: Language, component: str | None = None) -> Transformer | None:
    """A `transformer` of spacy-transformers' with a model that is not ours; None without one."""
    for name, pipe in nlp.pipeline:
        fits = component in (None, name) and isinstance(pipe, Transformer)
        if fits and own_shim(pipe) is None:
            return pipe
    return None


def refuse_features(nlp: Language, component: str) -> None:
    """Refuse a component that reads kept features: a change in the encoder would not reach it.

    Raises:
        ValueError: If it does.
    """
    model: Any = getattr(nlp.get_pipe(component), "model", None)
    if model is not None and any(node.name == LAYER_FEATURES for node in model.walk()):
        raise ValueError(
            f"{component!r} reads kept features of a frozen encoder (spacy_bert.LayerFeatures.v1): "
            "what is changed inside the encoder does not reach it"
        )


def _only_shim(nlp: Language) -> EncoderShim:
    found: dict[int, tuple[str, EncoderShim]] = {}
    for name in nlp.pipe_names:
        shim = own_shim(nlp.get_pipe(name))
        if shim is not None:
            found.setdefault(id(shim), (name, shim))
    if not found:
        raise ValueError(
            "the pipeline has no encoder of spacy_bert's "
            f"(it has {', '.join(nlp.pipe_names) or 'no component'}): add the component "
            '"bert", or make a pipeline with `python -m spacy bert from-hf`'
        )
    if len(found) > 1:
        names = ", ".join(name for name, _ in found.values())
        raise ValueError(f"the pipeline has several encoders: name the component ({names})")
    return next(shim for _, shim in found.values())


def _shim_of(nlp: Language, component: str) -> EncoderShim:
    if component not in nlp.pipe_names:
        raise ValueError(
            f"the pipeline has no component {component!r}: it has "
            f"{', '.join(nlp.pipe_names) or 'none'}"
        )
    pipe = nlp.get_pipe(component)
    shim = own_shim(pipe)
    model: Any = getattr(pipe, "model", None)
    if shim is None and model is not None:
        shim = find_encoder(component, model, nlp)
    if shim is None:
        raise ValueError(f"the component {component!r} has no encoder of spacy_bert's")
    return shim
