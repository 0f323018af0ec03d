"""The three objectives of table 5, and what the fast forward pass leaves out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spacy_bert.bert import BertConfig, BertForPreTraining, PackedBatch
from spacy_bert.pretraining.batches import BatchMaker, BatchSettings
from spacy_bert.pretraining.masking import Masking
from spacy_bert.pretraining.objective import pretraining_losses

SETTINGS = BatchSettings(sequence_length=32, batch_pieces=256)


def first_batch(shards, wordpiece, objective="mlm+nsp"):
    maker = BatchMaker(
        shards.train,
        wordpiece,
        settings=SETTINGS,
        masking=Masking(),
        seed=0,
        objective=objective,
    )
    return next(maker.stream())


def network(wordpiece, **fields) -> BertForPreTraining:
    torch.manual_seed(0)
    config = BertConfig.preset(
        "tiny", vocab_size=len(wordpiece), max_position_embeddings=32, initializer_range=0.1
    )
    return BertForPreTraining(replace(config, **fields)).eval()


def test_needed_rows_alone_give_the_same_loss_and_gradients(shards, wordpiece):
    """The last layer works on masked pieces and [CLS] only: nothing else changes."""
    batch = first_batch(shards, wordpiece)
    model = network(wordpiece)
    losses = pretraining_losses(model, batch)
    losses.total.backward()
    fast = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    hidden = model.bert(batch.packed).last_hidden_state
    logits = model.mlm(hidden[batch.masked], model.bert.embeddings.piece.weight)
    pooled = model.bert.pooler(hidden[torch.from_numpy(batch.packed.starts)])
    mlm = F.cross_entropy(logits, batch.targets)
    nsp = F.cross_entropy(model.nsp(pooled), batch.is_random)
    (mlm + nsp).backward()
    assert losses.mlm.item() == pytest.approx(mlm.item(), abs=1e-6)
    assert losses.nsp.item() == pytest.approx(nsp.item(), abs=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(fast[name], parameter.grad, atol=1e-6, rtol=1e-4)


def test_without_next_sentences_every_b_follows_its_a(shards, wordpiece):
    batch = first_batch(shards, wordpiece, "mlm")
    assert batch.is_random is None
    losses = pretraining_losses(network(wordpiece), batch)
    assert losses.nsp is None
    assert losses.total is losses.mlm
    maker = BatchMaker(
        shards.train, wordpiece, settings=SETTINGS, masking=Masking(), seed=0, objective="mlm"
    )
    pairs = maker.pairs(np.arange(shards.train.document_count), np.random.default_rng(0))
    assert not pairs.is_random.any()
    assert (pairs.b[:, 0] == pairs.a[:, 1]).all()


def test_left_to_right_predicts_each_following_piece(shards, wordpiece):
    batch = first_batch(shards, wordpiece, "ltr")
    pieces, ends = batch.packed.pieces, np.cumsum(batch.packed.lengths)
    assert not (pieces == wordpiece.mask_id).any()
    expected = np.setdiff1d(np.arange(len(pieces)), ends - 1)
    assert batch.masked.tolist() == expected.tolist()
    assert torch.equal(batch.targets, pieces[batch.masked + 1])


def test_a_causal_network_does_not_look_ahead(wordpiece):
    model = network(wordpiece, is_decoder=True)
    sequence = list(range(5, 25))
    changed = [*sequence[:12], *range(40, 48)]
    with torch.no_grad():
        for left, right in ((sequence, changed),):
            one = model.bert(PackedBatch.from_sequences([left, [7, 8]])).last_hidden_state
            two = model.bert(PackedBatch.from_sequences([right, [7, 8]])).last_hidden_state
    torch.testing.assert_close(one[:12], two[:12], atol=1e-6, rtol=0)
    assert (one[12:20] - two[12:20]).abs().max() > 0.01
    with torch.no_grad():
        explicit = model.bert(
            PackedBatch.from_sequences([sequence, [7, 8]]), output_attentions=True
        )
    torch.testing.assert_close(explicit.last_hidden_state, one, atol=1e-5, rtol=0)
    for layer in explicit.attentions:
        assert layer[0].triu(1).abs().max() == 0.0


def test_a_causal_network_equals_hugging_faces_decoder(wordpiece, tmp_path):
    transformers = pytest.importorskip("transformers")
    from spacy_bert.bert import save_pretrained

    model = network(wordpiece, is_decoder=True)
    save_pretrained(model, tmp_path)
    theirs = transformers.BertModel.from_pretrained(tmp_path).eval()
    assert theirs.config.is_decoder
    ids = list(range(5, 25))
    with torch.no_grad():
        ours = model.bert(PackedBatch.from_sequences([ids])).last_hidden_state
        expected = theirs(torch.tensor([ids])).last_hidden_state[0]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_a_padded_vocabulary_changes_nothing(shards, wordpiece):
    batch = first_batch(shards, wordpiece)
    model = network(wordpiece)
    plain = pretraining_losses(model, batch)
    plain.total.backward()
    gradient = model.bert.embeddings.piece.weight.grad.clone()
    model.zero_grad()
    model.mlm.vocabulary_multiple = 64
    output = model(batch.packed, batch.masked)
    assert output.mlm_logits.shape[1] % 64 == 0
    padded = pretraining_losses(model, batch)
    padded.total.backward()
    assert padded.mlm.item() == pytest.approx(plain.mlm.item(), abs=1e-6)
    torch.testing.assert_close(
        model.bert.embeddings.piece.weight.grad, gradient, atol=1e-6, rtol=1e-4
    )


def test_half_precision_on_a_cpu_is_close(shards, wordpiece):
    """Training in bf16 takes the attention that is written out."""
    batch = first_batch(shards, wordpiece)
    model = network(wordpiece)
    exact = pretraining_losses(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = pretraining_losses(model, batch)
    assert half.total.item() == pytest.approx(exact.total.item(), rel=0.01)
    assert half.mlm.dtype == torch.float32
