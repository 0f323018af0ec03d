"""CAT-probing (Chen et al. 2022): how far attention follows the structure of code, by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from spacy.language import Language

from spacy_bert.analysis.code_structure import Structure
from spacy_bert.analysis.trace import Trace
from spacy_bert.analysis.tracing import trace

QUANTILE = 0.75  # of attention; of distances, 1 - 0.75
FREQUENT_TYPES = 8
FEWEST = 3  # tokens, below which hardly anything is above a quantile


@dataclass(frozen=True, kw_only=True, eq=False)
class CatScores:
    """The CAT-score of each layer.

    Attributes:
        scores: Mean over samples, (layers,), the first layer first; 0 to 1, NaN without a sample.
            High: what attends strongly to each other stands close in the structure.
        ceilings: What attention that follows the structure perfectly would have, (layers,): less
            than 1, since distances are whole numbers, of which many are equal.
        neighbours: What attention would have that falls with the distance in the text alone,
            (layers,): this package's own baseline, since what is close in the text is often close
            in the structure.
        chance: What attention that has nothing to do with the structure has.
        samples: How many were scored at each layer, (layers,) int: texts that BERT reads in one
            window, or the windows of longer ones.
        types: Of each layer, the types of tokens that were kept, with the share of their weights
            that is above the quantile; empty if all were kept.
    """

    scores: np.ndarray
    ceilings: np.ndarray
    neighbours: np.ndarray
    chance: float
    samples: np.ndarray
    types: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sample:
    """Attention among tokens that are read in one window.

    Attributes:
        attention: Mean over heads and pieces, (layers, tokens, tokens).
        distances: (tokens, tokens).
        types: (tokens,).
    """

    attention: np.ndarray
    distances: np.ndarray
    types: np.ndarray


def cat_probe(
    nlp: Language,
    structures: Sequence[Structure],
    *,
    frequent_types: int | None = FREQUENT_TYPES,
    quantile: float = QUANTILE,
    component: str | None = None,
    progress: Callable[[int], object] = lambda more: None,
) -> CatScores:
    """Score how well attention and structure agree.

    Args:
        nlp: A pipeline with the component "bert".
        structures: Of code (`read_code`), or of prose (`read_tree`, this package's own extension).
        frequent_types: How many types of tokens to keep in each layer: those whose weights are most
            often above the quantile, among types that occur at least once a sample on average. None
            for all tokens, in one pass instead of two.
        quantile: Weights above this quantile of a sample are strong, distances below the opposite
            one small.
        component: Name of the component whose encoder is meant, if there are several.
        progress: Called with how many more Docs are done, in each of the passes.

    Raises:
        ValueError: If there are no structures, none has three tokens, or a number is out of range.
    """
    if not 0.5 <= quantile < 1.0:
        raise ValueError(f"quantile must be from 0.5 to below 1, got {quantile}")
    if frequent_types is not None and frequent_types < 1:
        raise ValueError(
            f"frequent_types must be at least 1, or None for all, got {frequent_types}"
        )

    def samples() -> Iterator[_Sample]:
        traces = trace(nlp, (structure.doc for structure in structures), component=component)
        for structure, seen in zip(structures, traces, strict=True):
            yield from _windows(structure, seen)
            progress(1)

    types: tuple[dict[str, float], ...] = ()
    if frequent_types is not None:
        types = _frequent_types(samples(), frequent_types, quantile)
    totals: list[np.ndarray] = []
    for sample in samples():
        layers = len(sample.attention)
        kept = [np.isin(sample.types, list(own)) for own in types]
        every = np.ones(len(sample.types), dtype=bool)
        totals.append(_score_layers(sample, kept or [every] * layers, quantile))
    if not totals:
        raise ValueError(f"there is nothing to score: give texts of at least {FEWEST} tokens")
    found = np.array(totals)
    known = np.isfinite(found).all(axis=-1)
    count = known.sum(axis=0)
    sums = np.where(known[:, :, None], found, 0.0).sum(axis=0)
    means = np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], np.nan)
    share = 1.0 - quantile
    return CatScores(
        scores=means[:, 0],
        ceilings=means[:, 1],
        neighbours=means[:, 2],
        chance=share / (2.0 - share),
        samples=count,
        types=types,
    )


def cat_score(
    attention: np.ndarray, distances: np.ndarray, *, quantile: float = QUANTILE
) -> tuple[float, float] | None:
    """The CAT-score of one sample in one layer, and the ceiling of it.

    The number of pairs of tokens with strong attention *and* a small distance, divided by that of
    pairs with either. The ceiling is that share if one set of pairs held the whole of the other.

    Args:
        attention: (tokens, tokens).
        distances: (tokens, tokens).
        quantile: See `cat_probe`.

    Returns:
        None if no pair has either, or there is no attention (as with a layer whose heads are all
        pruned).
    """
    if not attention.size or not attention.any():
        return None
    strong = attention > np.quantile(attention, quantile)
    near = distances < np.quantile(distances, 1.0 - quantile)
    either = np.count_nonzero(strong | near)
    if not either:
        return None
    counts = np.count_nonzero(strong), np.count_nonzero(near)
    return np.count_nonzero(strong & near) / either, min(counts) / max(counts)


def mean_attention(weights: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Attention among tokens, averaged over heads and over pieces on both sides.

    Unlike `merge_attention`, which sums over the pieces attended to: the paper's way.

    Args:
        weights: (layers, heads, pieces, pieces).
        members: Which pieces belong to which token, (pieces, tokens) bool.

    Returns:
        (layers, tokens, tokens).
    """
    shares = members / np.maximum(members.sum(axis=0), 1)
    return np.asarray(shares.T @ weights.mean(axis=1, dtype=np.float64) @ shares)


def _windows(structure: Structure, seen: Trace) -> Iterator[_Sample]:
    """The tokens of each window, of which each has one; few tokens are no sample."""
    types = np.array(structure.types, dtype=object)
    for window, weights in enumerate(seen.attentions):
        tokens = np.flatnonzero(seen.window_of_token == window)
        if len(tokens) < FEWEST:
            continue
        pieces = np.flatnonzero(seen.window_of_piece == window)
        yield _Sample(
            attention=mean_attention(weights, seen.token_members[np.ix_(pieces, tokens)]),
            distances=structure.distances(tokens),
            types=types[tokens],
        )


def _frequent_types(
    samples: Iterable[_Sample], wanted: int, quantile: float
) -> tuple[dict[str, float], ...]:
    """Of each layer, the types that most often attend or are attended to strongly, and how often.

    Of equal ones, the first by name.
    """
    strong: list[Counter[str]] = []
    weights: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    count = 0
    for sample in samples:
        count += 1
        size = len(sample.types)
        strong = strong or [Counter() for _ in sample.attention]
        for type_, own in Counter(sample.types.tolist()).items():
            tokens[type_] += own
            weights[type_] += own * 2 * size
        for own_counts, attention in zip(strong, sample.attention, strict=True):
            above = attention > np.quantile(attention, quantile)
            both = above.sum(axis=0) + above.sum(axis=1)
            for type_, number in zip(sample.types.tolist(), both.tolist(), strict=True):
                own_counts[type_] += number
    common = sorted(type_ for type_, number in tokens.items() if number >= count)
    found = []
    for own_counts in strong:
        rates = {type_: own_counts[type_] / weights[type_] for type_ in common or sorted(tokens)}
        best = sorted(rates, key=lambda type_: -rates[type_])[:wanted]
        found.append({type_: rates[type_] for type_ in best})
    return tuple(found)


def _score_layers(sample: _Sample, kept: Sequence[np.ndarray], quantile: float) -> np.ndarray:
    """Score, ceiling, and score of neighbours in the text, (layers, 3); NaN without a score."""
    found = np.full((len(sample.attention), 3), np.nan)
    places = np.arange(len(sample.types))
    for layer, (attention, keep) in enumerate(zip(sample.attention, kept, strict=True)):
        if np.count_nonzero(keep) < FEWEST:
            continue
        own = np.ix_(keep, keep)
        score = cat_score(attention[own], sample.distances[own], quantile=quantile)
        by_place = -np.abs(np.subtract.outer(places[keep], places[keep]))
        baseline = cat_score(by_place, sample.distances[own], quantile=quantile)
        if score is not None:
            found[layer] = *score, 0.0 if baseline is None else baseline[0]
    return found
