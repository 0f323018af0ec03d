"""Distances of heads: closed forms, parity with scipy, and heads that are planted alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from spacy.language import Language

import spacy_bert
from spacy_bert.analysis import head_distances as head_distances_module
from spacy_bert.analysis.head_distances import (
    SMOOTHING,
    head_distances,
    js_divergence,
    summed_divergences,
)
from spacy_bert.analysis.trace import Trace
from tests.analysis.planted import plant, pruned
from tests.conftest import SENTENCES


def test_divergence_of_known_distributions() -> None:
    p, q = np.array([0.2, 0.8, 0.0, 0.0]), np.array([0.0, 0.0, 0.5, 0.5])
    assert js_divergence(p, p) == pytest.approx(0.0, abs=1e-12)
    assert js_divergence(p, q) == pytest.approx(np.log(2))
    rng = np.random.default_rng(0)
    several = rng.dirichlet(np.ones(6), size=20)
    found = js_divergence(several[:10], several[10:])
    np.testing.assert_allclose(found, js_divergence(several[10:], several[:10]))
    expected = jensenshannon(several[:10], several[10:], axis=1) ** 2
    np.testing.assert_allclose(found, expected)
    assert (found > 0).all()
    assert (found < np.log(2)).all()


@pytest.mark.parametrize("at_once", [1, 80, 2**24])
def test_all_pairs_as_one_by_one(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(head_distances_module, "WEIGHTS", at_once)
    weights = np.random.default_rng(0).dirichlet(np.full(7, 0.3), size=(5, 7))
    found = summed_divergences(weights)
    smooth = (1 - SMOOTHING) * weights + SMOOTHING / 7
    for i, j in np.ndindex(5, 5):
        expected = js_divergence(smooth[i], smooth[j]).sum()
        assert found[i, j] == pytest.approx(expected, abs=1e-9)
    disjoint = np.stack([np.eye(7), np.eye(7)[::-1], np.eye(7)])
    np.testing.assert_allclose(
        summed_divergences(disjoint, smoothing=0.0)[0], [0, 6 * np.log(2), 0], atol=1e-9
    )  # the row in the middle is the same


def test_equal_to_scipy(narrow: Language) -> None:
    docs = [narrow.make_doc(text) for text in [*SENTENCES, " ".join(SENTENCES)]]
    counted: list[int] = []
    found = head_distances(narrow, docs, progress=counted.append)
    assert counted == [1] * len(docs)
    sums, rows = np.zeros((4, 4)), 0
    for trace in spacy_bert.trace(narrow, docs):
        for maps in trace.attentions:
            smooth = (1 - SMOOTHING) * maps + SMOOTHING / maps.shape[-1]
            flat = np.float64(smooth).reshape(4, *smooth.shape[2:])
            sums += (jensenshannon(flat[:, None], flat[None], axis=-1) ** 2).sum(axis=-1)
            rows += maps.shape[-1]
    assert found.pieces == rows
    assert found.heads.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    np.testing.assert_allclose(found.distances, sums / rows, atol=1e-6)
    np.testing.assert_array_equal(found.distances, found.distances.T)
    again = head_distances(narrow, docs)
    np.testing.assert_array_equal(found.positions, again.positions)


def two_kinds(trace: Trace) -> np.ndarray:
    """Heads 0-0 and 1-1 look at [CLS], the others at themselves."""
    n = len(trace.pieces)
    to_cls = np.zeros((n, n))
    to_cls[:, 0] = 1.0
    return np.stack([to_cls, np.eye(n), np.eye(n), to_cls]).reshape(2, 2, n, n)


def test_heads_of_a_kind_are_together(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, two_kinds)
    found = head_distances(nlp, [nlp.make_doc(text) for text in SENTENCES], clusters=2)
    first, second, third, fourth = found.clusters.tolist()
    assert first == fourth != second == third
    apart = found.distances[0, 1]
    assert 0.9 * np.log(2) < apart < np.log(2)
    kinds = np.array([0, 1, 1, 0])
    expected = apart * (kinds[:, None] != kinds)
    np.testing.assert_allclose(found.distances, expected, atol=1e-6)
    # Two points can be drawn on a plane as they are.
    assert found.stress < 0.01
    drawn = np.linalg.norm(found.positions[0] - found.positions[1])
    assert drawn == pytest.approx(apart, rel=0.02)
    same, different = found.within_layers()
    assert same == pytest.approx(apart)
    assert different == pytest.approx(apart / 2)


def test_pruned_heads_are_left_out(checkpoint: Path, nlp: Language) -> None:
    docs = [nlp.make_doc(SENTENCES[0])]
    found = head_distances(pruned(checkpoint, {0: [1]}), docs)
    assert found.heads.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert found.distances.shape == (3, 3)
    assert found.merges.shape == (2, 4)
    with pytest.raises(ValueError, match="1 heads left: two at least"):
        head_distances(pruned(checkpoint, {0: [1], 1: [0, 1]}), docs)
    with pytest.raises(ValueError, match="all heads of the encoder are pruned"):
        head_distances(pruned(checkpoint, {0: [0, 1], 1: [0, 1]}), docs)
    with pytest.raises(ValueError, match="clusters must be at least 1, got 0"):
        head_distances(nlp, docs, clusters=0)
