"""Ranking: attention by segment as the traces have it, and inputs without their markers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from spacy.language import Language

import spacy_bert
from spacy_bert.analysis.decisions import decisions_of
from spacy_bert.analysis.ranking import PARTS, _strip, remove_marker, segment_attention
from spacy_bert.analysis.task_head import TaskHead
from spacy_bert.bert import PackedBatch
from tests.analysis.tasks import KINDS, Task, copied, pairs, task


@pytest.fixture
def one(checkpoint: Path) -> Task:
    return task("exclusive", checkpoint)


def test_mass_is_that_of_the_traces(one: Task) -> None:
    docs = [example.predicted for example in pairs(one.nlp)[:3]]
    seen: list[int] = []
    found = segment_attention(one.nlp, docs, progress=seen.append)
    assert sum(seen) == found.windows == 3
    masses, evens = [], []
    for doc in docs:
        trace = spacy_bert.trace(one.nlp, doc)
        first = trace.pieces.index("[SEP]")
        last = len(trace.pieces) - 1
        parts = [[0], range(1, first), range(first + 1, last), [first, last]]
        mass = np.zeros((2, 4, 4))
        for row, of in enumerate(parts):
            for column, to in enumerate(parts):
                cut = trace.attention[:, :, list(of)][..., list(to)]
                mass[:, row, column] = cut.sum(axis=3).mean(axis=(1, 2))
        masses.append(mass)
        evens.append([len(part) / len(trace.pieces) for part in parts])
    np.testing.assert_allclose(found.mass, np.mean(masses, axis=0), atol=1e-6)
    np.testing.assert_allclose(found.even, np.mean(evens, axis=0))
    np.testing.assert_allclose(found.mass.sum(axis=2), 1.0, atol=1e-5)
    assert len(PARTS) == 4


def test_uniform_attention_is_even(one: Task) -> None:
    nlp = copied(one.nlp)
    with torch.no_grad():
        for layer in TaskHead.find(nlp).shim.network.layers:
            layer.attention.qkv.weight[:256].zero_()  # of queries and keys
            layer.attention.qkv.bias[:256].zero_()
    found = segment_attention(nlp, [spacy_bert.join(nlp, "A dog.", "The lazy fox jumps.")])
    np.testing.assert_allclose(found.mass, np.broadcast_to(found.even, (2, 4, 4)), atol=1e-6)


def test_several_passages_and_windows(one: Task) -> None:
    long = "The quick brown fox jumps over the lazy dog in Paris. " * 3
    docs = [spacy_bert.join(one.nlp, "A dog?", long, "A fox."), one.nlp.make_doc("No pair.")]
    found = segment_attention(one.nlp, docs)
    assert found.windows == len(spacy_bert.trace(one.nlp, docs[0]).attentions) > 2
    np.testing.assert_allclose(found.mass.sum(axis=2), 1.0, atol=1e-5)
    empty = spacy_bert.join(one.nlp, "", "A fox.")
    assert segment_attention(one.nlp, [*docs, empty]).windows == found.windows


@pytest.mark.parametrize("marker", ["[CLS]", "[SEP]"])
def test_a_layout_without_a_marker(one: Task, marker: str) -> None:
    doc = one.examples[0].predicted
    shim = one.head.shim
    (layout,) = shim.lay_out([doc])
    wordpiece = shim.wordpiece
    ids = {"[CLS]": wordpiece.cls_id, "[SEP]": wordpiece.sep_id}
    found = _strip(layout, ids[marker])
    assert len(layout.lengths) > 1
    assert found.lengths == tuple(length - 1 for length in layout.lengths)
    assert ids[marker] not in found.pieces
    assert sum(found.lengths) == len(found.pieces) == len(found.segment_ids) == len(found.offsets)
    np.testing.assert_array_equal(
        found.pieces[found.align_pieces], layout.pieces[layout.align_pieces]
    )
    np.testing.assert_array_equal(
        found.offsets[found.align_pieces], layout.offsets[layout.align_pieces]
    )


def test_the_network_reads_no_marker(one: Task) -> None:
    doc = spacy_bert.join(one.nlp, "The dog jumps", "over a fox.")
    (layout,) = one.head.shim.lay_out([doc])
    ids = [piece for piece in layout.pieces.tolist() if piece != one.head.shim.wordpiece.sep_id]
    sep = one.head.shim.wordpiece.sep_id
    kinds = layout.segment_ids[layout.pieces != sep].tolist()
    with torch.inference_mode():
        batch = PackedBatch.from_sequences([ids], segments=[kinds])
        states = one.head.shim.network(batch).last_hidden_state
    (data,) = one.head.encode([doc])
    data.model_output.last_hidden_state[0, 0] = states[0].numpy()
    (before,) = one.head.outputs([doc], one.head.encode([doc]))
    (after,) = one.head.outputs([doc], [data])
    decisions = decisions_of(one.head)
    own = decisions.own(doc, before)
    found = remove_marker(one.nlp, [doc], "[SEP]")
    assert found.log_likelihoods[0] == pytest.approx(decisions.log_likelihood(before, own))
    drop = decisions.log_likelihood(before, own) - decisions.log_likelihood(after, own)
    assert found.drops[0] == pytest.approx(drop, abs=1e-5)
    assert found.changed[0] == (decisions.own(doc, after) != own)


@pytest.mark.parametrize("marker", ["[CLS]", "[SEP]"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_component(kind: str, marker: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    seen: list[int] = []
    found = remove_marker(one.nlp, one.examples, marker, progress=seen.append)
    assert sum(seen) == len(one.examples)
    assert found.drops.shape == found.changed.shape == found.log_likelihoods.shape
    assert np.isfinite(found.drops).any()
    assert np.nanmax(np.abs(found.drops)) > 1e-5
    assert kind != "regression" or not found.changed.any()


def test_bad_input(one: Task, nlp: Language) -> None:
    with pytest.raises(ValueError, match="no Doc is a pair of query and passage"):
        segment_attention(nlp, [nlp.make_doc("One text.")])
    with pytest.raises(ValueError, match=r'marker must be "\[CLS\]" or "\[SEP\]", got \'SEP\''):
        remove_marker(one.nlp, [], "SEP")
    with pytest.raises(ValueError, match="no Doc about which"):
        remove_marker(one.nlp, [one.nlp.make_doc("")], "[SEP]")
