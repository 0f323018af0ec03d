"""Start points: another checkpoint, another vocabulary."""

from __future__ import annotations

import math
import re
import warnings

import pytest
import torch

from spacy_bert.bert import BertConfig, BertForPreTraining, save_pretrained
from spacy_bert.pretraining.batches import BatchMaker, BatchSettings
from spacy_bert.pretraining.config import PretrainConfig
from spacy_bert.pretraining.engine import pretrain
from spacy_bert.pretraining.evaluation import (
    DevSet,
    unigram_cross_entropy,
    unigram_log_probabilities,
)
from spacy_bert.pretraining.masking import Masking
from spacy_bert.pretraining.start import piece_sources, repeat_positions, start_model
from spacy_bert.wordpiece import SPECIAL_TOKENS, WordPiece


def vocabulary(*words: str) -> WordPiece:
    tokens = [*SPECIAL_TOKENS, *words]
    return WordPiece.from_vocabulary({token: number for number, token in enumerate(tokens)})


OLD = vocabulary("heart", "##s", "cardio", "##my", "my", "##opathy", "a")
NEW = vocabulary("a", "heart", "##s", "cardiomyopathy", "##myopathy", "x", "cardio", "##my", "my")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(5)
    config = BertConfig.preset("tiny", vocab_size=len(OLD), max_position_embeddings=32)
    model = BertForPreTraining(config)
    torch.nn.init.normal_(model.mlm.bias)
    save_pretrained(model, directory)
    OLD.save(directory)
    return directory, model


def test_new_pieces_come_from_those_that_they_were_cut_into():
    sources = dict(zip(NEW.tokens, piece_sources(OLD, NEW), strict=True))
    ids = {token: number for number, token in enumerate(OLD.tokens)}
    assert sources["heart"] == [ids["heart"]]
    assert sources["[MASK]"] == [ids["[MASK]"]]
    assert sources["cardiomyopathy"] == [ids["cardio"], ids["##my"], ids["##opathy"]]
    assert sources["##myopathy"] == [ids["##my"], ids["##opathy"]]
    assert sources["x"] == [ids["[UNK]"]]


def test_weights_go_on_and_new_rows_are_means(checkpoint):
    directory, old = checkpoint
    config = BertConfig.preset("tiny", max_position_embeddings=32)
    new = start_model(config, NEW, checkpoint=directory, seed=0)
    assert new.config.vocab_size == len(NEW)
    for name, tensor in new.state_dict().items():
        if name not in ("bert.embeddings.piece.weight", "mlm.bias"):
            assert torch.equal(tensor, old.state_dict()[name]), name
    rows, before = new.bert.embeddings.piece.weight, old.bert.embeddings.piece.weight
    at, then = NEW.tokens.index, OLD.tokens.index
    assert torch.equal(rows[at("heart")], before[then("heart")])
    mean = before[[then("cardio"), then("##my"), then("##opathy")]].mean(0)
    torch.testing.assert_close(rows[at("cardiomyopathy")], mean)
    assert new.mlm.bias[at("my")] == old.mlm.bias[then("my")]


def write(tmp_path, shard_directory, wordpiece, model: str) -> PretrainConfig:
    wordpiece.save(tmp_path / "tokenizer")
    file = tmp_path / "pretrain.cfg"
    file.write_text(
        f"""
[model]
{model}

[data]
shards = "{shard_directory}"
tokenizer = "{tmp_path / "tokenizer"}"
sequence_length = 32
batch_pieces = 256

[training]
steps = 1
device = "cpu"
learning_rate = 1e-9
""",
        "utf8",
    )
    return PretrainConfig.load(file)


def test_a_fresh_network_says_the_unigram_model(shards, wordpiece):
    size = len(wordpiece)
    logs = unigram_log_probabilities(shards.train, vocab_size=size)
    config = BertConfig.preset("tiny", vocab_size=size, max_position_embeddings=32)
    model = start_model(config, wordpiece, checkpoint=None, seed=0, unigrams=logs)
    maker = BatchMaker(
        shards.dev,
        wordpiece,
        settings=BatchSettings(sequence_length=32, batch_pieces=512),
        masking=Masking(),
        seed=0,
    )
    dev_set = DevSet.build(maker, shards.dev, max_pieces=10**9)
    targets = torch.cat([batch.targets for batch in dev_set.batches]).numpy()
    expected = unigram_cross_entropy(shards.train, targets, vocab_size=size)
    found = dev_set.score(model, torch.device("cpu")).mlm_loss
    assert found == pytest.approx(expected, rel=0.02)
    assert expected < 0.95 * math.log(size), "or equal chances would pass too"
    other = start_model(config, wordpiece, checkpoint=None, seed=0)
    assert torch.equal(other.mlm.dense.weight, model.mlm.dense.weight)


def test_a_run_goes_on_from_a_checkpoint(checkpoint, tmp_path, shard_directory, wordpiece):
    directory, old = checkpoint
    config = write(
        tmp_path,
        shard_directory,
        wordpiece,
        f'checkpoint = "{directory}"\nhidden_dropout_prob = 0.3',
    )
    assert config.model.hidden_size == 128
    assert config.model.hidden_dropout_prob == 0.3
    pretrain(config, tmp_path / "out")
    from spacy_bert.bert import load_pretraining

    model = load_pretraining(tmp_path / "out" / "model-last")
    torch.testing.assert_close(
        model.bert.layers[0].attention.qkv.weight, old.bert.layers[0].attention.qkv.weight
    )


def test_what_could_not_be_taken_over_is_said(checkpoint, tmp_path):
    directory, old = checkpoint
    lines: list[str] = []
    start_model(old.config, NEW, checkpoint=directory, seed=0, say=lines.append)
    (line,) = lines
    assert re.match(r"3 of 14 pieces are not in the vocabulary of .*: each starts as", line)
    save_pretrained(old.bert, tmp_path / "encoder")
    OLD.save(tmp_path / "encoder")
    lines.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start_model(old.config, OLD, checkpoint=tmp_path / "encoder", seed=0, say=lines.append)
    assert re.search("has no mlm, nsp: drawn afresh", lines[0])


def test_the_objective_decides_the_direction_of_attention(
    checkpoint, tmp_path, shard_directory, wordpiece
):
    directory, _ = checkpoint
    fields = f'checkpoint = "{directory}"'
    config = write(tmp_path, shard_directory, wordpiece, fields)
    assert not config.model.is_decoder
    ltr = PretrainConfig.load(tmp_path / "pretrain.cfg", {"training.objective": "ltr"})
    assert ltr.model.is_decoder
    begun = start_model(ltr.model, wordpiece, checkpoint=directory, seed=0)
    assert begun.config.is_decoder
    save_pretrained(begun, tmp_path / "begun")
    wordpiece.save(tmp_path / "begun")
    # What began left to right goes on with masks.
    config = write(tmp_path, shard_directory, wordpiece, f'checkpoint = "{tmp_path / "begun"}"')
    assert not config.model.is_decoder
    assert not start_model(
        config.model, wordpiece, checkpoint=config.checkpoint, seed=0
    ).config.is_decoder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('checkpoint = "nowhere"', r"\[model\] nowhere: no such directory"),
        ('preset = "mini"', "preset is decided by the checkpoint"),
        ("checkpoint = 3", "checkpoint must be a path"),
    ],
)
def test_mistakes_are_named(checkpoint, tmp_path, shard_directory, wordpiece, fields, message):
    if "checkpoint" not in fields:
        fields = f'checkpoint = "{checkpoint[0]}"\n{fields}'
    with pytest.raises(ValueError, match=message):
        write(tmp_path, shard_directory, wordpiece, fields)


def test_new_positions_begin_as_the_known_ones_but_the_first(checkpoint):
    model = BertForPreTraining(checkpoint[1].config)
    table = model.bert.embeddings.position.weight
    before = table.detach().clone()
    repeat_positions(model, known=8, length=20)
    assert torch.equal(table[:8], before[:8])
    assert torch.equal(table[20:], before[20:])
    assert torch.equal(table[8:15], before[1:8])
    assert torch.equal(table[15:20], before[1:6])
    assert table.requires_grad
