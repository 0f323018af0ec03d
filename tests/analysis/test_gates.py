"""Gates: exact derivatives, for each example its own, however examples are batched."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spacy.language import Language
from torch import Tensor

import spacy_bert
from spacy_bert.analysis import gates as gates_module
from spacy_bert.analysis.decisions import annotated, evaluate
from spacy_bert.analysis.gates import (
    HeadImportance,
    gate_gradients,
    gated,
    head_importance,
    window_gradients,
    with_gates,
)
from spacy_bert.analysis.task_head import TaskHead
from spacy_bert.bert import BertModel, PackedBatch
from spacy_bert.bert.pruning import prune_heads
from spacy_bert.models.heads import Head, head_shim
from tests.analysis.tasks import KINDS, Task, task
from tests.conftest import SENTENCES


def packed(head: TaskHead, number: int, examples: list) -> PackedBatch:
    (layout,) = head.shim.lay_out([examples[number].predicted])
    return PackedBatch(
        pieces=torch.from_numpy(layout.pieces),
        positions=torch.from_numpy(layout.positions),
        segments=torch.from_numpy(layout.segment_ids),
        lengths=layout.lengths,
    )


def loss_in_double(
    network: BertModel, head: Head, batch: PackedBatch, gates: Tensor, gold: int
) -> Tensor:
    """The loss of a classifier of exclusive classes, written out in torch alone."""
    hidden = network(batch, gates=gates).last_hidden_state
    cls = hidden[torch.from_numpy(batch.starts)].mean(dim=0, keepdim=True)
    return F.cross_entropy(head(cls), torch.tensor([gold]))


@pytest.mark.parametrize("kind", ["exclusive", "private"])
def test_equal_to_central_differences(kind: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    head = one.head
    examples, gold = annotated(head, one.examples)
    network = copy.deepcopy(head.shim.network).double().eval()
    module = copy.deepcopy(cast(Head, head_shim(head.pipe.model).module)).double().eval()
    found = gate_gradients(head, examples)
    step = 1e-5
    for number in (0, 3):
        batch = packed(head, number, examples)
        assert number or len(batch.lengths) > 1  # several windows share their gates
        exact = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
        loss_in_double(network, module, batch, exact, gold[number]).backward()
        for layer in range(2):
            for place in range(2):
                losses = []
                for sign in (1, -1):
                    moved = torch.ones(2, 2, dtype=torch.float64)
                    moved[layer, place] += sign * step
                    with torch.no_grad():
                        losses.append(loss_in_double(network, module, batch, moved, gold[number]))
                difference = float(losses[0] - losses[1]) / (2 * step)
                assert float(exact.grad[layer, place]) == pytest.approx(difference, rel=1e-6)
                assert found[number, layer, place] == pytest.approx(difference, rel=1e-3, abs=1e-6)


def test_in_double_precision_equal_to_central_differences(checkpoint: Path) -> None:
    """The batched pass itself, from the hidden states' gradient down to 1e-6."""
    one = task("exclusive", checkpoint)
    shim = copy.deepcopy(one.head.shim)
    shim.network.double()
    layouts = shim.lay_out([example.predicted for example in one.examples[:3]])
    torch.manual_seed(0)
    upstream = torch.randn(sum(len(layout.pieces) for layout in layouts), 128).double()
    start = np.array([[1.0, 0.5], [0.0, 1.0]])
    found = window_gradients(shim, layouts, upstream, gates=start)
    assert len(found) > len(layouts)
    first = 0
    for window, length in enumerate(length for layout in layouts for length in layout.lengths):
        own = upstream[first : first + length]
        pieces = np.concatenate([layout.pieces for layout in layouts])[first : first + length]
        first += length
        batch = PackedBatch.from_sequences([pieces.tolist()])
        for layer, place in ((0, 0), (0, 1), (1, 0), (1, 1)):
            values = []
            for sign in (1, -1):
                gates = torch.from_numpy(start.copy())
                gates[layer, place] += sign * 1e-5
                with torch.no_grad():
                    hidden = shim.network(batch, gates=gates).last_hidden_state
                values.append(float((hidden * own).sum()))
            difference = (values[0] - values[1]) / 2e-5
            assert found[window, layer, place] == pytest.approx(difference, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_one_by_one(
    kind: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = task(kind, checkpoint)
    together = head_importance(one.nlp, one.examples)
    monkeypatch.setattr(gates_module, "BATCH", 1)
    alone = head_importance(one.nlp, one.examples)
    np.testing.assert_allclose(together.raw, alone.raw, rtol=1e-5)
    assert together.raw.shape == (2, 2)
    assert (together.raw > 0).all()
    examples, _ = annotated(one.head, one.examples)
    assert together.examples == alone.examples == len(examples)
    # The mean of absolute values, not the absolute value of the mean.
    signed = np.concatenate([gate_gradients(one.head, [example]) for example in examples])
    np.testing.assert_allclose(together.raw, np.abs(signed).mean(axis=0), rtol=1e-4)
    of_the_mean = np.abs(signed.mean(axis=0))
    assert kind not in ("multilabel", "ner", "qa") or (together.raw > 1.1 * of_the_mean).any()


def test_a_bounded_chunk_changes_nothing(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = task("exclusive", checkpoint)
    plain = gate_gradients(one.head, one.examples)
    shim = one.head.shim
    monkeypatch.setattr(shim, "settings", replace(shim.settings, max_batch_pieces=30))
    bounded = gate_gradients(one.head, one.examples)
    np.testing.assert_allclose(bounded, plain, rtol=1e-3, atol=1e-6)


def test_normalized_by_layer_and_over_all() -> None:
    raw = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    found = HeadImportance(component="x", raw=raw, examples=1, pruned=raw < 0)
    np.testing.assert_allclose(found.by_layer, [[0.6, 0.8], [0, 0], [1, 0]])
    np.testing.assert_allclose(found.scaled, [[0.6, 0.8], [0, 0], [1, 0]])


def test_unit_gates_are_the_plain_model(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    plain = evaluate(one.head, one.examples)
    unit = evaluate(one.head, one.examples, intervention=gated(np.ones((2, 2))))
    assert unit.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-6)
    closed = evaluate(one.head, one.examples, intervention=gated(np.zeros((2, 2))))
    assert abs(closed.log_likelihood - plain.log_likelihood) > 1e-3


def test_predictions_under_gates(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    text = SENTENCES[0]
    plain = one.nlp(text).cats
    with with_gates(one.nlp, np.ones((2, 2))):
        unit = one.nlp(text).cats
    with with_gates(one.nlp, torch.zeros(2, 2), one.component):
        closed = one.nlp(text).cats
        hidden = spacy_bert.trace(one.nlp, text).hidden  # a trace is of the plain network
    np.testing.assert_allclose([*unit.values()], [*plain.values()], atol=1e-6)
    assert abs(closed["LIVING"] - plain["LIVING"]) > 1e-4
    np.testing.assert_allclose(hidden, spacy_bert.trace(one.nlp, text).hidden)
    assert one.nlp(text).cats == plain


def test_pruned_heads_have_no_importance(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    shim = one.head.shim
    whole, wordpiece = shim.network, shim.wordpiece
    gates = np.array([[0.0, 0.0], [1.0, 0.0]])
    masked = head_importance(one.nlp, one.examples, gates=gates)
    try:
        shim.take(prune_heads(whole, {0: [0, 1], 1: [1]}), wordpiece)
        found = head_importance(one.nlp, one.examples)
    finally:
        shim.take(whole, wordpiece)
    np.testing.assert_array_equal(found.pruned, gates == 0)
    assert not found.raw[gates == 0].any()
    assert found.raw[1, 0] == pytest.approx(masked.raw[1, 0], rel=1e-3)
    assert masked.raw[0, 0] > 0  # a closed head could matter again


def test_progress_counts_examples(checkpoint: Path) -> None:
    one: Task = task("ner", checkpoint)
    seen: list[int] = []
    found = head_importance(one.nlp, one.examples, progress=seen.append)
    assert sum(seen) == found.examples


def test_bad_gates(nlp: Language, checkpoint: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"gates have shape \(2,\); \(layers, heads\) is \(2, 2\)"),
        with_gates(nlp, np.ones(2)),
    ):
        pass
    one = task("exclusive", checkpoint)
    with pytest.raises(ValueError, match="gates have shape"):
        head_importance(one.nlp, one.examples, gates=np.ones((3, 2)))
