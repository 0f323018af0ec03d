"""Figures in TensorBoard and Weights & Biases, read back from what they have written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spacy_bert.pretraining import tracking
from spacy_bert.pretraining.config import PretrainConfig
from spacy_bert.pretraining.engine import pretrain
from spacy_bert.pretraining.tracking import TrackingSettings, start_trackers
from tests.pretraining.test_engine import CONFIG

FIGURES = ("loss", "learning_rate", "gradient_norm", "pieces_per_second")


@pytest.fixture
def config_file(shard_directory, wordpiece, tmp_path) -> Path:
    wordpiece.save(tmp_path / "tokenizer")
    file = tmp_path / "pretrain.cfg"
    file.write_text(CONFIG.format(shards=shard_directory, tokenizer=tmp_path / "tokenizer"))
    return file


def scalars(output: Path) -> dict[str, dict[int, float]]:
    """Figures by name and step, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    return {
        name: {event.step: event.value for event in events.Scalars(name)}
        for name in events.Tags()["scalars"]
    }


def log_of(output: Path) -> dict[int, dict[str, float]]:
    lines = (output / "log.jsonl").read_text("utf8").splitlines()
    return {line["step"]: line for line in map(json.loads, lines)}


def test_tensorboard_shows_what_the_log_says_through_a_resumed_run(config_file, tmp_path):
    pytest.importorskip("tensorboard")
    overrides = {"tracking.tensorboard": True, "training.save_every": 1}
    config = PretrainConfig.load(config_file, overrides)
    output = tmp_path / "run"

    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spacy_bert.pretraining.engine.Run._evaluate", interrupt)
        with pytest.raises(Interrupted):
            pretrain(config, output)
    pretrain(config, output, resume=True)

    found, log = scalars(output), log_of(output)
    assert set(log) == set(range(1, 7))
    for name in FIGURES:
        assert found[name] == pytest.approx({step: line[name] for step, line in log.items()})
    assert set(found["dev_mlm"]) == {3, 6}


def test_wandb_gets_the_figures_and_goes_on_with_the_same_run(config_file, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    settings = TrackingSettings(wandb_project="test")
    seen: list[tuple[int, dict[str, float]]] = []
    (tracker,) = start_trackers(settings, tmp_path, first_step=0)
    monkeypatch.setattr(wandb.run, "log", lambda figures, step: seen.append((step, figures)))
    tracker.add(2, {"loss": 1.5})
    tracker.close()
    identity = (tmp_path / "wandb_id").read_text("utf8")
    (tracker,) = start_trackers(settings, tmp_path, first_step=2)
    assert wandb.run.id == identity
    tracker.close()
    assert seen == [(2, {"loss": 1.5})]
    assert list((tmp_path / "wandb").glob("offline-run-*"))


@pytest.mark.parametrize(
    ("field", "value", "package"),
    [("tensorboard", True, "tensorboard"), ("wandb_project", "p", "wandb")],
)
def test_a_package_that_is_not_installed_is_named_first(
    config_file, monkeypatch, field, value, package
):
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"\[tracking\] {field} .* pip install {package}$"):
        PretrainConfig.load(config_file, {f"tracking.{field}": value})
