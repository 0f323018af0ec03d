"""Geometry of hidden states: intrinsic dimension and neighbourhoods, layer by layer.

Valeriani et al. 2023 (arXiv 2302.00294); TwoNN: Facco et al. 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import argrelextrema
from sklearn.neighbors import NearestNeighbors

TAIL = 0.1  # share of the largest ratios that the fit leaves out
NEIGHBOURS = 30


@dataclass(frozen=True, kw_only=True)
class IntrinsicDimension:
    """What TwoNN says of a cloud of points.

    Attributes:
        fit: Slope through the origin of -log(1 - F) on log mu, the tail left out.
        fit_whole: The same with all points.
        likelihood: (N - 1) / sum of log mu, the maximum-likelihood form.
        points: How many points were used: without duplicates.
    """

    fit: float
    fit_whole: float
    likelihood: float
    points: int


def two_nn(points: np.ndarray, *, tail: float = TAIL) -> IntrinsicDimension:
    """The intrinsic dimension from the ratio of the distances to the two nearest neighbours.

    Points that are the same as others are left out but for one: their ratio has no meaning.

    Args:
        points: (points, width).
        tail: Share of the largest ratios that is left out of the fit.

    Raises:
        ValueError: If fewer than three different points are left.
    """
    unique = np.unique(np.asarray(points, dtype=np.float64), axis=0)
    if len(unique) < 3:
        raise ValueError(f"{len(unique)} different points are too few: TwoNN needs three or more")
    distances, _ = NearestNeighbors(n_neighbors=3).fit(unique).kneighbors(unique)
    kept = distances[:, 1] > 0.0  # equal but for rounding
    logs = np.sort(np.log(distances[kept, 2] / distances[kept, 1]))
    count = len(logs)
    empirical = -np.log1p(-np.arange(1, count + 1) / (count + 1))
    inner = slice(0, max(int(count * (1.0 - tail)), 1))
    return IntrinsicDimension(
        fit=_slope(logs[inner], empirical[inner]),
        fit_whole=_slope(logs, empirical),
        likelihood=float((count - 1) / logs.sum()),
        points=count,
    )


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Of the line through the origin, by least squares."""
    return float((x @ y) / (x @ x))


def scale_analysis(
    points: np.ndarray, *, halvings: int = 4, tail: float = TAIL, seed: int = 0
) -> list[tuple[int, float, float]]:
    """The dimension at coarser scales: on N, N/2, N/4 ... points drawn at random.

    Args:
        points: (points, width).
        halvings: How often the number is halved.
        tail: As for `two_nn`.
        seed: Of the draws.

    Returns:
        For each size the number of points, the mean of the dimension over disjoint samples, and its
        standard deviation over them.
    """
    unique = np.unique(points, axis=0)
    rows = np.random.default_rng(seed).permutation(len(unique))
    found = []
    for halving in range(halvings + 1):
        samples = [part for part in np.array_split(rows, 2**halving) if len(part) > 3]
        values = [two_nn(unique[part], tail=tail).fit for part in samples]
        if values:
            size = len(rows) // 2**halving
            found.append((size, float(np.mean(values)), float(np.std(values))))
    return found


def neighbours(points: np.ndarray, *, k: int = NEIGHBOURS) -> np.ndarray:
    """The k nearest neighbours of each point, itself left out, (points, k).

    Raises:
        ValueError: If there are not more than k points.
    """
    if len(points) <= k:
        raise ValueError(f"{len(points)} points have no {k} neighbours each: take more")
    found: np.ndarray = (
        NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)
    )
    return found


def neighbour_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The mean share of neighbours that two representations of the same points have in common.

    chi of Valeriani et al. 2023; 1 for the same, k / (N - 1) for independent ones.

    Args:
        one: Neighbours of each point, (points, k).
        other: Likewise.
    """
    points, k = one.shape
    # A number for each pair of a point and a neighbour of it.
    base = np.arange(points)[:, None] * points
    common = np.intersect1d((one + base).ravel(), (other + base).ravel(), assume_unique=True)
    return float(len(common) / (points * k))


def label_overlap(near: np.ndarray, labels: np.ndarray) -> float:
    """The mean share of neighbours that have the point's own label.

    chi_gt of Valeriani et al. 2023; 1 / C for random labels of C equal classes.

    Args:
        near: Neighbours of each point, (points, k).
        labels: Of each point, (points,).
    """
    return float((labels[near] == labels[:, None]).mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """The geometry of the same points in all layers; 0 is the embeddings.

    Attributes:
        dimensions: TwoNN of each layer.
        overlap: Neighbourhood overlap of each pair of layers, (layers, layers).
        labels: Label overlap of each layer, (layers,); None without labels.
        chance: What `labels` would be of random labels; None without labels.
        k: Neighbours that were looked at.
    """

    dimensions: Sequence[IntrinsicDimension]
    overlap: np.ndarray
    labels: np.ndarray | None
    chance: float | None
    k: int

    @property
    def profile(self) -> np.ndarray:
        """The intrinsic dimension of each layer, (layers,)."""
        return np.array([dimension.fit for dimension in self.dimensions])


def layer_geometry(
    states: Sequence[np.ndarray], labels: np.ndarray | None = None, *, k: int = NEIGHBOURS
) -> Geometry:
    """The geometry of the same points in each layer.

    Args:
        states: For each layer, (points, width).
        labels: Of each point, (points,), if there are any.
        k: Neighbours to look at.

    Raises:
        ValueError: If there are not more than k points, or fewer than three different ones.
    """
    near = [neighbours(state, k=k) for state in states]
    overlap = np.eye(len(near))
    for i, one in enumerate(near):
        for j in range(i):
            overlap[i, j] = overlap[j, i] = neighbour_overlap(one, near[j])
    found = chance = None
    if labels is not None:
        _, classes = np.unique(labels, return_inverse=True)
        found = np.array([label_overlap(each, classes) for each in near])
        shares = np.bincount(classes) / len(classes)
        chance = float((shares**2).sum())
    return Geometry(
        dimensions=[two_nn(state) for state in states],
        overlap=overlap,
        labels=found,
        chance=chance,
        k=k,
    )


def semantic_layer(profile: np.ndarray) -> int | None:
    """The layer by the rule: the relative minimum of the dimension after its first peak.

    Valeriani et al. 2023, section 3.2, for protein and image models; for text the profile may have
    no such form, and then there is no such layer.

    Args:
        profile: The intrinsic dimension of each layer, (layers,).

    Returns:
        The layer, from 0; None if the dimension has no peak inside, or does not rise again after.
    """
    peaks = argrelextrema(profile, np.greater)[0]
    if not len(peaks):
        return None
    minima = argrelextrema(profile, np.less)[0]
    behind = minima[minima > peaks[0]]
    return int(behind[0]) if len(behind) else None
