"""The commands from text to a pre-trained BERT, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from tests.pretraining.conftest import make_documents, write_corpus

CONFIG = Path(__file__).parents[2] / "configs" / "pretrain_tiny.cfg"
SMALL = {
    "model.num_hidden_layers": 1,
    "model.hidden_size": 16,
    "model.num_attention_heads": 2,
    "data.batch_pieces": 256,
    "training.steps": 2,
    "training.device": "cpu",
}


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A directory with corpus, tokenizer and shards, made by the commands."""
    directory = tmp_path_factory.mktemp("work")
    corpus = write_corpus(directory / "corpus.txt", make_documents(200))
    done = run("train-tokenizer", corpus, directory / "tokenizer", "--vocab-size", 150)
    assert done.exit_code == 0, done.output
    assert done.output.strip() == f"{directory / 'tokenizer'}: 150 pieces, uncased"
    done = run(
        "prepare", corpus, directory / "shards", "--tokenizer", directory / "tokenizer",
        "--dev-share", 0.3,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "train: " in done.output
    assert " documents, " in done.output
    return directory


def overrides(directory: Path, **more: object) -> list[object]:
    paths = {"paths.shards": directory / "shards", "paths.tokenizer": directory / "tokenizer"}
    pairs = {**SMALL, **paths, **more}
    return [part for name, value in pairs.items() for part in (f"--{name}", value)]


def test_pretrain_with_overrides(prepared, tmp_path):
    done = run("pretrain", CONFIG, tmp_path / "out", *overrides(prepared))
    assert done.exit_code == 0, done.output
    for word in ("dev MLM loss", "unigrams", "BERT", "majority", "lengths and punctuation"):
        assert word in done.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["steps"] == 2
    assert "steps = 2" in (tmp_path / "out" / "config.cfg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train-tokenizer", "nowhere", "out"], "Error: nowhere: no such file or directory"),
        (["prepare", "README.md", "out", "--tokenizer", "nowhere"], "Error: nowhere: no such file"),
        (["pretrain", "none.cfg", "out"], "Error: none.cfg: no such config file"),
        (["pretrain", CONFIG, "out", "stray"], "Error: 'stray' is no option"),
        (["pretrain", CONFIG, "out", "--training.stps", "3"], "[training] has no field 'stps'"),
        (["pretrain", CONFIG, "out", "--training.steps=x"], "steps must be an integer, got 'x'"),
        (["pretrain", CONFIG, "out", "--paths.tokenizer=nowhere"], "Error: nowhere: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(arguments, message):
    done = run(*arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output
    assert len(done.output.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["train-tokenizer", "prepare", "pretrain"])
def test_help_has_an_example(command):
    done = run(command, "--help")
    assert done.exit_code == 0
    assert f"Example: python -m spacy bert {command}" in " ".join(done.output.split())


@pytest.mark.parametrize("program", ["spacy bert", "spacy_bert"])
def test_the_commands_hang_in_both_programs(program):
    done = subprocess.run(
        [sys.executable, "-m", *program.split(), "pretrain", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"python -m {program} pretrain [OPTIONS]" in done.stdout
