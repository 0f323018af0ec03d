"""Comparing starts: what is trained, what is scored, what is done again, what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
import srsly
import torch
from spacy.tokens import DocBin
from spacy.util import load_config
from typer.testing import CliRunner

from spacy_bert.bert import load_encoder, save_pretrained
from spacy_bert.cli.app import app
from spacy_bert.experiments.processes import Processes
from spacy_bert.wordpiece import WordPiece

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

    # The page has the same figures.
    tables = srsly.read_json(work / "out" / "report" / "report.json")["tables"]
    assert next(r for r in tables["starts"]["rows"] if r["score"] == "accuracy")["random"] in line

    # Nothing has changed; then one more seed; then another test set, which trains nothing.
    commands.clear()
    assert compare(*OPTIONS, *SHORT).output.count("done before") == 3
    assert not commands
    assert compare(*OPTIONS, *SHORT, "--random-seeds", "2").exit_code == 0
    assert len(commands) == 2
    commands.clear()
    docs = list(DocBin().from_disk("docs.spacy").get_docs(nlp.vocab))
    DocBin(docs=docs[:8]).to_disk("test.spacy")
    assert compare(*OPTIONS, *SHORT, "--test", "test.spacy").exit_code == 0
    assert [command[:2] for command in commands] == [["bert", "evaluate"]] * 3


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


def test_several_starts(
    work: Path, checkpoint: Path, commands: list[list[str]], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    model, wordpiece = load_encoder(checkpoint), WordPiece.load(checkpoint)
    torch.nn.init.normal_(model.embeddings.piece.weight)
    save_pretrained(model, other)
    wordpiece.save(other)
    starts = ("--start", f"adapted={other}", "--start", f"before={checkpoint}")
    options = ("--test", "docs.spacy", "--random-seeds", "0", "--max-steps", "4", *starts)
    done = compare(*options)
    assert done.exit_code == 0, done.output
    for name, path in (("adapted-0", other), ("before-0", checkpoint)):
        config = load_config(work / "out" / name / "config.cfg")
        assert config["components"]["bert"]["model"]["name"] == str(path)
        schedule = config["training"]["optimizer"]["learn_rate"]
        assert config["training"]["max_steps"] == schedule["total_steps"] == 4
        assert (work / "out" / "metrics" / f"{name}.json").is_file()
    (header,) = (line for line in done.output.splitlines() if line.startswith("component"))
    assert header.split("   ")[0] == "component"
    assert header.index("adapted") < header.index("before")
    assert "random" not in header


def test_what_stands_is_replaced_by_what_is_complete(
    work: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--test", "docs.spacy", "--random-seeds", "0")
    assert compare(*options, *SHORT).exit_code == 0
    before = (work / "out" / "pretrained-0" / "model-best" / "meta.json").read_bytes()

    def fail(self: Processes, arguments: list[str], log: Path, **shown: bool) -> None:
        raise ChildProcessError("the GPU is gone")

    with monkeypatch.context() as patched:
        patched.setattr(Processes, "run", fail)
        done = compare(*options, *SHORT, "--training.dropout", "0.3")
    assert (done.exit_code, done.output.splitlines()[-1]) == (1, "Error: the GPU is gone")
    assert (work / "out" / "pretrained-0" / "model-best" / "meta.json").read_bytes() == before
    assert not list((work / "out").glob(".pretrained*"))
    # It is still what it was, and need not be made again.
    commands.clear()
    assert "done before" in compare(*options, *SHORT).output
    assert not commands


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--test", "none.spacy"), "none.spacy: no such file"),
        (("--seeds", "0", "--random-seeds", "0"), "must be 0 or more, not both 0"),
        (("--seeds", "-1"), "must be 0 or more"),
        (("--jobs", "0"), "jobs must be at least 1"),
        (("--components.bert.factory", '"tok2vec"'), 'no component of the factory "bert"'),
        (("--training.nothing.at_all", "1"), "config.cfg: "),
        (("--training.max_step", "1"), "did you mean --training.max_steps?"),
        (("--paths.encodr", "x"), "did you mean --paths.encoder?"),
        (("--paths.encoder", "./none"), "[components.bert.model] name: ./none: no such directory"),
        (("--paths.dev", "none.spacy"), "[paths] dev: there is no none.spacy"),
        (("--max-steps", "0"), "--max-steps must be at least 1"),
        (("--start", "adapted"), "--start adapted: write NAME=DIR"),
        (("--start", "random=x"), "--start random: take a name"),
        (("--metrics", "docs.spacy"), "docs.spacy: is a file; name a directory"),
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


def test_a_test_set_of_another_task(work: Path, commands: list[list[str]]) -> None:
    doc = spacy.blank("en").make_doc("the river")
    DocBin(docs=[doc]).to_disk("other.spacy")
    done = compare("--test", "other.spacy")
    assert "other.spacy: no Doc has classes or values (doc.cats), which the" in done.output
    Path("other.spacy").write_bytes(b"PK")
    assert "other.spacy: not a .spacy file" in compare("--test", "other.spacy").output
    assert not commands


def test_missing_configs(work: Path) -> None:
    done = CliRunner().invoke(app, ["compare", "none.cfg", "out", *OPTIONS])
    assert "none.cfg: no such config file" in done.output


def test_help_has_examples() -> None:
    text = " ".join(CliRunner().invoke(app, ["compare", "--help"]).output.split())
    assert "Example: python -m spacy bert compare configs/textcat.cfg" in text
