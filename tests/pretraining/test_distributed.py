"""Several processes do what one does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spacy_bert.pretraining.config import PretrainConfig
from spacy_bert.pretraining.engine import pretrain
from tests.pretraining.test_resume import CONFIG

MORE = {"training.steps": 50, "training.batches_per_step": 4, "training.log_every": 1}


def run(ranks: int, config_file: Path, output: Path, *more: object) -> None:
    overrides = [part for name, value in MORE.items() for part in (f"--{name}", value)]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", ranks),
        *("--master-port", 29517, "-m", "spacy_bert", "pretrain", config_file, output),
        *(*overrides, *more),
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def losses(output: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "log.jsonl").open()]


@pytest.fixture(scope="module")
def config_file(shard_directory, wordpiece, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("ranks")
    wordpiece.save(directory / "tokenizer")
    file = directory / "pretrain.cfg"
    paths = {"shards": shard_directory, "tokenizer": directory / "tokenizer"}
    file.write_text(CONFIG.format(**paths, steps=50), "utf8")
    return file


def test_two_ranks_train_like_one_and_can_be_resumed_by_one(config_file, tmp_path):
    """Dropout included: it is a function of step and batch, whichever rank has it."""
    one = PretrainConfig.load(config_file, MORE)
    pretrain(one, tmp_path / "one")
    run(2, config_file, tmp_path / "two")
    expected = losses(tmp_path / "one")
    assert len(expected) == 50
    assert losses(tmp_path / "two") == pytest.approx(expected, abs=1e-4)
    assert expected[-1] < expected[0] - 0.5
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["processes"] == 2
    assert metrics["pieces"] == 50 * 4 * 512
    # Half of the run with two ranks, half with one.
    for checkpoint in (tmp_path / "two" / "checkpoints").iterdir():
        assert checkpoint.name == "step-00000050"
    run(
        2,
        config_file,
        tmp_path / "both",
        "--training.save_every",
        20,
        "--training.keep_checkpoints",
        9,
    )
    for checkpoint in sorted((tmp_path / "both" / "checkpoints").iterdir())[1:]:
        checkpoint.rename(tmp_path / checkpoint.name)
    pretrain(one, tmp_path / "both", resume=True)
    assert losses(tmp_path / "both") == pytest.approx(expected, abs=1e-4)


def test_batches_that_cannot_be_shared_are_refused(config_file, tmp_path):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--master-port", "29518", "-m", "spacy_bert", "pretrain", str(config_file)),
        *(str(tmp_path / "out"), "--training.batches_per_step", "3"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "batches_per_step is 3, which 2 processes cannot share" in done.stderr
