"""Projections: planted planes are found, distances kept, neighbouring layers aligned."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from spacy_bert.analysis.projections import METHODS, align_points, project_layers


def states(layers: int = 4, tokens: int = 40, width: int = 16, seed: int = 0) -> np.ndarray:
    """Two groups of tokens that part further in each layer, in directions of the layer's own."""
    generator = np.random.default_rng(seed)
    found = generator.normal(size=(layers, tokens, width))
    for layer in range(layers):
        found[layer, : tokens // 2] += generator.normal(size=width) * (layer + 2)
    return found


def test_pca_keeps_a_planted_plane() -> None:
    generator = np.random.default_rng(1)
    plane = generator.normal(size=(3, 12, 2)) * [3.0, 1.0]
    basis = np.linalg.qr(generator.normal(size=(3, 10, 2)))[0]
    hidden = plane @ basis.transpose(0, 2, 1) + 5.0
    found = project_layers(hidden)
    for layer in range(3):  # the plane's own distances, and all of the variance
        np.testing.assert_allclose(pdist(found.points[layer]), pdist(plane[layer]), atol=1e-8)
    assert found.explained is not None
    np.testing.assert_allclose(found.explained, 1.0)


def test_the_explained_share_is_that_of_the_singular_values() -> None:
    hidden = states()
    found = project_layers(hidden)
    assert found.explained is not None
    for layer, share in zip(hidden, found.explained, strict=True):
        variances = np.linalg.svd(layer - layer.mean(axis=0), compute_uv=False) ** 2
        np.testing.assert_allclose(share, variances[:2].sum() / variances.sum())
    assert project_layers(hidden, "ica").explained is None


@pytest.mark.parametrize("method", METHODS)
def test_neighbouring_layers_do_not_jump(method: str) -> None:
    hidden = states()
    generator = np.random.default_rng(2)
    turned = [hidden[0]]
    for _ in range(3):  # the same tokens seen from elsewhere: nothing must move
        turned.append(turned[-1] @ np.linalg.qr(generator.normal(size=(16, 16)))[0])
    found = project_layers(np.stack(turned), method)
    assert found.points.shape == (4, 40, 2)
    if method == "tsne":  # it goes on from where it was: near, not equal
        side = np.sign(found.points[:, :, 0] - found.points[:, :, 0].mean(axis=1, keepdims=True))
        assert np.abs((side[1:] * side[:-1]).mean(axis=1)).min() > 0.8
    else:
        np.testing.assert_allclose(found.points, found.points[[0, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_groups_are_told_apart_and_the_seed_rules(method: str) -> None:
    hidden = states()
    points = project_layers(hidden, method, seed=3).points
    first, second = points[-1, :20], points[-1, 20:]
    gap = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    spread = max(np.linalg.norm(group.std(axis=0)) for group in (first, second))
    assert gap > 1.5 * spread
    np.testing.assert_array_equal(points, project_layers(hidden, method, seed=3).points)


def test_alignment_undoes_turns_mirrors_and_shifts() -> None:
    generator = np.random.default_rng(4)
    target = generator.normal(size=(9, 2))
    mirror = np.array([[0.0, 1.0], [1.0, 0.0]]) @ np.linalg.qr(generator.normal(size=(2, 2)))[0]
    moved = align_points(target @ mirror + 7.0, target)
    np.testing.assert_allclose(moved, target - target.mean(axis=0), atol=1e-12)


def test_few_tokens() -> None:
    assert not project_layers(np.ones((2, 1, 8))).points.any()
    two = project_layers(states(tokens=2))
    np.testing.assert_allclose(two.explained, 1.0)
    same = project_layers(np.ones((2, 5, 8)), "ica")
    assert not same.points.any()
    assert project_layers(states(tokens=4), "tsne").points.shape == (4, 4, 2)
    for method, tokens in (("ica", 2), ("tsne", 3)):
        with pytest.raises(ValueError, match=f"'{method}' needs at least {tokens + 1} tokens"):
            project_layers(states(tokens=tokens), method)
    with pytest.raises(ValueError, match="no method 'umap' of projection: choose of pca, ica"):
        project_layers(states(), "umap")
