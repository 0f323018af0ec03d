"""`spacy bert data pydocs`: what it writes and says."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from spacy_bert.cli.app import app

MODULE = '''"""Functions that read and write the lines of a file."""

def read(mode):
    """Read the lines of a file in the `mode` given, as write() does."""
'''


def test_pydocs(tmp_path: Path) -> None:
    library, output = tmp_path / "library", tmp_path / "corpus"
    library.mkdir()
    (library / "lines.py").write_text(MODULE)
    done = CliRunner().invoke(app, ["data", "pydocs", str(output), "--library", str(library)])
    assert done.exit_code == 0, done.output
    assert "2 documents" in done.stdout
    assert "ner train: 1 docs of 1 modules (FUNCTION 1, PARAMETER 1)" in done.stdout
    written = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    tasks, splits = ("textcat", "ner", "qa"), ("train", "dev", "test")
    docbins = {f"{task}/{split}.spacy" for task in tasks for split in splits}
    assert written == {"corpus.txt", "stats.json", *docbins}


def test_a_library_without_sources(tmp_path: Path) -> None:
    failed = CliRunner().invoke(app, ["data", "pydocs", "corpus", "--library", str(tmp_path)])
    assert failed.exit_code == 1
    assert failed.stderr.startswith(f"Error: {tmp_path}: no Python source files")
