"""Never a lost step: runs that are killed, stopped, or out of disk, and go on."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spacy_bert.bert import load_pretraining
from spacy_bert.pretraining import checkpoints, engine
from spacy_bert.pretraining.building import write_shards
from spacy_bert.pretraining.checkpoints import find_checkpoints
from spacy_bert.pretraining.config import PretrainConfig
from spacy_bert.pretraining.engine import pretrain

CONFIG = """
[model]
num_hidden_layers = 1
hidden_size = 32
num_attention_heads = 2
intermediate_size = 64
max_position_embeddings = 64

[data]
shards = "{shards}"
tokenizer = "{tokenizer}"
sequence_length = 32
batch_pieces = 512

[training]
steps = {steps}
device = "cpu"
threads = 1
learning_rate = 5e-3
warmup_share = 0.1
batches_per_step = 2
log_every = 10
evaluate_every = 100
evaluate_pieces = 2000
save_every = 10

[phases]
shares = [0.8, 0.2]
sequence_length = [32, 64]
"""

# Slow steps, so that a signal meets the run at work and not at its end.
PROGRAM = """
import sys, time
import torch
torch.set_num_threads(1)
from spacy_bert.pretraining import engine
from spacy_bert.pretraining.config import PretrainConfig
losses = engine.pretraining_losses
def slowly(model, batch):
    time.sleep(float(sys.argv[3]))
    return losses(model, batch)
engine.pretraining_losses = slowly
print("ready", flush=True)
engine.pretrain(PretrainConfig.load(sys.argv[1]), sys.argv[2], resume=True)
"""


def write_config(directory: Path, shards: Path, wordpiece, *, steps: int) -> Path:
    wordpiece.save(directory / "tokenizer")
    file = directory / "pretrain.cfg"
    file.write_text(
        CONFIG.format(shards=shards, tokenizer=directory / "tokenizer", steps=steps), "utf8"
    )
    return file


@pytest.fixture(scope="module")
def config_file(shard_directory, wordpiece, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("resume")
    return write_config(directory, shard_directory, wordpiece, steps=120)


@pytest.fixture(scope="module")
def config(config_file) -> PretrainConfig:
    return PretrainConfig.load(config_file)


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    pretrain(config, output)
    return output


def start(config_file: Path, output: Path, *, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, config_file, output, pause]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)


def assert_same_result(left: Path, right: Path) -> None:
    for name in ("model-last", "model-best"):
        first, second = (load_file(run / name / "model.safetensors") for run in (left, right))
        assert first.keys() == second.keys()
        for tensor, value in first.items():
            assert torch.equal(value, second[tensor]), (name, tensor)
    scores = [
        json.loads((run / "metrics.json").read_text())["dev_mlm_loss"] for run in (left, right)
    ]
    assert scores[0] == scores[1]


def test_ten_kills_change_nothing(config_file, uninterrupted, tmp_path):
    """Kill -9 at random moments, between steps and within, while writing and while reading."""
    generator = random.Random(0)
    for _ in range(10):
        process = start(config_file, tmp_path, pause=0.01)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(generator.uniform(0.2, 1.2))
        process.kill()
        process.wait()
    reached = find_checkpoints(tmp_path)
    assert reached, "no run came to a checkpoint"
    assert not (tmp_path / "metrics.json").exists(), "the run was over before the last kill"
    pretrain(PretrainConfig.load(config_file), tmp_path, resume=True)
    assert_same_result(uninterrupted, tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").open()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 120


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_the_run(config_file, uninterrupted, tmp_path, number):
    process = start(config_file, tmp_path, pause=0.05)
    while not (tmp_path / "log.jsonl").exists():
        time.sleep(0.05)
    time.sleep(0.7)
    process.send_signal(number)
    assert process.wait(timeout=30) != 0
    if number == signal.SIGTERM:
        assert process.returncode == 128 + signal.SIGTERM
    (newest,) = find_checkpoints(tmp_path)
    step = json.loads((newest / "state.json").read_text())["progress"]["step"]
    assert 0 < step < 120
    last = load_pretraining(tmp_path / "model-last").state_dict()
    for name, tensor in load_pretraining(newest).state_dict().items():
        assert torch.equal(tensor, last[name])
    pretrain(PretrainConfig.load(config_file), tmp_path, resume=True)
    assert_same_result(uninterrupted, tmp_path)


def stopped_after(config: PretrainConfig, output: Path, steps: int, monkeypatch) -> None:
    """Run so many steps of the config, then fail."""
    original, calls = engine.pretraining_losses, []

    def failing(model, batch):
        calls.append(batch)
        if len(calls) > 2 * steps:
            raise RuntimeError("power cut")
        return original(model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "pretraining_losses", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            pretrain(config, output)


@pytest.mark.parametrize(("step", "saved"), [(37, 30), (99, 96)])  # the phase ends at 96
def test_both_phases_can_be_resumed(config, uninterrupted, tmp_path, monkeypatch, step, saved):
    stopped_after(config, tmp_path, step, monkeypatch)
    (newest,) = find_checkpoints(tmp_path)
    assert newest.name == f"step-{saved:08d}"
    pretrain(config, tmp_path, resume=True)
    assert_same_result(uninterrupted, tmp_path)


def test_a_full_disk_leaves_the_last_good_checkpoint(config, uninterrupted, tmp_path, monkeypatch):
    original = checkpoints.save_file

    def full(tensors, path):
        if "step-00000030" in str(path):
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", full)
        with pytest.raises(OSError, match=r"step-00000030: .*No space left.*--resume"):
            pretrain(config, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000020"]
    pretrain(config, tmp_path, resume=True)
    assert_same_result(uninterrupted, tmp_path)


def test_the_newest_checkpoints_are_kept(config, tmp_path, monkeypatch):
    three = replace(config, training=replace(config.training, keep_checkpoints=3))
    stopped_after(three, tmp_path, 55, monkeypatch)
    assert [int(path.name[5:]) for path in find_checkpoints(tmp_path)] == [30, 40, 50]


def test_other_settings_are_refused_and_named(config, tmp_path, monkeypatch):
    stopped_after(config, tmp_path, 15, monkeypatch)
    other = replace(config, training=replace(config.training, learning_rate=1.0))
    with pytest.raises(
        ValueError, match=r"\[training\] learning_rate is 1.0, but the run .* 0.005"
    ):
        pretrain(other, tmp_path, resume=True)
    longer = replace(config, training=replace(config.training, steps=130))
    with pytest.raises(ValueError, match=r"^\[training\] steps is 130, but the run .* had 120"):
        pretrain(longer, tmp_path, resume=True)
    # What does not decide the weights may change.
    free = replace(config.training, log_every=7, save_every=50)
    pretrain(replace(config, training=free), tmp_path, resume=True)


def test_other_shards_are_refused(config, tmp_path, monkeypatch, corpus, wordpiece):
    stopped_after(config, tmp_path / "run", 15, monkeypatch)
    write_shards(corpus, tmp_path / "shards", wordpiece, dev_share=0.3)
    other = replace(config, data=replace(config.data, shards=tmp_path / "shards"))
    with pytest.raises(ValueError, match=r"\[data\] shards is '\w+', but the run .* had '\w+'"):
        pretrain(other, tmp_path / "run", resume=True)
    shutil.copytree(config.data.shards, tmp_path / "moved")
    moved = replace(config, data=replace(config.data, shards=tmp_path / "moved"))
    pretrain(moved, tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["state.json", "optimizer.safetensors", "model.safetensors"])
def test_a_damaged_checkpoint_is_named(config, tmp_path, monkeypatch, name):
    stopped_after(config, tmp_path, 15, monkeypatch)
    (newest,) = find_checkpoints(tmp_path)
    (newest / name).write_text("{")
    with pytest.raises(ValueError, match=rf"{name}: .*damaged.* delete {newest}$"):
        pretrain(config, tmp_path, resume=True)


def test_resume_without_a_checkpoint_begins(config, tmp_path):
    two = replace(config, training=replace(config.training, steps=5))
    assert pretrain(two, tmp_path, resume=True)["steps"] == 5


def test_a_finished_run_is_only_scored_again(config, uninterrupted):
    before = (uninterrupted / "model-last" / "model.safetensors").stat().st_mtime_ns
    metrics = pretrain(config, uninterrupted, resume=True)
    assert metrics["steps"] == 120
    assert (uninterrupted / "model-last" / "model.safetensors").stat().st_mtime_ns == before
