"""`spacy bert data glue`: what it writes and says."""

from __future__ import annotations

from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

from spacy_bert.cli.app import app

HEADER = "index\tsentence1\tsentence2\tlabel\n"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "glue", *map(str, arguments)])


def test_says_what_each_split_holds(tmp_path: Path) -> None:
    source, output = tmp_path / "RTE", tmp_path / "rte"
    source.mkdir()
    rows = [f"{i}\tA.\tB.\t{'not_' * (i % 3 > 0)}entailment\n" for i in range(6)]
    (source / "train.tsv").write_text(HEADER + "".join(rows))
    (source / "test.tsv").write_text("index\tsentence1\tsentence2\n0\tA.\tB.\n")
    done = run("rte", source, output, "--lang", "de")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "train: 6 Docs (entailment 2, not_entailment 4)",
        f"dev: left out, {source} has no dev.tsv",
        "test: 1 Docs (unlabelled 1)",
    ]
    assert {path.name for path in output.iterdir()} == {"train.spacy", "test.spacy"}


def test_malformed_rows_stop_it_or_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(HEADER + "0\tA.\tB.\tentailment\n1\tA.\tB.\tmaybe\n")
    failed = run("rte", tmp_path, tmp_path / "out")
    message = f"{file}, line 3: label 'maybe' is none of entailment, not_entailment"
    assert failed.exit_code == 1
    assert failed.stderr == f"Error: {message}\n"
    done = run("rte", tmp_path, tmp_path / "out", "--skip-bad-rows")
    assert done.exit_code == 0, done.output
    assert done.stderr == f"Skipped {message}\n"
    assert done.stdout.startswith("train: 1 Docs (entailment 1)\n")


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    for arguments, message in [
        (("snli", tmp_path, tmp_path), "Error: unknown task 'snli'; known are cola, sst2, "),
        (("mnli", tmp_path, tmp_path), f"Error: {tmp_path} has none of the files train.tsv, dev_m"),
        (("rte", tmp_path, tmp_path, "--lang", "klingon"), "Error: language 'klingon': "),
    ]:
        failed = run(*arguments)
        assert failed.exit_code == 1
        assert failed.stderr.startswith(message)
        assert len(failed.stderr.splitlines()) == 1
