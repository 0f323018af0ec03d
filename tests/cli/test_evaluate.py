"""`spacy bert evaluate` beside `spacy evaluate`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import spacy
import srsly
from click.testing import Result
from spacy.tokens import Doc
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from tests.pipeline.lifecycle import command
from tests.pipeline.scored import scored_docs, scored_pipeline, write_docs


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a pipeline, `model`, and `dev.spacy`."""
    path = tmp_path_factory.mktemp("evaluate")
    nlp = scored_pipeline(checkpoint)
    nlp.to_disk(path / "model")
    write_docs(path / "dev.spacy", scored_docs(nlp))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_prints_and_writes_every_score(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "scores.json"
    done = run(folder / "model", folder / "dev.spacy", "--output", output, "--batch-size", "4")
    assert done.exit_code == 0, done.output
    written = srsly.read_json(output)
    lines = [re.split("  +", line) for line in done.stdout.splitlines()]
    shown = {line[0]: line[1:] for line in lines if len(line) > 1}
    textcat, answers = written["scores"]["bert_textcat"], written["scores"]["bert_span_qa"]
    assert shown["accuracy"] == [f"{100 * textcat['cats_acc']:.2f} %", "83.33 % (always OPEN)"]
    assert shown["Matthews' correlation"][0] == f"{textcat['cats_mcc']:.4f}"
    exact = [f"{100 * answers['answers_em']:.2f} %", "16.67 % (never an answer)"]
    assert shown["exact match"] == exact
    assert shown["entities, F1"][0].endswith("%")
    assert {"OPEN", "CLOSED", "PLACE"} <= shown.keys()
    assert f"6 Docs, {written['words']:,} words" in done.stdout
    assert re.search(r"Speed on the CPU: [\d.,]+ docs/s, [\d,]+ words/s", done.stdout)
    assert "None" not in done.stdout
    assert "–" not in done.stdout


def test_tasks_without_gold_have_no_figures(folder: Path, tmp_path: Path) -> None:
    vocab = spacy.blank("en").vocab
    doc = Doc(vocab, words=["Who", "?", "\x1e", "Nobody", "."])
    doc.cats = {"OPEN": 1.0, "CLOSED": 0.0}
    data = write_docs(tmp_path / "cats.spacy", [doc])
    done = run(folder / "model", data)
    assert done.exit_code == 0, done.output
    assert f"bert_ner: not scored, no gold entities (doc.ents) in {data}" in done.stdout
    assert f"bert_span_qa: not scored, no gold answers (doc.spans) in {data}" in done.stdout
    assert "entities, F1" not in done.stdout
    assert "exact match" not in done.stdout


def test_spacy_evaluate_writes_our_scores_too(folder: Path, tmp_path: Path) -> None:
    """As the README says: in one object, or, with --per-component, by component."""
    model, data = folder / "model", folder / "dev.spacy"
    command("evaluate", model, data, "--output", tmp_path / "flat.json")
    command("evaluate", model, data, "--output", tmp_path / "parts.json", "--per-component")
    assert run(model, data, "--output", tmp_path / "ours.json").exit_code == 0
    ours = srsly.read_json(tmp_path / "ours.json")["scores"]
    flat, parts = (srsly.read_json(tmp_path / f"{name}.json") for name in ("flat", "parts"))
    for name in ("bert_textcat", "bert_ner", "bert_span_qa"):
        assert parts[name] == ours[name]
        assert {key: flat[key] for key in ours[name]} == ours[name]
    assert {"cats_mcc", "answers_em", "ents_f"} <= flat.keys()


def test_mistakes_are_one_line(folder: Path, tmp_path: Path) -> None:
    model, data = folder / "model", folder / "dev.spacy"
    for arguments, message in [
        ((tmp_path / "none", data), "Error: [E050] Can't find model"),
        ((model, tmp_path / "none.spacy"), f"Error: {tmp_path}/none.spacy: no such file"),
        ((model, write_docs(tmp_path / "x.spacy", [])), f"Error: {tmp_path}/x.spacy: holds no D"),
    ]:
        failed = run(*arguments)
        assert failed.exit_code == 1
        (line,) = [line for line in failed.stderr.splitlines() if line.startswith("Error")]
        assert line.startswith(message)
