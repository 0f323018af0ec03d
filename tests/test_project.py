"""The spaCy project: its steps fit together, and a second run has something to skip by."""

from __future__ import annotations

from pathlib import Path

import pytest
import srsly
from spacy.cli.init_config import fill_config
from weasel.schemas import ProjectConfigSchema, validate
from weasel.util import load_project_config

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path) -> dict:
    # A copy, because reading a project makes its directories.
    (tmp_path / "project.yml").write_text((ROOT / "project.yml").read_text(encoding="utf-8"))
    return load_project_config(tmp_path)


def test_schema() -> None:
    assert validate(ProjectConfigSchema, srsly.read_yaml(ROOT / "project.yml")) == []


def test_every_dependency_is_there_or_made_before(project: dict) -> None:
    commands = {command["name"]: command for command in project["commands"]}
    for workflow in project["workflows"].values():
        made: set[Path] = set()
        for name in workflow:
            for path in map(Path, commands[name].get("deps", [])):
                kept = (ROOT / path).is_file() and path.parts[0] == "configs"
                assert kept or any(path == output or path in output.parents for output in made)
            made.update(map(Path, commands[name]["outputs"]))


def test_every_step_can_be_skipped_and_is_explained(project: dict) -> None:
    used = {name for workflow in project["workflows"].values() for name in workflow}
    assert used == {command["name"] for command in project["commands"]}
    for command in project["commands"]:
        assert command["outputs"]
        assert command["help"]
        assert all(line.startswith("python -m spacy ") for line in command["script"])


def test_every_trained_pipeline_is_evaluated(project: dict) -> None:
    commands = {command["name"]: command for command in project["commands"]}
    trained = commands["train-textcat"]["outputs"]
    evaluated = commands["evaluate-textcat"]
    assert set(trained) < set(evaluated["deps"])
    for line, model, output in zip(evaluated["script"], trained, evaluated["outputs"], strict=True):
        assert f"evaluate {model} " in line
        assert f"--output {output} " in line
        assert Path(output).stem == Path(model).parent.name


def test_the_gpu_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "project.yml").write_text((ROOT / "project.yml").read_text(encoding="utf-8"))
    project = load_project_config(tmp_path, overrides={"vars.gpu_id": 0})
    lines = [line for command in project["commands"] for line in command["script"]]
    assert sum("--gpu-id 0" in line for line in lines) == 12


def test_configs_are_complete(tmp_path: Path) -> None:
    path = ROOT / "configs" / "textcat.cfg"
    before, after = fill_config(tmp_path / "filled.cfg", path, silent=True)
    assert before.to_str() == after.to_str()
    assert before["nlp"]["pipeline"] == ["bert", "bert_textcat"]
