"""The losses of `bert_textcat`, beside torch's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from thinc.api import NumpyOps
from torch import Tensor, nn

from spacy_bert.pipeline.textcat_losses import sigmoid_loss, softmax_loss, squared_loss

OPS = NumpyOps()
WEIGHTS = np.array([0.5, 1.0, 4.0], dtype="f")
LOGITS = np.random.default_rng(0).standard_normal((5, 3), dtype="f")
CLASSES = np.eye(3, dtype="f")[[2, 0, 0, 1, 2]]
SEVERAL = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0]], dtype="f")
KNOWN = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 1]], dtype="f")


def assert_same(ours: tuple[float, np.ndarray], theirs: Callable[[Tensor], Tensor]) -> None:
    logits = torch.from_numpy(LOGITS).requires_grad_()
    expected = theirs(logits)
    expected.backward()
    assert ours[0] == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(ours[1], logits.grad.numpy(), rtol=1e-5, atol=1e-7)
    assert ours[1].dtype == np.float32


def test_weighted_cross_entropy_is_torchs() -> None:
    theirs = nn.CrossEntropyLoss(weight=torch.from_numpy(WEIGHTS))
    gold = torch.from_numpy(CLASSES.argmax(axis=1))
    ours = softmax_loss(OPS, LOGITS, CLASSES, WEIGHTS)
    assert_same(ours, lambda logits: theirs(logits, gold))
    assert ours[0] != pytest.approx(softmax_loss(OPS, LOGITS, CLASSES, np.ones_like(WEIGHTS))[0])


def test_docs_without_a_class_do_not_weigh() -> None:
    some = CLASSES.copy()
    some[1:3] = 0.0
    loss, gradient = softmax_loss(OPS, LOGITS, some, WEIGHTS)
    rest = [0, 3, 4]
    expected, its_gradient = softmax_loss(OPS, LOGITS[rest], CLASSES[rest], WEIGHTS)
    assert loss == pytest.approx(expected)
    np.testing.assert_allclose(gradient[rest], its_gradient)
    assert not gradient[1:3].any()
    assert softmax_loss(OPS, LOGITS, np.zeros_like(some), WEIGHTS)[0] == 0.0


def test_weighted_binary_cross_entropy_is_torchs() -> None:
    theirs = nn.BCEWithLogitsLoss(pos_weight=torch.from_numpy(WEIGHTS), reduction="none")
    truths, known = torch.from_numpy(SEVERAL), torch.from_numpy(KNOWN)
    ours = sigmoid_loss(OPS, LOGITS, SEVERAL, KNOWN, WEIGHTS)
    assert_same(ours, lambda logits: (theirs(logits, truths) * known).sum() / known.sum())


def test_squared_loss_is_torchs() -> None:
    targets, everything = 5 * SEVERAL, np.ones_like(KNOWN)
    assert_same(
        squared_loss(LOGITS, targets, everything),
        lambda logits: nn.functional.mse_loss(logits, torch.from_numpy(targets)),
    )
    known = torch.from_numpy(KNOWN.astype(bool))
    assert_same(
        squared_loss(LOGITS, targets, KNOWN),
        lambda logits: nn.functional.mse_loss(logits[known], torch.from_numpy(targets)[known]),
    )
    loss, gradient = squared_loss(LOGITS, targets, np.zeros_like(KNOWN))
    assert loss == 0.0
    assert not gradient.any()
