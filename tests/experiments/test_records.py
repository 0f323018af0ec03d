"""What is finished is not done twice, and never lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spacy_bert.experiments.records import is_done


def finish(directory: Path, result: Path, seed: int) -> None:
    assert not is_done(directory, {"seed": seed}, result)
    (directory / "model").write_text(f"weights {seed}", encoding="utf8")
    result.write_text(json.dumps(seed), encoding="utf8")


@pytest.fixture(params=["run/metrics.json", "metrics/run.json"])
def result(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    path.parent.mkdir(exist_ok=True)
    return path


def test_done_with_the_same_inputs(tmp_path: Path, result: Path) -> None:
    directory = tmp_path / "run"
    if result.parent == directory:
        directory.rmdir()
    finish(directory, result, 1)
    assert is_done(directory, {"seed": 1}, result)


def test_finished_work_of_other_inputs_is_set_aside(
    tmp_path: Path, result: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory, old = tmp_path / "run", tmp_path / "run.old"
    if result.parent == directory:
        directory.rmdir()
    for seed in (1, 2, 3):
        finish(directory, result, seed)
        if seed > 1:
            assert (old / "model").read_text(encoding="utf8") == f"weights {seed - 1}"
            assert json.loads((old / result.name).read_text(encoding="utf8")) == seed - 1
    assert caplog.text.count("made of other inputs") == 2
    assert str(old) in caplog.text


def test_unfinished_work(tmp_path: Path, result: Path) -> None:
    directory = tmp_path / "run"
    if result.parent == directory:
        directory.rmdir()
    assert not is_done(directory, {"seed": 1}, result)
    (directory / "begun").touch()
    assert not is_done(directory, {"seed": 1}, result)
    assert (directory / "begun").exists()  # to be gone on with
    assert not is_done(directory, {"seed": 2}, result)
    assert not (directory / "begun").exists()
    assert not (tmp_path / "run.old").exists()
