"""Layers compiled once serve batches of all compositions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spacy_bert.bert import BertConfig, BertModel, PackedBatch, attention, encoder

TOTAL = 96


@torch.library.custom_op("spacy_bert_tests::varlen", mutates_args=())
def varlen(query: Tensor, key: Tensor, value: Tensor, borders: Tensor) -> Tensor:
    """What CUDA's kernel computes, written out for a CPU."""
    parts = []
    for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        rows = [x[first:last].transpose(0, 1) for x in (query, key, value)]
        parts.append(F.scaled_dot_product_attention(*rows).transpose(0, 1))
    return torch.cat(parts).contiguous()


@varlen.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, borders: Tensor) -> Tensor:
    return torch.empty_like(query)


def batch(seed: int) -> PackedBatch:
    rng = np.random.default_rng(seed)
    lengths = [len(part) for part in np.split(np.arange(TOTAL), sorted(rng.choice(90, 5) + 3))]
    return PackedBatch.from_sequences([rng.integers(5, 50, n).tolist() for n in lengths if n])


def test_a_layer_is_not_compiled_anew_for_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor, borders: Tensor, *_: Any, **__: Any) -> Tensor:
        return varlen(q, k, v, borders)

    monkeypatch.setattr(attention, "varlen_attn", attend)
    monkeypatch.setattr(encoder, "select_backend", lambda **_: "varlen")
    torch.manual_seed(0)
    config = BertConfig.preset("tiny", vocab_size=50, max_position_embeddings=TOTAL)
    model = BertModel(config).eval()
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        graphs.append(graph)
        return graph.forward

    batches = [batch(seed) for seed in range(12)]
    assert len({len(one.lengths) for one in batches}) > 1
    with torch.no_grad():
        expected = [model(one, rows=torch.arange(10)).last_hidden_state for one in batches]
        for layer in model.layers:
            layer.compile(backend=count, fullgraph=True)
        for one, wanted in zip(batches, expected, strict=True):
            found = model(one, rows=torch.arange(10)).last_hidden_state
            torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    # All layers but the last share one graph, the last has its own; each a second one at most, for
    # any number of sequences.
    assert len(graphs) <= 4
