"""Comparing starts: what is trained, what is scored, what is done again, what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
import srsly
import torch
from spacy.util import load_config
from typer.testing import CliRunner

from spacy_bert.bert import load_encoder
from spacy_bert.cli.app import app

OPTIONS = ("--test", "docs.spacy", "--metrics", "metrics/textcat", "--seeds", "2")
SHORT = ("--training.max_steps", "3", "--training.eval_frequency", "2")


def compare(*options: str):
    return CliRunner().invoke(app, ["compare", "config.cfg", "out", *options])


def test_from_beginning_to_end(work: Path, commands: list[list[str]]) -> None:
    done = compare(*OPTIONS, *SHORT)
    assert done.exit_code == 0, done.output
    assert [command[0] for command in commands] == ["train", "bert"] * 3
    names = ["pretrained-0", "pretrained-1", "random-0"]
    assert sorted(path.stem for path in (work / "metrics" / "textcat").iterdir()) == names
    configs = [load_config(work / "out" / name / "config.cfg") for name in names]
    assert [one["training"]["seed"] for one in configs] == [0, 1, 0]
    starts = [one["components"]["bert"]["model"]["pretrained"] for one in configs]
    assert starts == [True, True, False]
    assert all(one["training"]["max_steps"] == 3 for one in configs)
    # The scores are those of the pipeline that stands there.
    nlp = spacy.load(work / "out" / "random-0" / "model-best")
    scores = nlp.evaluate(list(spacy.training.Corpus("docs.spacy")(nlp)))
    found = srsly.read_json(work / "metrics" / "textcat" / "random-0.json")
    assert found["scores"]["bert_textcat"]["cats_acc"] == pytest.approx(scores["cats_acc"])
    (line,) = (line for line in done.output.splitlines() if " accuracy " in line)
    values = [
        srsly.read_json(work / "metrics" / "textcat" / f"{name}.json")["scores"]["bert_textcat"]
        for name in names
    ]
    first, second, random = (100 * one["cats_acc"] for one in values)
    assert f"{(first + second) / 2:.2f} %" in line
    assert f"{random:.2f} %" in line
    assert "50.00 %" in line  # the larger of two classes of the same size

    # Nothing has changed; then one more seed; then another test set.
    commands.clear()
    assert compare(*OPTIONS, *SHORT).output.count("done before") == 3
    assert not commands
    assert compare(*OPTIONS, *SHORT, "--random-seeds", "2").exit_code == 0
    assert len(commands) == 2
    commands.clear()
    (work / "test.spacy").write_bytes((work / "docs.spacy").read_bytes())
    assert compare(*OPTIONS, *SHORT, "--test", "test.spacy").exit_code == 0
    assert len(commands) == 6


def test_a_start_is_of_the_checkpoint_or_fresh(work: Path, commands: list[list[str]]) -> None:
    still = ("--training.max_steps", "1", "--training.optimizer.learn_rate.initial_rate", "0")
    assert compare("--test", "docs.spacy", "--random-seeds", "2", *still).exit_code == 0
    expected = load_encoder(load_config(work / "config.cfg")["paths"]["encoder"])
    # Not random-0: the checkpoint has fresh weights of the same seed.
    for name, is_same in (("pretrained-0", True), ("random-1", False)):
        nlp = spacy.load(work / "out" / name / "model-best")
        network = nlp.get_pipe("bert").model.shims[0].network
        pieces = network.embeddings.piece.weight
        assert torch.equal(pieces, expected.embeddings.piece.weight) == is_same


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--test", "none.spacy"), "none.spacy: no such test set"),
        (("--seeds", "0", "--random-seeds", "0"), "must be 0 or more, not both 0"),
        (("--seeds", "-1"), "must be 0 or more"),
        (("--jobs", "0"), "jobs must be at least 1"),
        (("--components.bert.factory", '"tok2vec"'), 'no component of the factory "bert"'),
        (("--training.nothing.at_all", "1"), "config.cfg: "),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_done(
    work: Path, commands: list[list[str]], options: tuple[str, ...], message: str
) -> None:
    done = compare(*OPTIONS, *options)
    assert done.exit_code == 1
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not commands
    assert not (work / "out").exists()


def test_missing_configs(work: Path) -> None:
    done = CliRunner().invoke(app, ["compare", "none.cfg", "out", *OPTIONS])
    assert "none.cfg: no such config file" in done.output


def test_help_has_examples() -> None:
    text = " ".join(CliRunner().invoke(app, ["compare", "--help"]).output.split())
    assert "Example: python -m spacy bert compare configs/textcat.cfg" in text
