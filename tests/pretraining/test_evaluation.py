"""The dev set and the unigram model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spacy_bert.bert import BertConfig, BertForPreTraining
from spacy_bert.pretraining.batches import BatchMaker, BatchSettings
from spacy_bert.pretraining.evaluation import DevSet, unigram_cross_entropy
from spacy_bert.pretraining.masking import Masking
from spacy_bert.pretraining.shards import Split


def build(shards, wordpiece, *, seed: int = 0, length: int = 32, max_pieces: int = 10**9) -> DevSet:
    maker = BatchMaker(
        shards.dev,
        wordpiece,
        settings=BatchSettings(sequence_length=length, batch_pieces=512),
        masking=Masking(),
        seed=seed,
    )
    return DevSet.build(maker, shards.dev, max_pieces=max_pieces)


@pytest.fixture(scope="module")
def dev_set(shards, wordpiece) -> DevSet:
    return build(shards, wordpiece)


def test_scored_pairs_are_balanced_and_uncut(dev_set, shards):
    assert dev_set.nsp_pairs.is_random.mean() == 0.5
    borders = shards.dev.sentences
    for spans in (dev_set.nsp_pairs.a, dev_set.nsp_pairs.b):
        assert np.isin(spans, borders).all()


def test_scored_sequences_are_those_pairs(dev_set):
    labels = torch.cat([batch.is_random for batch in dev_set.batches]).numpy()
    lengths = np.concatenate([batch.packed.lengths for batch in dev_set.batches])
    assert np.array_equal(labels[dev_set.nsp_scored], dev_set.nsp_pairs.is_random)
    assert np.array_equal(lengths[dev_set.nsp_scored], dev_set.nsp_pairs.lengths + 3)


def test_every_dev_document_is_read(dev_set, shards):
    pieces = sum(
        len(batch.packed.pieces) - 3 * len(batch.packed.lengths) for batch in dev_set.batches
    )
    assert pieces > 0.95 * len(shards.dev.pieces)


def test_the_dev_set_is_the_same_for_every_seed(dev_set, shards, wordpiece):
    other = build(shards, wordpiece, seed=9)
    for left, right in zip(dev_set.batches, other.batches, strict=True):
        assert torch.equal(left.packed.pieces, right.packed.pieces)
        assert torch.equal(left.masked, right.masked)


def test_scores_of_a_model_agree_with_its_logits(dev_set, wordpiece):
    model = BertForPreTraining(
        BertConfig.preset("tiny", vocab_size=len(wordpiece), max_position_embeddings=32)
    )
    scores = dev_set.score(model, torch.device("cpu"))
    assert model.training
    assert scores == dev_set.score(model, torch.device("cpu"))
    model.eval()
    with torch.no_grad():
        outputs = [model(batch.packed, batch.masked) for batch in dev_set.batches]
    logs = torch.cat([output.mlm_logits for output in outputs]).log_softmax(1)
    targets = torch.cat([batch.targets for batch in dev_set.batches])
    loss = -logs[torch.arange(len(targets)), targets].mean().item()
    assert scores.mlm_loss == pytest.approx(loss, abs=1e-5)
    assert scores.perplexity == pytest.approx(math.exp(loss), rel=1e-4)
    assert scores.mlm_loss == pytest.approx(math.log(len(wordpiece)), rel=0.1)
    guesses = torch.cat([output.nsp_logits for output in outputs]).argmax(1).numpy()
    right = guesses[dev_set.nsp_scored] == dev_set.nsp_pairs.is_random
    assert scores.nsp_accuracy == right.mean()


def test_no_uncut_pair_is_an_error(shards, wordpiece):
    with pytest.raises(ValueError, match="no uncut sentence pairs: raise"):
        build(shards, wordpiece, length=6)


def test_unigram_cross_entropy_by_hand():
    train = Split(np.array([0, 0, 0, 1], dtype=np.uint16), np.array([0, 4]), np.array([0, 1]))
    # Add-one counts over a vocabulary of 3: 4, 2, 1 of 7.
    expected = -(math.log(4 / 7) + math.log(2 / 7) + 2 * math.log(1 / 7)) / 4
    pieces = np.array([0, 1, 2, 2])
    assert unigram_cross_entropy(train, pieces, vocab_size=3) == pytest.approx(expected)


def test_a_part_of_the_dev_split_will_do(dev_set, shards, wordpiece):
    part = build(shards, wordpiece, max_pieces=len(shards.dev.pieces) // 4)
    sizes = [sum(len(b.packed.pieces) for b in one.batches) for one in (part, dev_set)]
    assert 0.15 < sizes[0] / sizes[1] < 0.3
    assert part.nsp_scored.any()
