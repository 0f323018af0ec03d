"""Projections: the tokens of every layer as points of a plane, layer beside layer."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA, FastICA
from sklearn.exceptions import ConvergenceWarning
from sklearn.manifold import TSNE

METHODS = ("pca", "ica", "tsne")
PERPLEXITY = 30.0  # of t-SNE, where there are tokens enough
FEWEST = {"pca": 1, "ica": 3, "tsne": 4}  # tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Projections:
    """The points of each layer.

    Attributes:
        method: One of `METHODS`.
        points: (layers + 1, tokens, 2), each layer around its mean, turned (and mirrored, if need
            be) so that it lies on the layer before it as well as it can; 0 is the embeddings.
        explained: Share of the variance that lies in the plane, (layers + 1,); None if the method
            tells none.
    """

    method: str
    points: np.ndarray
    explained: np.ndarray | None


def project_layers(hidden: np.ndarray, method: str = "pca", *, seed: int = 0) -> Projections:
    """Project the tokens of each layer to two dimensions (van Aken et al. 2019).

    Args:
        hidden: Hidden states of tokens, (layers + 1, tokens, hidden size).
        method: "pca", "ica" (FastICA on the plane of the first two principal components) or "tsne"
            (by Euclidean distance; every layer begins where the one before it ended).
        seed: Of ICA and t-SNE.

    Raises:
        ValueError: If there is no such method, or there are too few tokens for it.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r} of projection: choose of {', '.join(METHODS)}")
    layers, tokens, _ = hidden.shape
    if tokens < FEWEST[method]:
        raise ValueError(
            f"{method!r} needs at least {FEWEST[method]} tokens, and there are {tokens}: "
            'take more, or the method "pca"'
        )
    points = np.zeros((layers, tokens, 2))
    explained = np.zeros(layers)
    for layer, states in enumerate(hidden.astype(np.float64)):
        before = points[layer - 1] if layer else None
        plane, explained[layer] = _principal_plane(states)
        if method == "ica":
            plane = _independent(plane, seed)
        elif method == "tsne":
            plane = _neighbours(states, plane if before is None else before, seed)
        points[layer] = plane if before is None else align_points(plane, before)
    return Projections(
        method=method, points=points, explained=explained if method == "pca" else None
    )


def align_points(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Points around their mean, turned or mirrored to lie nearest to others (Procrustes).

    Distances among the points stay as they are; nothing is scaled.

    Args:
        points: (points, 2).
        target: (points, 2).
    """
    centred = points - points.mean(axis=0)
    turn, _ = orthogonal_procrustes(centred, target - target.mean(axis=0))
    return np.asarray(centred @ turn)


def _principal_plane(states: np.ndarray) -> tuple[np.ndarray, float]:
    """The first two principal components, (tokens, 2), and their share of the variance."""
    plane = np.zeros((len(states), 2))
    rank = min(2, *states.shape)
    if not np.ptp(states, axis=0).any():  # one point, or all the same
        return plane, 1.0
    pca = PCA(n_components=rank, svd_solver="full")
    plane[:, :rank] = pca.fit_transform(states)
    return plane, float(pca.explained_variance_ratio_.sum())


def _independent(plane: np.ndarray, seed: int) -> np.ndarray:
    """The plane in the directions that are least Gaussian, of unit variance each."""
    if np.linalg.matrix_rank(plane) < 2:
        return plane
    ica = FastICA(n_components=2, whiten="unit-variance", random_state=seed, max_iter=500)
    with warnings.catch_warnings():
        # Directions that still turn a little after so many steps serve for a picture.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(ica.fit_transform(plane))


def _neighbours(states: np.ndarray, start: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE from a start, (tokens, 2), with a perplexity that so few tokens allow."""
    spread = start.std(axis=0).max()
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (len(states) - 1) / 3),
        init=(start / spread * 1e-4 if spread else start).astype(np.float32),  # sklearn's own size
        random_state=seed,
    )
    return np.asarray(tsne.fit_transform(states.astype(np.float32)))
