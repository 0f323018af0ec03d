"""Which heads look at the same things: Jensen-Shannon distances, a map, and clusters of heads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.special import entr
from sklearn.manifold import smacof
from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.analysis.head_maps import Progress, kept_heads, trace_docs, window_maps

WEIGHTS = 2**24  # of attention, compared at once
SMOOTHING = 0.001  # share of a uniform distribution, as in Clark et al.'s code


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadDistances:
    """How far heads are from each other; pruned heads are left out.

    Attributes:
        heads: Layer and head, from 0, of each row of the arrays below, (kept heads, 2) int64.
        distances: Mean Jensen-Shannon divergence between the attention of two heads from the same
            piece, in nats, (kept heads, kept heads): 0 if they are the same, ln 2 at most.
        positions: The heads on a plane, as far from each other as `distances` says if that can be,
            (kept heads, 2).
        stress: What is wrong with the plane: the root of the sum of squared differences of
            distances, over that of squared distances; 0 is a perfect map.
        merges: The tree of clusters as `scipy.cluster.hierarchy` has it, (kept heads - 1, 4).
        clusters: The cluster of each head, (kept heads,) int64, from 1; neighbours in the tree.
        pieces: How many rows of attention were compared.
    """

    heads: np.ndarray
    distances: np.ndarray
    positions: np.ndarray
    stress: float
    merges: np.ndarray
    clusters: np.ndarray
    pieces: int

    def within_layers(self) -> tuple[float, float]:
        """The mean distance of two heads of one layer, and of two of different layers."""
        first, second = np.triu_indices(len(self.heads), k=1)
        same = self.heads[first, 0] == self.heads[second, 0]
        found = self.distances[first, second]
        return _mean(found[same]), _mean(found[~same])


def js_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in nats (Lin 1991, equation 4.1): 0 of the same, ln 2 of disjoint.

    Args:
        p: Distributions over the last axis.
        q: As many, or of a shape that broadcasts with it.
    """
    mean = entr((p + q) / 2).sum(axis=-1)
    return np.asarray(mean - (entr(p).sum(axis=-1) + entr(q).sum(axis=-1)) / 2)


def head_distances(
    nlp: Language,
    docs: Iterable[Doc],
    *,
    component: str | None = None,
    clusters: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> HeadDistances:
    """Compare the attention of all heads with each other (Clark et al. 2019, section 6).

    The distance of two heads is the mean, over all pieces, of the Jensen-Shannon divergence between
    what the one and what the other attends to from there. The plane is metric multidimensional
    scaling (SMACOF); the tree of clusters is made by average linkage, which is ours: the paper has
    the plane alone.

    Args:
        nlp: A pipeline with an encoder.
        docs: The Docs; each window in which one is read counts as a text of its own. Time grows
            with the square of the number of heads: some hundred sentences tell enough.
        component: Name of the component whose encoder is meant, if there are several.
        clusters: How many clusters are wanted at most.
        seed: Of the plane's first guess.
        progress: Called with 1 after each Doc.

    Raises:
        ValueError: If there are no Docs, the pipeline has no encoder of spacy_bert's, fewer than
            two heads are left, or `clusters` is no positive number.
    """
    if clusters < 1:
        raise ValueError(f"clusters must be at least 1, got {clusters}")
    kept = kept_heads(nlp, component)
    heads = np.argwhere(kept)
    if len(heads) < 2:
        raise ValueError(f"the encoder has {len(heads)} heads left: two at least can be compared")
    sums, pieces = np.zeros((len(heads), len(heads))), 0
    for maps in window_maps(trace_docs(nlp, docs, component), progress):
        sums += summed_divergences(maps.weights[kept])
        pieces += len(maps.pieces)
    distances = sums / pieces
    positions, stress = _to_plane(distances, seed)
    merges = linkage(squareform(distances, checks=False), method="average")
    return HeadDistances(
        heads=heads,
        distances=distances,
        positions=positions,
        stress=stress,
        merges=merges,
        clusters=fcluster(merges, min(clusters, len(heads)), criterion="maxclust").astype(np.int64),
        pieces=pieces,
    )


def summed_divergences(weights: np.ndarray, *, smoothing: float = SMOOTHING) -> np.ndarray:
    """Jensen-Shannon divergences of all pairs of heads, summed over rows, (heads, heads).

    Args:
        weights: (heads, pieces, pieces), rows sum to 1.
        smoothing: Share of a uniform distribution that each row is mixed with.
    """
    heads, length = len(weights), weights.shape[-1]
    found = np.zeros((heads, heads))
    at_once = max(1, WEIGHTS // (heads * length))
    for start in range(0, length, at_once):
        rows = weights[:, start : start + at_once].reshape(heads, -1)
        smooth = (1.0 - smoothing) * rows + weights.dtype.type(smoothing / length)
        own = entr(smooth).sum(axis=-1, dtype=np.float64)
        for head in range(heads - 1):  # a head against those behind it
            mean = entr((smooth[head] + smooth[head + 1 :]) / 2).sum(axis=-1, dtype=np.float64)
            found[head, head + 1 :] += mean - (own[head] + own[head + 1 :]) / 2
    # Rounding may leave a little less than nothing.
    return np.asarray(np.maximum(found + found.T, 0.0))


def _to_plane(distances: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    # Of several guesses that of least stress; more iterations than it takes.
    positions, _ = smacof(
        distances,
        n_components=2,
        n_init=4,
        max_iter=500,
        random_state=seed,
        normalized_stress=False,
    )
    found = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    total = float((distances**2).sum())
    stress = float(np.sqrt(((found - distances) ** 2).sum() / total)) if total else 0.0
    return np.asarray(positions), stress


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
