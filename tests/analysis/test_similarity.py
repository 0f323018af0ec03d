"""Invariances of CKA, and its bias."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spacy_bert.analysis.similarity import MinibatchCKA, cka, hsic

RNG = np.random.default_rng(0)


def similar(one: np.ndarray, other: np.ndarray) -> float:
    return float(cka([([one], [other])])[0, 0])


def rotation(width: int) -> np.ndarray:
    basis, _ = np.linalg.qr(RNG.normal(size=(width, width)))
    return basis


def test_invariances() -> None:
    points = RNG.normal(size=(200, 16)) @ np.diag(np.linspace(1, 3, 16))
    assert similar(points, points) == pytest.approx(1.0)
    assert similar(points, points @ rotation(16)) == pytest.approx(1.0)
    assert similar(points, 7.0 * points + 5.0) == pytest.approx(1.0)
    stretched = points @ np.diag(np.geomspace(1, 100, 16))
    assert similar(points, stretched) < 0.9  # not to general linear maps


def test_independent_data_are_not_similar() -> None:
    one, other = RNG.normal(size=(2, 200, 64))
    assert abs(similar(one, other)) < 0.05

    def biased(a: np.ndarray, b: np.ndarray) -> float:
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        norm = np.linalg.norm
        return float(norm(a.T @ b) ** 2 / (norm(a.T @ a) * norm(b.T @ b)))

    assert biased(one, other) == pytest.approx(0.246, abs=0.02)


def test_hsic_by_the_formula() -> None:
    one, other = RNG.normal(size=(2, 9, 5))
    gram, gram_other = one @ one.T, other @ other.T
    np.fill_diagonal(gram, 0.0)
    np.fill_diagonal(gram_other, 0.0)
    n, ones = 9, np.ones(9)
    expected = (
        np.trace(gram @ gram_other)
        + (ones @ gram @ ones) * (ones @ gram_other @ ones) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (ones @ gram @ gram_other @ ones)
    ) / (n * (n - 3))
    found = hsic(torch.tensor(one @ one.T)[None], torch.tensor(other @ other.T)[None])
    assert found.item() == pytest.approx(expected)


def test_hsic_is_unbiased() -> None:
    values = [
        hsic(*(torch.tensor(x @ x.T)[None] for x in RNG.normal(size=(2, 12, 3)))).item()
        for _ in range(3000)
    ]
    assert np.mean(values) == pytest.approx(0.0, abs=4 * np.std(values) / np.sqrt(3000))


def test_minibatches_and_layers() -> None:
    basis = rotation(8)
    batches = []
    for _ in range(30):
        points = RNG.normal(size=(64, 8))
        batches.append(([points, points @ basis], [RNG.normal(size=(64, 5)), 3.0 * points]))
    found = cka(batches)
    assert found.shape == (2, 2)
    np.testing.assert_allclose(found[:, 1], 1.0, atol=1e-9)
    assert np.abs(found[:, 0]).max() < 0.05
    itself = cka((one, None) for one, _ in batches)
    np.testing.assert_allclose(itself, itself.T)
    np.testing.assert_allclose(np.diag(itself), 1.0)


def test_what_cannot_be_compared() -> None:
    similarity = MinibatchCKA()
    with pytest.raises(ValueError, match="no vectors to compare"):
        similarity.result()
    with pytest.raises(ValueError, match="3 rows are too few"):
        similarity.add([RNG.normal(size=(3, 4))])
    with pytest.raises(ValueError, match="8 and 9 vectors"):
        similarity.add([RNG.normal(size=(8, 4))], [RNG.normal(size=(9, 4))])
    similarity.add([np.ones((8, 4)), RNG.normal(size=(8, 4))])
    found = similarity.result()
    assert np.isnan(found[0]).all()
    assert found[1, 1] == pytest.approx(1.0)
