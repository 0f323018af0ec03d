"""Grid searches: the points, the steps of each, what is done again, what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import spacy
import srsly
from spacy.tokens import DocBin
from spacy.util import load_config
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.experiments.grid import Grid, Point, Setting
from tests.experiments.conftest import DOCS


def grid(*options: str):
    return CliRunner().invoke(app, ["grid", "config.cfg", "out", *options])


def test_the_grid_of_the_paper(work: Path) -> None:
    setting = Setting(config=work / "config.cfg", overrides={}, output=work / "out")
    assert len(setting.points) == 12
    assert setting.points[0] == Point(16, 5e-5, 3, 0)
    assert setting.points[-1].name == "b32-lr2e-05-e4-s0"


def test_from_beginning_to_end(work: Path, commands: list[list[str]]) -> None:
    options = ("--batch-size", "4", "--batch-size", "8", "--learning-rate", "1e-3", "--epochs", "2")
    done = grid(*options)
    assert done.exit_code == 0, done.output
    assert len(commands) == 2
    for name, steps in (("b4-lr0.001-e2-s0", 6), ("b8-lr0.001-e2-s0", 4)):
        training = load_config(work / "out" / "runs" / name / "config.cfg")["training"]
        schedule = training["optimizer"]["learn_rate"]
        assert (schedule["initial_rate"], schedule["total_steps"]) == (1e-3, steps)
        assert training["batcher"]["size"] == int(name[1])
        scores = srsly.read_json(work / "out" / "scores" / f"{name}.json")
        assert scores["steps"] == steps
        # The pipeline that stands is the one that was scored, as spaCy would score it again.
        nlp = spacy.load(work / "out" / "runs" / name / "model-last")
        examples = list(spacy.training.Corpus("docs.spacy")(nlp))
        assert nlp.evaluate(examples)["cats_score"] == pytest.approx(scores["score"])
        assert not (work / "out" / "runs" / name / "model-best").exists()
    assert "b8-lr0.001-e2-s0: score" in done.output
    rows = json.loads((work / "out" / "report" / "report.json").read_text())["tables"]["grid"]
    assert [row["score"] for row in rows["rows"]] == sorted(
        (row["score"] for row in rows["rows"]), reverse=True
    )
    assert (work / "out" / "report" / "grid.png").is_file()

    # Nothing has changed, then one point is missing, then a file has other content.
    commands.clear()
    again = grid(*options)
    assert again.output.count("done before") == 2
    assert not commands
    assert grid(*options, "--epochs", "1").exit_code == 0
    assert len(commands) == 2
    commands.clear()
    nlp = spacy.blank("en")
    docs = list(DocBin().from_disk(work / "docs.spacy").get_docs(nlp.vocab))
    DocBin(docs=docs[:8]).to_disk(work / "docs.spacy")
    assert grid(*options).exit_code == 0
    assert len(commands) == 2


def test_seeds_are_averaged_and_the_best_is_kept(work: Path, commands: list[list[str]]) -> None:
    options = ("--learning-rate", "1e-3", "--epochs", "1", "--batch-size", "8", "--seeds", "3")
    done = grid(*options, "--keep-best", "--training.dropout", "0.2")
    assert done.exit_code == 0, done.output
    scores = [
        srsly.read_json(work / "out" / "scores" / f"b8-lr0.001-e1-s{seed}.json")["score"]
        for seed in range(3)
    ]
    (row,) = json.loads((work / "out" / "report" / "report.json").read_text())["tables"]["grid"][
        "rows"
    ]
    assert row["score"] == pytest.approx(sum(scores) / 3)
    models = sorted(path.parent.name for path in (work / "out").glob("runs/*/model-last"))
    assert models == [f"b8-lr0.001-e1-s{scores.index(max(scores))}"]
    assert f"Best: out/runs/{models[0]}/model-last" in done.output
    assert "removed the models of the 2 other points" in done.output
    config = load_config(work / "out" / "runs" / models[0] / "config.cfg")
    assert config["training"]["dropout"] == 0.2
    # Removed models are not missed.
    commands.clear()
    assert grid(*options, "--training.dropout", "0.2").exit_code == 0
    assert not commands


def test_a_plain_learning_rate_and_batches_of_pieces(work: Path) -> None:
    config = load_config(work / "config.cfg", interpolate=False)
    config["training"]["optimizer"]["learn_rate"] = 1e-3
    config["training"]["batcher"] = {
        "@batchers": "spacy_bert.batch_by_pieces.v1", "size": 7, "tokenizer": "${paths.encoder}",
        "max_docs": None, "discard_oversize": False,
    }  # fmt: skip
    config.to_disk(work / "config.cfg", interpolate=False)
    setting = Setting(
        config=work / "config.cfg", overrides={}, output=work / "out", batch_sizes=(1, 10_000)
    )
    search = Grid(setting, print)
    few, many = (search._point_config(Point(size, 2e-5, 3, 1)) for size in (10_000, 1))
    assert few["training"]["max_steps"] == 3 - 1
    assert many["training"]["max_steps"] == 3 * DOCS - 1
    assert many["training"]["optimizer"]["learn_rate"] == 2e-5
    assert many["training"]["seed"] == 1
    # Without sizes, the grid is of Docs: the pieces of a batch stay a bound.
    config["training"]["batcher"] |= {"size": 10_000, "max_docs": 4}
    config.to_disk(work / "config.cfg", interpolate=False)
    said: list[str] = []
    setting = Setting(config=work / "config.cfg", overrides={}, output=work / "out")
    search = Grid(setting, said.append)
    batcher = search._point_config(Point(16, 2e-5, 3, 0))["training"]["batcher"]
    assert (batcher["size"], batcher["max_docs"]) == (10_000, 16)
    assert bool(said) == (DOCS <= 16)
    config["training"]["batcher"]["size"] = 7
    config.to_disk(work / "config.cfg", interpolate=False)
    Grid(setting, said.append)
    assert "batches of 16, 32 Docs are the same ones in part" in said[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds", "0"), "seeds must be at least 1"),
        (("--jobs", "0"), "jobs must be at least 1"),
        (("--batch-size", "0"), "batch sizes: all must be above 0"),
        (("--learning-rate", "-1"), "learning rates: all must be above 0"),
        (("--paths.train", "none.spacy"), "[corpora.train] path: none.spacy does not exist"),
        (("--paths.dev", "null"), "[corpora.dev] path is empty: give --paths.dev FILE"),
        (
            ("--training.batcher.@batchers", "spacy.batch_by_words.v1"),
            "[training.batcher] spacy.batch_by_words.v1 does not count Docs: give sizes",
        ),
        (("--training.batcher.size", "null"), "[training.batcher] size must be a number"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_done(
    work: Path, commands: list[list[str]], options: tuple[str, ...], message: str
) -> None:
    done = grid(*options)
    assert done.exit_code == 1
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not commands
    assert not (work / "out").exists()


def test_other_schedules_and_missing_configs(work: Path) -> None:
    config = load_config(work / "config.cfg", interpolate=False)
    config["training"]["optimizer"]["learn_rate"] = {"@schedules": "constant.v1", "rate": 1e-3}
    config.to_disk(work / "config.cfg", interpolate=False)
    done = grid()
    assert "must be warmup_linear.v1 or a number" in done.output
    done = CliRunner().invoke(app, ["grid", "none.cfg", "out"])
    assert "none.cfg: no such config file" in done.output


def test_help_has_examples() -> None:
    text = " ".join(CliRunner().invoke(app, ["grid", "--help"]).output.split())
    assert "Example: python -m spacy bert grid configs/textcat.cfg" in text
