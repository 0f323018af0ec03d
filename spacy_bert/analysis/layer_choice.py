"""The geometry of a pipeline's layers, and the layer that it suggests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Token

from spacy_bert.analysis.geometry import NEIGHBOURS, Geometry, layer_geometry, semantic_layer
from spacy_bert.analysis.token_vectors import TokenVectors

POINTS = 10_000
LABELS: dict[str, Callable[[Token], str]] = {
    "pos": lambda token: token.pos_,
    "tag": lambda token: token.tag_,
    "dep": lambda token: token.dep_,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerSuggestion:
    """The layer whose vectors hold most meaning, by the rule of Valeriani et al. 2023.

    Attributes:
        layer: The relative minimum of the intrinsic dimension after its first peak; None if the
            profile has none, which says nothing about the layers.
        profile: The intrinsic dimension of each layer, (layers,); 0 is the embeddings.
        reason: The same in words.
    """

    layer: int | None
    profile: np.ndarray
    reason: str


def token_geometry(
    nlp: Language,
    docs: Sequence[Doc],
    *,
    label: Callable[[Token], str] | None = None,
    points: int = POINTS,
    k: int = NEIGHBOURS,
    seed: int = 0,
    component: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Geometry:
    """The geometry of tokens, drawn at random, in every layer.

    Args:
        nlp: A pipeline with an encoder.
        docs: The Docs.
        label: Gives each token's class, such as `lambda token: token.pos_`; tokens for which it is
            empty are left out.
        points: How many tokens are drawn at most.
        k: Neighbours to look at.
        seed: Of the draw.
        component: Name of the component whose encoder is meant, if there are several.
        progress: Called with 1 for each Doc that was read.

    Raises:
        ValueError: If there are not more than k tokens.
    """
    candidates = [
        (number, token.i, "" if label is None else label(token))
        for number, doc in enumerate(docs)
        for token in doc
        if not token.is_space
    ]
    if label is not None:
        candidates = [each for each in candidates if each[2]]
    if len(candidates) <= k:
        raise ValueError(
            f"there are {len(candidates)} tokens"
            f"{'' if label is None else ' with a label'}: more than {k} are needed"
        )
    order = np.random.default_rng(seed).permutation(len(candidates))[:points]
    drawn = [candidates[i] for i in sorted(order.tolist())]
    with TokenVectors(nlp, docs, component=component, progress=progress) as vectors:
        rows, _ = vectors.spans([(number, place, place + 1) for number, place, _ in drawn])
    labels = None if label is None else np.array([each for *_, each in drawn])
    return layer_geometry(list(rows.transpose(1, 0, 2)), labels, k=k)


def find_label(name: str) -> Callable[[Token], str]:
    """The class of a token by its name: "pos", "tag" or "dep".

    Raises:
        ValueError: If there is no such class.
    """
    if name not in LABELS:
        raise ValueError(f"unknown label {name!r}: there are {', '.join(LABELS)}")
    return LABELS[name]


def suggest_layer(
    nlp: Language,
    docs: Sequence[Doc],
    *,
    points: int = POINTS,
    seed: int = 0,
    component: str | None = None,
) -> LayerSuggestion:
    """The layer that the intrinsic dimension suggests, with the curve it is read from.

    The rule was found for models of proteins and images; of text it may name no layer. The layer
    then serves as any other: `[components.NAME.model.tok2vec.embed] layers = [7]` of
    `spacy_bert.LayerFeatures.v1`.

    Args:
        nlp: A pipeline with an encoder.
        docs: Docs of the kind that it is for.
        points: How many tokens are drawn at most.
        seed: Of the draw.
        component: Name of the component whose encoder is meant, if there are several.

    Raises:
        ValueError: If there are too few tokens.
    """
    found = token_geometry(nlp, docs, points=points, seed=seed, component=component)
    layer = semantic_layer(found.profile)
    peak = int(found.profile.argmax())
    if layer is None:
        reason = (
            f"the dimension is highest in layer {peak} and has no minimum after a peak: "
            "the rule names no layer"
        )
    else:
        reason = (
            f"the dimension falls to {found.profile[layer]:.1f} in layer {layer}, after a peak, "
            "before it rises again"
        )
    return LayerSuggestion(layer=layer, profile=found.profile, reason=reason)
