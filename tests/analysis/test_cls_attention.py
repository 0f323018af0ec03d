"""Permuted and adversarial attention: the output as the network's own, the bounds kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import spacy_bert
from spacy_bert.analysis.cls_attention import (
    ClsRows,
    attack_attention,
    jensen_shannon,
    permute_attention,
)
from spacy_bert.analysis.decisions import log_softmax
from spacy_bert.analysis.task_head import TaskHead
from spacy_bert.bert import BertModel, PackedBatch
from spacy_bert.bert.edits import Edits
from spacy_bert.bert.pruning import prune_heads
from spacy_bert.models.intervention import Intervention
from tests.analysis.tasks import copied, task

KINDS = ("exclusive", "choice", "private")


@pytest.mark.parametrize("kind", KINDS)
def test_the_original_rows_give_the_original_output(kind: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    docs = [example.predicted for example in one.examples]
    row = ClsRows(one.head, docs)
    outputs = one.head.outputs(docs, one.head.encode(docs))
    with torch.no_grad():
        found = row.probabilities(row.original)
    for ours, output in zip(found, outputs, strict=True):
        np.testing.assert_allclose(ours.numpy(), np.exp(log_softmax(output)), atol=1e-5)
    assert not row.changes(row.original).detach().numpy().any()
    for weights in row.original:
        np.testing.assert_allclose(weights.sum(-1).numpy(), 1.0, atol=1e-5)


def test_rows_are_those_of_the_trace(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    doc = one.examples[0].predicted
    attentions = spacy_bert.trace(one.nlp, doc).attentions
    assert len(attentions) > 1
    rows = ClsRows(one.head, [doc]).original  # shorter windows come first
    for weights, window in zip(rows, sorted(attentions, key=np.size), strict=True):
        np.testing.assert_allclose(weights.numpy(), window[-1, :, 0], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_other_rows_give_the_output_of_an_edited_network(kind: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    docs = [example.predicted for example in one.examples]
    row = ClsRows(one.head, docs)
    reverse = [weights.flip(-1) for weights in row.original]

    def run(network: BertModel, batch: PackedBatch, windows: np.ndarray) -> Tensor:
        def turn(weights: Tensor, sequences: np.ndarray) -> Tensor:
            return torch.cat([weights[:, :, :1].flip(-1), weights[:, :, 1:]], dim=2)

        return network(batch, edits=Edits(attention={1: turn})).last_hidden_state

    outputs = one.head.outputs(docs, one.head.encode(docs, Intervention(run=run)))
    plain = one.head.outputs(docs, one.head.encode(docs))
    with torch.no_grad():
        found, changes = row.probabilities(reverse), row.changes(reverse).numpy()
    for ours, theirs, before, change in zip(found, outputs, plain, changes, strict=True):
        p, q = np.exp(log_softmax(theirs)), np.exp(log_softmax(before))
        np.testing.assert_allclose(ours.numpy(), p, atol=1e-5)
        assert change == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-5)
    assert changes.max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_permutations(kind: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    texts = [example.predicted.text for example in one.examples]
    seen: list[int] = []
    found = permute_attention(one.nlp, texts, count=5, progress=seen.append)
    assert sum(seen) == len(texts)
    assert found.peaks.shape == found.changes.shape == (len(texts),)
    assert ((found.peaks > 0) & (found.peaks <= 1)).all()
    assert ((found.changes >= 0) & (found.changes <= 1)).all()
    assert found.changes.any()
    again = permute_attention(one.nlp, texts, count=5)
    np.testing.assert_array_equal(found.changes, again.changes)


def test_uniform_attention_cannot_be_permuted(checkpoint: Path) -> None:
    nlp = copied(task("exclusive", checkpoint).nlp)
    network = TaskHead.find(nlp).shim.network
    with torch.no_grad():
        attention = network.layers[-1].attention.qkv
        attention.weight[:256].zero_()  # of queries and keys
        attention.bias[:256].zero_()
    found = permute_attention(nlp, ["The quick brown fox."], count=3)
    np.testing.assert_allclose(found.changes, 0.0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_attacks_keep_to_the_bound_and_move_attention(kind: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    docs = [example.predicted for example in one.examples]
    wide = attack_attention(one.nlp, docs, epsilon=0.05, steps=60)
    assert (wide.changes <= 0.05).all()
    assert (wide.distances <= math.log(2) + 1e-6).all()
    assert (wide.distances > 0.05).all()
    narrow = attack_attention(one.nlp, docs, epsilon=0.0001, steps=60)
    assert (narrow.changes <= 0.0001).all()
    assert narrow.distances.mean() < wide.distances.mean()
    for parameter in one.head.shim.network.parameters():
        assert parameter.grad is None or not parameter.grad.any()


def test_divergence() -> None:
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    q = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    torch.testing.assert_close(jensen_shannon(p, q), torch.tensor([math.log(2), 0.0]))
    torch.testing.assert_close(jensen_shannon(p, q), jensen_shannon(q, p))


def test_components_that_do_not_read_cls(checkpoint: Path) -> None:
    for kind in ("ner", "multilabel", "qa"):
        with pytest.raises(ValueError, match=r"no bert_textcat of exclusive classes"):
            permute_attention(task(kind, checkpoint).nlp, ["A dog."])
    nlp = copied(task("exclusive", checkpoint).nlp)
    shim = TaskHead.find(nlp).shim
    shim.take(prune_heads(shim.network, {1: [0, 1]}), shim.wordpiece)
    with pytest.raises(ValueError, match="last layer has no attention heads"):
        attack_attention(nlp, ["A dog."])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epsilon": 2.0}, "epsilon must be in"), ({"steps": 0}, "steps must be at least 1")],
)
def test_options_that_cannot_work(options: dict, message: str, checkpoint: Path) -> None:
    nlp = task("exclusive", checkpoint).nlp
    with pytest.raises(ValueError, match=message):
        attack_attention(nlp, ["A dog."], **options)


def test_nothing_to_look_at(checkpoint: Path) -> None:
    nlp = task("exclusive", checkpoint).nlp
    with pytest.raises(ValueError, match="no Doc with tokens"):
        permute_attention(nlp, [""])
    with pytest.raises(ValueError, match="count must be at least 1"):
        permute_attention(nlp, ["A dog."], count=0)
