"""`spacy bert data choices`: what it writes and says."""

from __future__ import annotations

import json
from pathlib import Path

import spacy
from click.testing import Result
from spacy.tokens import DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "choices", *map(str, arguments)])


def question(right: str) -> str:
    choices = [{"text": text, "label": text.upper()} for text in ("a", "b", "c")]
    return json.dumps({"question": {"stem": "Q", "choices": choices}, "answerKey": right}) + "\n"


def test_says_what_each_split_holds(tmp_path: Path) -> None:
    source, output = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    (source / "train.jsonl").write_text(question("A") + question("C") + question("C"))
    (source / "test.jsonl").write_text(json.dumps({**json.loads(question("A")), "answerKey": None}))
    done = run("openbookqa", source, output, "--lang", "de")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "train: 3 Docs (0 1, 2 2)",
        f"dev: left out, {source} has no dev.jsonl",
        "test: 1 Docs (unlabelled 1)",
    ]
    docs = list(DocBin().from_disk(output / "train.spacy").get_docs(spacy.blank("de").vocab))
    assert [doc.cats for doc in docs[:2]] == [
        {"0": 1.0, "1": 0.0, "2": 0.0},
        {"0": 0.0, "1": 0.0, "2": 1.0},
    ]
    assert [segment.text for segment in docs[0]._.segments] == ["Q", "a", "b", "c"]


def test_malformed_rows_stop_it_or_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "dev.jsonl"
    file.write_text(question("A") + question("D"))
    failed = run("openbookqa", tmp_path, tmp_path / "out")
    message = f"{file}, line 2: label 'D' is none of A, B, C"
    assert failed.exit_code == 1
    assert failed.stderr == f"Error: {message}\n"
    done = run("openbookqa", tmp_path, tmp_path / "out", "--skip-bad-rows")
    assert done.exit_code == 0, done.output
    assert done.stderr == f"Skipped {message}\n"
    assert "dev: 1 Docs (0 1)\n" in done.stdout


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "train_subtaskA_data.csv").write_text("id,sent0,sent1\n")
    for arguments, message in [
        (("snli", tmp_path, tmp_path), "Error: unknown task 'snli'; known are swag, codah, "),
        (("codah", tmp_path, tmp_path), f"Error: {tmp_path} has none of the files full_data.tsv\n"),
        (
            ("comve-a", tmp_path, tmp_path),
            f"Error: {tmp_path}/train_subtaskA_answers.csv: no such file or directory",
        ),
        (("swag", tmp_path, tmp_path, "--lang", "klingon"), "Error: language 'klingon': "),
    ]:
        failed = run(*arguments)
        assert failed.exit_code == 1
        assert failed.stderr.startswith(message)
        assert len(failed.stderr.splitlines()) == 1
