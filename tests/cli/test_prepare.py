"""`train-tokenizer` and `prepare`: what they refuse to overwrite, and how they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from tests.pretraining.conftest import make_documents, write_corpus


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_refused(done, *parts: str) -> None:
    assert done.exit_code == 1
    assert len(done.output.strip().splitlines()) == 1
    for part in parts:
        assert part in done.output


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("text") / "corpus.txt", make_documents(200))


@pytest.fixture(scope="module")
def tokenizer(corpus) -> Path:
    assert run("train-tokenizer", corpus, corpus.parent / "tok", "--vocab-size", 150).exit_code == 0
    return corpus.parent / "tok"


def test_a_tokenizer_is_replaced_only_if_told(corpus, tmp_path):
    command = ["train-tokenizer", corpus, tmp_path, "--vocab-size"]
    assert run(*command, 150).exit_code == 0
    before = (tmp_path / "vocab.txt").read_bytes()
    assert_refused(run(*command, 100), f"{tmp_path}: a tokenizer is there already", "--overwrite")
    assert (tmp_path / "vocab.txt").read_bytes() == before
    assert run(*command, 100, "--overwrite").exit_code == 0
    assert len((tmp_path / "vocab.txt").read_text().splitlines()) == 100


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_the_vocabulary_of_a_model_is_never_replaced(corpus, tmp_path, name):
    (tmp_path / name).write_text("{}")
    done = run("train-tokenizer", corpus, tmp_path, "--overwrite")
    assert_refused(done, f"holds a model ({name})", "name another directory")
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_an_output_that_is_a_file_is_named(corpus, tokenizer):
    message = f"Error: {corpus}: is a file; name a directory"
    assert_refused(run("train-tokenizer", corpus, corpus), message)
    assert_refused(run("prepare", corpus, corpus, "--tokenizer", tokenizer), message)


def test_what_is_prepared_already_is_told(corpus, tokenizer, tmp_path):
    command = ["prepare", corpus, tmp_path, "--tokenizer", tokenizer, "--dev-share"]
    first = run(*command, 0.3)
    assert first.exit_code == 0
    again = run(*command, 0.3)
    assert again.exit_code == 0
    assert "already done" in again.output
    assert again.output.endswith(first.output)
    assert_refused(run(*command, 0.4), "shards of other inputs", "--dev-share", "--overwrite")
    assert run(*command, 0.4, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--splitter", "sentenciser"], "--splitter sentenciser: no such pipeline; use lines, sen"),
        (["--splitter", "sentencizer", "--lang", "zz"], "--lang zz: spaCy cannot load this lang"),
        (["--min-characters", "9999"], "no document has --min-characters 9999 characters"),
        (["--dev-share", "1e-9"], "or another --dev-share"),
        (["--workers", "-1"], "--workers must not be negative"),
    ],
)
def test_a_mistake_names_the_option_and_leaves_nothing(
    corpus, tokenizer, tmp_path, options, message
):
    output = tmp_path / "shards"
    done = run("prepare", corpus, output, "--tokenizer", tokenizer, *options)
    assert_refused(done, message)
    assert not list(output.glob("*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_workers_too(tokenizer, tmp_path, number):
    text = "The cat sees the dog at night. The dog likes the cat.\n\n" * 100_000
    (tmp_path / "long.txt").write_text(text)
    output = tmp_path / "shards"
    options = ["--tokenizer", tokenizer, "--splitter", "sentencizer", "--workers", "2"]
    command = ["spacy_bert", "prepare", tmp_path / "long.txt", output, *options]
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while not (output / "partial" / "journal.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    begun = time.monotonic()
    # Ctrl-C goes to all processes of a terminal, SIGTERM to the one that is named.
    os.kill(-process.pid if number == signal.SIGINT else process.pid, number)
    said, _ = process.communicate(timeout=60)  # ends when no worker holds the pipe any more
    assert time.monotonic() - begun < 10
    assert said == "stopped; the same command goes on from there\n"
    assert process.returncode == 128 + number
