"""The command `prune`."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.models.encoder import encoder_shim
from tests.analysis.tasks import task


@pytest.fixture
def saved(checkpoint: Path, tmp_path: Path) -> tuple[Path, Path]:
    one = task("exclusive", checkpoint)
    one.nlp.to_disk(tmp_path / "model")
    DocBin(docs=[example.reference for example in one.examples]).to_disk(tmp_path / "dev.spacy")
    return tmp_path / "model", tmp_path / "dev.spacy"


def prune(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["prune", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_writes_a_smaller_pipeline(saved: tuple[Path, Path], tmp_path: Path) -> None:
    code, said = prune(*saved, tmp_path / "out", "--keep", 0.5)
    assert code == 0, said
    lines = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.split()}
    assert lines["heads"] == ["4", "2"]
    before, after = (int(cell.replace(",", "")) for cell in lines["parameters"])
    assert before - after == 2 * 64 * (3 * 128 + 3 + 128)
    assert all(float(cell.replace(",", "")) > 0 for cell in lines["Docs"][2:])
    nlp = spacy.load(tmp_path / "out")
    network = encoder_shim(nlp.get_pipe("bert").model).network
    assert sum(p.numel() for p in network.parameters()) == after
    assert sum(map(len, network.config.pruned_heads.values())) == 2
    assert nlp("A dog.").cats


def test_overwrites_only_when_told(saved: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prune(*saved, out, "--keep", 1)[0] == 0
    code, said = prune(*saved, out, "--keep", 0.5)
    assert code == 1
    assert "is not empty; name another, or give --overwrite" in said
    assert prune(*saved, out, "--threshold", 0, "--dev", saved[1], "--overwrite")[0] == 0
    assert len(encoder_shim(spacy.load(out).get_pipe("bert").model).network.config.pruned_heads)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either keep or threshold must be given"),
        (["--keep", "50"], "keep must be in [0, 1], got 50"),
        (["--keep", "0.5", "--component", "ner"], "no component 'ner'"),
        (["--keep", "0.5", "--metric", "f1"], "has no score 'f1'"),
    ],
)
def test_errors_are_one_line(
    saved: tuple[Path, Path], tmp_path: Path, options: list[str], message: str
) -> None:
    code, said = prune(*saved, tmp_path / "out", *options)
    assert code == 1
    assert message in said
    assert len([line for line in said.splitlines() if line.startswith("Error")]) == 1
    assert not (tmp_path / "out").exists()
