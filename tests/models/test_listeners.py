"""The [CLS] listener and the head behind it."""

from __future__ import annotations

import numpy as np
import torch
from spacy_transformers.data_classes import TransformerData, WordpieceBatch
from transformers.file_utils import ModelOutput

from spacy_bert.models.heads import build_module, build_textcat, head_shim, resize_labels
from spacy_bert.models.listeners import build_cls_listener
from spacy_bert.models.pooling import pool_cls


def data(states: np.ndarray) -> TransformerData:
    return TransformerData(
        wordpieces=WordpieceBatch.empty(),
        model_output=ModelOutput(last_hidden_state=states),
        align=TransformerData.empty().align,
    )


def test_cls_is_the_mean_over_windows_and_zero_without_tokens() -> None:
    generator = np.random.default_rng(0)
    one, three = (generator.standard_normal((n, 5, 4), dtype="f") for n in (1, 3))
    batch = [data(one), TransformerData.empty(), data(three), TransformerData.zeros(0, 4)]
    pooled, backprop = pool_cls()(batch, True)
    expected = [one[0, 0], np.zeros(4), three[:, 0].mean(0), np.zeros(4)]
    np.testing.assert_allclose(pooled, np.stack(expected), rtol=1e-6)
    d_pooled = generator.standard_normal((4, 4), dtype="f")
    d_one, d_three = (d.model_output.last_hidden_state for d in backprop(d_pooled))
    np.testing.assert_allclose(d_one[0, 0], d_pooled[0])
    np.testing.assert_allclose(d_three[:, 0], np.tile(d_pooled[2] / 3, (3, 1)), rtol=1e-6)
    assert np.count_nonzero(d_one[:, 1:]) == np.count_nonzero(d_three[:, 1:]) == 0


def test_more_labels_keep_what_was_learned() -> None:
    model = build_textcat(build_cls_listener(), nO=2)
    model.get_ref("head").initialize(X=np.zeros((1, 6), "f"), Y=np.zeros((1, 2), "f"))
    vectors = np.ones((3, 6), dtype="f")
    before = model.get_ref("head").predict(vectors)
    resize_labels(model, 5)
    after = model.get_ref("head").predict(vectors)
    assert after.shape == (3, 5)
    np.testing.assert_allclose(after[:, :2], before, rtol=1e-6)


def test_head_gradients_equal_autograd() -> None:
    model = build_textcat(build_cls_listener(), nO=3).get_ref("head")
    model.attrs["dropout_rate"] = 0.0
    model.initialize(X=np.zeros((1, 6), "f"), Y=np.zeros((1, 3), "f"))
    generator = np.random.default_rng(1)
    x, d_y = (generator.standard_normal((4, n), dtype="f") for n in (6, 3))
    _, backprop = model.begin_update(x)
    d_x = backprop(d_y)
    module = build_module({"hidden_size": 6, "labels": 3, "pooler": True}).eval()
    module.load_state_dict(head_shim(model).module.state_dict())
    inputs = torch.from_numpy(x).requires_grad_()
    module(inputs).backward(torch.from_numpy(d_y))
    np.testing.assert_allclose(d_x, inputs.grad.numpy(), rtol=1e-5)
    for ours, theirs in zip(head_shim(model).module.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
