"""Layers around the heads."""

from __future__ import annotations

import numpy as np
import pytest
from thinc.api import Linear, Model, with_array

from spacy_bert.models.heads import with_rows


@pytest.mark.parametrize("lengths", [(5,), (2, 0, 3), (0,), (0, 4)])
def test_rows_of_all_docs_at_once_as_thinc_has_them(lengths: tuple[int, ...]) -> None:
    layer = Linear(2, 3).initialize()
    ops, rng = layer.ops, np.random.default_rng(0)
    docs = [ops.asarray2f(rng.random((length, 3), dtype="f")) for length in lengths]
    gradients = [ops.asarray2f(rng.random((length, 2), dtype="f")) for length in lengths]
    found = []
    for model in (with_rows(layer), with_array(layer)):
        layer.set_grad("W", ops.alloc2f(2, 3))
        outputs, backprop = model(docs, True)
        found.append([*outputs, *backprop(gradients), layer.get_grad("W").copy()])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_rows_of_a_single_doc_are_not_copied() -> None:
    seen = []

    def forward(model, X, is_train):
        seen.append(X)
        return X, lambda gradient: gradient

    rows = np.zeros((4, 2), dtype="f")
    with_rows(Model("seen", forward)).predict([rows])
    assert seen[0] is rows
