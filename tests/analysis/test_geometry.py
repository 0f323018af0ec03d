"""Closed forms and manifolds of known dimension."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_swiss_roll

from spacy_bert.analysis.geometry import (
    label_overlap,
    layer_geometry,
    neighbour_overlap,
    neighbours,
    scale_analysis,
    semantic_layer,
    two_nn,
)

RNG = np.random.default_rng(0)


def sphere(count: int) -> np.ndarray:
    points = RNG.normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def in_space(points: np.ndarray, width: int) -> np.ndarray:
    basis, _ = np.linalg.qr(RNG.normal(size=(width, points.shape[1])))
    return points @ basis.T


# TwoNN reads high dimensions low: 8.6 for a 10-cube, about 33 for 50 independent Gaussians.
MANIFOLDS = {
    "swiss roll": (make_swiss_roll(4000, random_state=0)[0], 2.0, 0.15),
    "sphere": (sphere(4000), 2.0, 0.15),
    "5 of 768": (in_space(RNG.normal(size=(4000, 5)), 768), 5.1, 0.4),
    "10-cube": (RNG.uniform(size=(4000, 10)), 8.6, 0.6),
    "50 Gaussians": (RNG.normal(size=(4000, 50)), 33.0, 3.0),
}


@pytest.mark.parametrize("name", MANIFOLDS)
def test_dimension_of_manifolds(name: str) -> None:
    points, expected, tolerance = MANIFOLDS[name]
    found = two_nn(points)
    assert found.fit == pytest.approx(expected, abs=tolerance)
    assert found.likelihood == pytest.approx(found.fit, rel=0.15)
    assert found.points == 4000


@pytest.mark.parametrize("name", MANIFOLDS)
def test_dimension_equals_scikit_dimension(name: str) -> None:
    skdim = pytest.importorskip("skdim", reason="install with [test]")
    points, *_ = MANIFOLDS[name]
    theirs = skdim.id.TwoNN(discard_fraction=0.1).fit(points).dimension_
    assert two_nn(points).fit == pytest.approx(theirs, rel=0.02)


def test_duplicates_change_nothing() -> None:
    points = RNG.normal(size=(500, 3))
    twice = np.concatenate([points, points[:100]])
    assert two_nn(twice) == two_nn(points[np.lexsort(points.T)])
    with pytest.raises(ValueError, match="1 different points are too few"):
        two_nn(np.ones((10, 3)))


def test_scales() -> None:
    points = np.concatenate([in_space(RNG.normal(size=(4000, 2)), 20), np.zeros((0, 20))])
    noisy = points + 0.02 * RNG.normal(size=points.shape)
    fine, *_, coarse = scale_analysis(noisy, halvings=5)
    assert [size for size, *_ in scale_analysis(points, halvings=2)] == [4000, 2000, 1000]
    assert fine[1] > coarse[1] > 1.8  # noise counts at the finest scale


def test_overlap_of_neighbours() -> None:
    points = RNG.normal(size=(400, 5))
    near = neighbours(points, k=10)
    assert near.shape == (400, 10)
    assert not (near == np.arange(400)[:, None]).any()
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(np.sort(near), np.sort(np.argsort(distances)[:, :10]))
    assert neighbour_overlap(near, near) == 1.0
    other = neighbours(RNG.normal(size=(400, 5)), k=10)
    assert neighbour_overlap(near, other) == pytest.approx(10 / 399, abs=0.006)
    by_hand = np.mean([len({*a} & {*b}) / 10 for a, b in zip(near, other, strict=True)])
    assert neighbour_overlap(near, other) == pytest.approx(by_hand)
    with pytest.raises(ValueError, match="10 points have no 10 neighbours"):
        neighbours(points[:10], k=10)


def test_overlap_of_labels() -> None:
    near = neighbours(RNG.normal(size=(3000, 4)), k=30)
    labels = RNG.integers(0, 4, size=3000)
    assert label_overlap(near, labels) == pytest.approx(0.25, abs=0.01)
    clusters = np.repeat(np.eye(4) * 100, 100, axis=0) + RNG.normal(size=(400, 4))
    assert label_overlap(neighbours(clusters, k=30), np.repeat(np.arange(4), 100)) == 1.0


def test_all_layers_at_once() -> None:
    first = RNG.normal(size=(300, 6))
    states = [first, first * 2.0 + 1.0, RNG.normal(size=(300, 6))]
    labels = np.array(["a", "b"] * 150)
    found = layer_geometry(states, labels, k=20)
    assert found.overlap.shape == (3, 3)
    assert found.overlap[0, 1] == pytest.approx(1.0)
    assert found.overlap[0, 2] == found.overlap[2, 0] < 0.15
    assert found.chance == pytest.approx(0.5)
    assert found.labels == pytest.approx([0.5] * 3, abs=0.06)
    assert found.profile[0] == pytest.approx(found.profile[1], rel=1e-6)
    assert layer_geometry(states, k=20).labels is None


@pytest.mark.parametrize(
    ("profile", "layer"),
    [
        ([5, 9, 7, 4, 6, 8], 3),
        ([5, 9, 7, 8, 3, 6], 2),
        ([3, 2, 4, 9, 5, 6], 4),
        ([1, 2, 3, 4], None),
        ([5, 9, 8, 7], None),
    ],
)
def test_the_semantic_layer(profile: list[float], layer: int | None) -> None:
    assert semantic_layer(np.array(profile, dtype=float)) == layer
