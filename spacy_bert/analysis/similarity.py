"""Similarity of representations: linear CKA, unbiased and by minibatches.

Kornblith et al. 2019 (arXiv 1905.00414). The unbiased estimate: Song et al. 2012, equation 5; its
use on minibatches: Nguyen et al. 2021, equation 3; on language models: Brown et al. 2023 (arXiv
2310.14993).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

MIN_ROWS = 4  # the unbiased estimate divides by n (n - 3)


def hsic(one: Tensor, other: Tensor) -> Tensor:
    """The unbiased estimate of HSIC of every pair of Gram matrices.

    Song et al. 2012, equation 5.

    Args:
        one: Gram matrices of the same rows, (a, rows, rows).
        other: Likewise, (b, rows, rows).

    Returns:
        (a, b).

    Raises:
        ValueError: If there are fewer than four rows.
    """
    rows = one.shape[-1]
    if rows < MIN_ROWS:
        raise ValueError(f"{rows} rows are too few: the unbiased HSIC needs {MIN_ROWS} or more")
    first, second = _without_diagonal(one), _without_diagonal(other)
    traces = first.flatten(1) @ second.flatten(1).T  # tr(KL), as both are symmetric
    sums_first, sums_second = first.sum(-1), second.sum(-1)
    totals = torch.outer(sums_first.sum(-1), sums_second.sum(-1)) / ((rows - 1) * (rows - 2))
    cross = sums_first @ sums_second.T * (2.0 / (rows - 2))
    return (traces + totals - cross) / (rows * (rows - 3))


def _without_diagonal(grams: Tensor) -> Tensor:
    return grams - torch.diag_embed(torch.diagonal(grams, dim1=-2, dim2=-1))


class MinibatchCKA:
    """Linear CKA of every layer of one model with every layer of another, batch after batch.

    The three HSIC are averaged over the batches, and their ratio is taken at the end: 1 for
    representations that are the same but for rotation, scale and shift.
    """

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self.batches = 0

    def add(self, one: Sequence[np.ndarray], other: Sequence[np.ndarray] | None = None) -> None:
        """Take the vectors of the same tokens in all layers.

        Args:
            one: For each layer of the first model, (tokens, width).
            other: Of the second model, whose width may be another; None compares the first with
                itself.

        Raises:
            ValueError: If there are fewer than four tokens, or not as many of both.
        """
        first = _grams(one)
        second = first if other is None else _grams(other)
        if first.shape[-1] != second.shape[-1]:
            raise ValueError(
                f"the models have {first.shape[-1]} and {second.shape[-1]} vectors: they must be "
                "of the same tokens"
            )
        found = [
            hsic(first, second),
            torch.stack([hsic(gram[None], gram[None])[0, 0] for gram in first]),
            torch.stack([hsic(gram[None], gram[None])[0, 0] for gram in second]),
        ]
        sums = self._sums or [torch.zeros_like(value) for value in found]
        self._sums = [a + b for a, b in zip(sums, found, strict=True)]
        self.batches += 1

    def result(self) -> np.ndarray:
        """(layers of the first, layers of the second); NaN where a layer is constant.

        Raises:
            ValueError: If there was no batch.
        """
        if not self.batches:
            raise ValueError("there are no vectors to compare: add at least one batch")
        cross, first, second = self._sums
        product = torch.outer(first, second)
        similar = torch.where(product > 0.0, cross / product.clamp_min(1e-300).sqrt(), torch.nan)
        return similar.numpy()


def _grams(layers: Sequence[np.ndarray]) -> Tensor:
    """Linear Gram matrices, (layers, rows, rows) float64, of centred columns.

    HSIC does not ask for centring; without it, large means cost digits.
    """
    grams = []
    for layer in layers:
        rows = torch.as_tensor(np.asarray(layer), dtype=torch.float64)
        rows = rows - rows.mean(dim=0)
        grams.append(rows @ rows.T)
    return torch.stack(grams)


def cka(
    batches: Iterable[tuple[Sequence[np.ndarray], Sequence[np.ndarray] | None]],
) -> np.ndarray:
    """Linear CKA from batches of vectors of all layers; see `MinibatchCKA`.

    Args:
        batches: Pairs of what `MinibatchCKA.add` takes.
    """
    similarity = MinibatchCKA()
    for one, other in batches:
        similarity.add(one, other)
    return similarity.result()
