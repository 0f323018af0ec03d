"""The losses of `bert_textcat`: means over what is annotated, and their gradients."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from thinc.api import Ops

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are


def softmax_loss(ops: Ops, logits: Array, truths: Array, weights: Array) -> tuple[float, Array]:
    """Mean cross-entropy of exclusive classes, as torch's `CrossEntropyLoss(weight=weights)`.

    Args:
        ops: of the model.
        logits: (Docs, labels).
        truths: 1.0 where a class holds, (Docs, labels); a Doc without a class counts for nothing.
        weights: factor of the Docs of each class, (labels,); the mean is divided by their sum.

    Returns:
        The loss, and its gradient, (Docs, labels).
    """
    xp = ops.xp
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))
    weighted = truths * weights
    total = float(weighted.sum()) or 1.0
    loss = -float((weighted * log_probabilities).sum()) / total
    of_docs = weighted.sum(axis=1, keepdims=True) / np.float32(total)
    return loss, (xp.exp(log_probabilities) - truths) * of_docs


def sigmoid_loss(
    ops: Ops, logits: Array, truths: Array, known: Array, weights: Array
) -> tuple[float, Array]:
    """Mean binary cross-entropy of each class, as torch's `BCEWithLogitsLoss(pos_weight=weights)`.

    Args:
        ops: of the model.
        logits: (Docs, labels).
        truths: 1.0 where a class holds, else 0.0, (Docs, labels).
        known: 1.0 where that is annotated, (Docs, labels); what is not counts for nothing.
        weights: factor of a class where it holds, (labels,).

    Returns:
        The loss, and its gradient, (Docs, labels).
    """
    xp = ops.xp
    # log(1 + exp(x)) - x y, without overflow
    each = xp.maximum(logits, 0) - logits * truths + xp.log1p(xp.exp(-xp.abs(logits)))
    factors = known * xp.where(truths > 0, weights, 1) / np.float32(float(known.sum()) or 1.0)
    return float((each * factors).sum()), (ops.sigmoid(logits) - truths) * factors


def squared_loss(predictions: Array, targets: Array, known: Array) -> tuple[float, Array]:
    """Mean squared error, as torch's `MSELoss`.

    Args:
        predictions: (Docs, targets).
        targets: (Docs, targets).
        known: 1.0 where a target is annotated, (Docs, targets); others count for nothing.

    Returns:
        The loss, and its gradient, (Docs, targets).
    """
    total = np.float32(float(known.sum()) or 1.0)
    difference = (predictions - targets) * known
    return float((difference**2).sum() / total), 2 * difference / total
