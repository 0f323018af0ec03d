"""Short real runs: the loss falls under the unigram model's, runs repeat, mistakes are named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spacy_bert.bert import load_pretraining
from spacy_bert.pretraining import engine, report
from spacy_bert.pretraining.config import PretrainConfig
from spacy_bert.pretraining.distributed import select_device
from spacy_bert.pretraining.engine import pretrain
from spacy_bert.pretraining.shards import Shards
from spacy_bert.wordpiece import WordPiece

CONFIG = """
[model]
num_hidden_layers = 2
hidden_size = 32
num_attention_heads = 2
intermediate_size = 64
max_position_embeddings = 32
hidden_dropout_prob = 0.1

[data]
shards = "{shards}"
tokenizer = "{tokenizer}"
sequence_length = 32
batch_pieces = 512

[training]
steps = 6
device = "cpu"
learning_rate = 5e-3
warmup_share = 0.1
log_every = 2
evaluate_every = 3
"""


@pytest.fixture(scope="module")
def config_file(shard_directory, wordpiece, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("config")
    wordpiece.save(directory / "tokenizer")
    file = directory / "pretrain.cfg"
    file.write_text(CONFIG.format(shards=shard_directory, tokenizer=directory / "tokenizer"))
    return file


@pytest.fixture(scope="module")
def config(config_file) -> PretrainConfig:
    return PretrainConfig.load(config_file)


@pytest.fixture(scope="module")
def short_run(config, tmp_path_factory):
    output = tmp_path_factory.mktemp("short") / "deep" / "run"
    return output, pretrain(config, output)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model-last" / "model.safetensors")


def test_the_loss_falls_well_under_the_unigram_model(config_file, tmp_path):
    config = PretrainConfig.load(
        config_file,
        {"training.steps": 150, "training.evaluate_every": 150, "training.log_every": 50},
    )
    metrics = pretrain(config, tmp_path)
    assert metrics["dev_mlm_loss"] < metrics["unigram_cross_entropy"] - 0.5
    assert metrics["dev_mlm_loss"] < metrics["unigram_cross_entropy_masked"] - 0.5
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").open()]
    assert losses[-1] < losses[0]


def test_metrics(short_run, shards):
    output, metrics = short_run
    assert json.loads((output / "metrics.json").read_text()) == metrics
    assert metrics["corpus"] == shards.manifest["counts"]
    assert metrics["nsp_baselines"]["majority"] == 0.5
    assert set(metrics["nsp_baselines"]) == {"majority", "lengths_and_punctuation", "word_overlap"}
    assert 0.0 <= metrics["nsp_accuracy"] <= 1.0
    assert metrics["nsp_pairs"] > 20
    assert metrics["pieces_per_second"] > 0
    assert (metrics["steps"], metrics["device"]) == (6, "cpu")


def test_log_lines(short_run):
    rows = [json.loads(line) for line in (short_run[0] / "log.jsonl").open()]
    assert [row["step"] for row in rows] == [2, 3, 4, 6]
    for row in rows:
        assert row["loss"] == pytest.approx(row["mlm"] + row["nsp"], abs=1e-4)
        assert {"learning_rate", "gradient_norm", "pieces_per_second"} <= row.keys()
        assert ("dev_mlm" in row) == ("dev_nsp_accuracy" in row) == (row["step"] in (3, 6))


def test_checkpoints_are_hugging_face_directories(short_run, wordpiece):
    transformers = pytest.importorskip("transformers")
    output = short_run[0]
    for name in ("model-last", "model-best"):
        ours = load_pretraining(output / name).eval()
        theirs = transformers.BertForPreTraining.from_pretrained(output / name).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(output / name)
        assert tokenizer.model_max_length == ours.config.max_position_embeddings == 32
        assert ours.config.vocab_size == len(tokenizer) == len(wordpiece)
        assert WordPiece.load(output / name).vocab_hash == wordpiece.vocab_hash
        logits = theirs(**tokenizer("the cat", return_tensors="pt")).prediction_logits
        assert logits.shape[-1] == len(wordpiece)
    assert not [file for file in output.rglob("*") if file.name.startswith(".")]


def test_the_config_saved_repeats_the_run_bit_by_bit(short_run, tmp_path):
    output, metrics = short_run
    again = pretrain(PretrainConfig.load(output / "config.cfg"), tmp_path)
    first, second = weights(output), weights(tmp_path)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again["dev_mlm_loss"] == metrics["dev_mlm_loss"]


def test_another_seed_gives_other_weights(short_run, config, tmp_path):
    pretrain(replace(config, training=replace(config.training, seed=1, steps=2)), tmp_path)
    first, second = weights(short_run[0]), weights(tmp_path)
    assert not torch.equal(first["bert.pooler.dense.weight"], second["bert.pooler.dense.weight"])


def test_a_loss_that_is_not_finite_stops_with_the_step_named(config, tmp_path, monkeypatch):
    original = engine.pretraining_losses
    calls = []

    def diverging(model, batch):
        calls.append(batch)
        losses = original(model, batch)
        return losses._replace(nsp=losses.nsp * float("nan")) if len(calls) == 5 else losses

    monkeypatch.setattr(engine, "pretraining_losses", diverging)
    with pytest.raises(
        FloatingPointError, match="step 5: the loss is not finite, at the batch of epoch 0, block 0"
    ):
        pretrain(config, tmp_path)
    model = load_pretraining(tmp_path / "model-last")  # the checkpoint of step 3
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_shards_of_another_tokenizer_are_refused(config, corpus, tmp_path):
    WordPiece.train(corpus.sentences(), vocab_size=120).save(tmp_path / "other")
    data = replace(config.data, tokenizer=tmp_path / "other")
    with pytest.raises(ValueError, match="another vocabulary than the tokenizer's"):
        pretrain(replace(config, data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["nope", "cuda:99"])
def test_an_unknown_device_is_named(name):
    with pytest.raises(ValueError, match=rf"\[training\] device '{name}'"):
        select_device(name)


def test_auto_takes_cuda_if_there_is_one():
    assert select_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_cuda(config, tmp_path, shards):
    assert isinstance(shards, Shards)
    metrics = pretrain(replace(config, training=replace(config.training, device="cuda")), tmp_path)
    assert metrics["device"] == "cuda"


def test_an_earlier_run_is_not_mixed_with_a_new_one(config, tmp_path):
    one_step = replace(config, training=replace(config.training, steps=1))
    pretrain(one_step, tmp_path)
    with pytest.raises(ValueError, match=r"holds an earlier run \(log.jsonl, metrics.json, model"):
        pretrain(config, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["steps"] == 1
    pretrain(config, tmp_path, overwrite=True)
    assert json.loads((tmp_path / "metrics.json").read_text())["steps"] == 6


def test_a_run_is_not_written_among_shards(config):
    with pytest.raises(ValueError, match="holds shards; name another directory"):
        pretrain(config, config.data.shards, overwrite=True)


def test_without_a_terminal_lines_tell_where_the_run_stands(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("spacy_bert.pretraining.log._QUIET_SECONDS", 0.0)
    pretrain(config, tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if "pieces/s" in line]
    assert [line.split()[1] for line in lines] == ["2", "3", "4", "6"]


def test_the_first_line_says_what_is_about_to_be_done(config, tmp_path, shards, capsys):
    pretrain(replace(config, training=replace(config.training, steps=1)), tmp_path)
    first = capsys.readouterr().out.splitlines()[0]
    parameters = sum(weight.numel() for weight in weights(tmp_path).values())
    assert first == (
        f"{parameters / 1e6:.1f} M parameters, {len(shards.train.pieces):,} pieces of text, "
        "1 steps (1 x cpu)"
    )


def test_a_run_from_a_checkpoint_begins_with_what_it_is_worth(
    short_run, config_file, tmp_path, monkeypatch
):
    monkeypatch.setattr("spacy_bert.pretraining.log._QUIET_SECONDS", 0.0)
    output, metrics = short_run
    rest = config_file.read_text().split("[data]")[1]
    checkpoint = output / "model-last"
    (tmp_path / "more.cfg").write_text(f'[model]\ncheckpoint = "{checkpoint}"\n\n[data]{rest}')
    pretrain(PretrainConfig.load(tmp_path / "more.cfg", {"training.steps": 3}), tmp_path / "more")
    lines = [json.loads(line) for line in (tmp_path / "more" / "log.jsonl").open()]
    assert [line["step"] for line in lines] == [0, 2, 3]
    assert lines[0]["dev_mlm"] == pytest.approx(metrics["dev_mlm_loss"])
    assert lines[0]["dev_nsp_accuracy"] == pytest.approx(metrics["nsp_accuracy"])


def test_training_does_without_scikit_learn(config, tmp_path, monkeypatch):
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: None)
    one_step = replace(config, training=replace(config.training, steps=1))
    assert pretrain(one_step, tmp_path)["nsp_baselines"] == {}


def test_resume_never_deletes_what_was_learned(config, tmp_path):
    pretrain(config, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    before = weights(tmp_path)
    for name in ("metrics.json", "log.jsonl"):
        with pytest.raises(ValueError, match="no checkpoint to go on from; name another directory"):
            pretrain(config, tmp_path, resume=True)
        (tmp_path / name).unlink()  # nor what nobody knows anything about
    (tmp_path / "config.cfg").unlink()
    with pytest.raises(ValueError, match="no checkpoint to go on from"):
        pretrain(config, tmp_path, resume=True)
    for name, tensor in weights(tmp_path).items():
        assert torch.equal(tensor, before[name])


def test_a_config_of_something_else_is_left_alone(config, tmp_path):
    other = tmp_path / "config.cfg"
    other.write_text("[nlp]\nlang = 'en'\n")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(ValueError, match=r"config\.cfg: is of no earlier run"):
            pretrain(config, tmp_path, **options)
    assert other.read_text() == "[nlp]\nlang = 'en'\n"
    other.write_text(config.text)  # as a run leaves it that ends at once
    one_step = replace(config, training=replace(config.training, steps=1))
    pretrain(one_step, tmp_path)


def test_a_tracker_that_cannot_start_leaves_no_config(config, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no login")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "start_trackers", fail)
        with pytest.raises(RuntimeError, match="no login"):
            pretrain(config, tmp_path)
    one_step = replace(
        config,
        text=config.text + "\n# mended",
        training=replace(config.training, steps=1),
    )
    pretrain(one_step, tmp_path)


def test_a_log_that_was_cut_off_is_of_unknown_results(config, tmp_path):
    (tmp_path / "model-last").mkdir()
    (tmp_path / "log.jsonl").write_text('{"step": 0, "dev_mlm": 9.1}\n{"step": 5, "dev_mlm": 1.')
    with pytest.raises(ValueError, match="no checkpoint to go on from"):
        pretrain(config, tmp_path, resume=True)
    assert (tmp_path / "model-last").is_dir()


def test_a_run_does_not_delete_what_it_begins_with(short_run, config, config_file, tmp_path):
    shutil.copytree(short_run[0], tmp_path / "run")
    rest = config_file.read_text().split("[data]")[1]
    start = tmp_path / "run" / "model-last"
    (tmp_path / "more.cfg").write_text(f'[model]\ncheckpoint = "{start}"\n\n[data]{rest}')
    more = PretrainConfig.load(tmp_path / "more.cfg")
    with pytest.raises(ValueError, match="would be deleted with the earlier run"):
        pretrain(more, tmp_path / "run", overwrite=True)
    assert start.is_dir()


def test_large_seeds(config, tmp_path):
    seeded = replace(config.training, seed=20240101123456, steps=1)
    pretrain(replace(config, training=seeded), tmp_path)
    with pytest.raises(ValueError, match="seed must be below 2 to the power of 63"):
        replace(config.training, seed=2**63)
