"""The logger for TensorBoard: read back from what it has written."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import spacy

from spacy_bert.pipeline.tensorboard import build_tensorboard_logger

NLP = spacy.blank("en")


def info(step: int) -> dict[str, object]:
    return {
        "epoch": 0,
        "step": step,
        "losses": {"bert_textcat": 0.5 - step / 100},
        "other_scores": {"cats_acc": 0.25 + step / 100, "cats_f_per_type": {"A": {"f": 1.0}}},
        "score": 0.25 + step / 100,
    }


def test_curves_are_what_training_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log, finish = build_tensorboard_logger(str(tmp_path / "events"))(NLP)
    for step in (0, 10):
        log(info(step))
        log(None)
    finish()
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    read = {
        name: [(event.step, round(event.value, 5)) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }
    assert read == {
        "loss/bert_textcat": [(0, 0.5), (10, 0.4)],
        "score/cats_acc": [(0, 0.25), (10, 0.35)],
        "score": [(0, 0.25), (10, 0.35)],
    }
    assert "0.35" in capsys.readouterr().out  # spaCy's own table goes on


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        build_tensorboard_logger("events")
