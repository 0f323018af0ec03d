"""Finding checkpoints: directories first, then the hub, with one clear error if neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spacy_bert.models import hub


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    assert hub.find_checkpoint(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_id_is_downloaded_pickles_only_if_there_is_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    asked: list[list[str]] = []

    def download(name: str, *, allow_patterns: list[str]) -> str:
        assert name == "someone/some-bert"
        asked.append(allow_patterns)
        if weights in allow_patterns:
            (tmp_path / weights).touch()
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert hub.find_checkpoint("someone/some-bert") == tmp_path
    assert (tmp_path / weights).exists()
    assert len(asked) == (1 if weights == "model.safetensors" else 2)


def test_what_is_nowhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise OSError("no network\nand a long story")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(ValueError, match=r"^someone/no-bert: no such directory.*\(no network\)$"):
        hub.find_checkpoint("someone/no-bert")


def test_what_looks_like_a_path_is_not_looked_for_in_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()

    def download(*_: Any, **__: Any) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(hub, "snapshot_download", download)
    for name, message in {
        "/no": "no such directory",
        "./bert": "no such directory",
        "../bert": "no such directory",
        "models/bert/base": "no such directory",
        "~/bert": "no such directory .~ is not expanded: write the path in full.",
        "bert/": "no such directory, and not like a hub id",
        "file": "is a file; expected a checkpoint directory or a hub id",
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: {message}$"):
            hub.find_checkpoint(name)
