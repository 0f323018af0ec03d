"""The spaCy project: its steps fit together, and a second run has something to skip by."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import srsly
from spacy.cli.init_config import fill_config
from weasel.schemas import ProjectConfigSchema, validate
from weasel.util import load_project_config

from spacy_bert.cli.ablate import ablate
from spacy_bert.cli.compare import compare
from spacy_bert.cli.reproduce import reproduce
from spacy_bert.experiments.catalog import EXPERIMENTS, GROUPS
from spacy_bert.experiments.studies import STUDIES
from spacy_bert.experiments.summary import TASKS

ROOT = Path(__file__).parents[1]
COMPONENTS = {"textcat": "bert_textcat", "ner": "bert_ner", "qa": "bert_span_qa"}


@pytest.fixture
def project(tmp_path: Path) -> dict:
    # A copy, because reading a project makes its directories.
    (tmp_path / "project.yml").write_text((ROOT / "project.yml").read_text(encoding="utf-8"))
    return load_project_config(tmp_path)


def test_schema() -> None:
    assert validate(ProjectConfigSchema, srsly.read_yaml(ROOT / "project.yml")) == []


def test_every_dependency_is_there_or_made_before(project: dict) -> None:
    commands = {command["name"]: command for command in project["commands"]}
    assets = [Path(asset["dest"]) for asset in project["assets"]]
    for workflow in project["workflows"].values():
        made: set[Path] = set()
        for name in workflow:
            for path in map(Path, commands[name].get("deps", [])):
                kept = (ROOT / path).exists() and path.parts[0] in ("assets", "configs")
                kept |= any(path in downloaded.parents for downloaded in assets)
                assert kept or any(path == output or path in output.parents for output in made)
            made.update(map(Path, commands[name]["outputs"]))


def test_every_step_can_be_skipped_and_is_explained(project: dict) -> None:
    used = {name for workflow in project["workflows"].values() for name in workflow}
    assert used == {command["name"] for command in project["commands"]}
    for command in project["commands"]:
        assert command["outputs"]
        assert command["help"]
        assert all(line.startswith("python -m spacy ") for line in command["script"])


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_trained_from_both_starts_and_reported(project: dict, task: str) -> None:
    commands = {command["name"]: command for command in project["commands"]}
    command = commands[f"train-{task}"]
    (line,) = command["script"]
    words = line.split()
    assert words[:6] == f"python -m spacy bert compare configs/{task}.cfg".split()
    options = dict(re.findall(r"--([a-z.-]+) (\S+)", line))
    known = {name.replace("_", "-") for name in inspect.signature(compare).parameters}
    assert {name for name in options if "." not in name} <= known
    names = [f"pretrained-{seed}" for seed in range(int(options["seeds"]))]
    names += [f"random-{seed}" for seed in range(int(options["random-seeds"]))]
    assert command["outputs"] == [
        *(f"{words[6]}/{name}/model-best" for name in names),
        *(f"{options['metrics']}/{name}.json" for name in names),
    ]
    assert {f"configs/{task}.cfg", options["test"]} < set(command["deps"])
    assert options["metrics"] in commands["report"]["deps"]
    assert commands[f"baselines-{task}"]["outputs"] == [f"{options['metrics']}/baselines.json"]
    assert {f"train-{task}", f"baselines-{task}"} < set(project["workflows"]["all"])


def test_the_gpu_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "project.yml").write_text((ROOT / "project.yml").read_text(encoding="utf-8"))
    project = load_project_config(tmp_path, overrides={"vars.gpu_id": 0, "vars.jobs": 1})
    lines = [line for command in project["commands"] for line in command["script"]]
    training = [line for line in lines if re.search(r"bert (compare|ablate|reproduce) ", line)]
    assert len(training) == len(TASKS) + len(STUDIES) + len(GROUPS)
    assert all("--jobs 1 --gpu-id 0" in line for line in training)


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_has_a_workflow(project: dict, study: str) -> None:
    commands = {command["name"]: command for command in project["commands"]}
    others = {"tasks": "ablations", "features": "ablate-features"}
    workflow = project["workflows"][others.get(study, study)]
    assert workflow[:-1] == ["corpus", "ablation-tokenizer", "ablation-shards"]
    command = commands[workflow[-1]]
    (line,) = command["script"]
    _, options = line.split(f"python -m spacy bert ablate {study} ablations/{study} ")
    assert f"ablations/{study}/report" in command["outputs"]
    named = dict(re.findall(r"--([a-z.-]+) (\S+)", options))
    for name in ("config", "textcat", "ner"):
        assert named[name] in command["deps"]
    assert {named["paths.shards"], named["paths.tokenizer"]} < set(command["deps"])
    # The command takes the very options.
    known = inspect.signature(ablate).parameters
    assert {name.replace("-", "_") for name in named if "." not in name} <= known.keys()


def test_studies_can_be_run_at_real_scale(tmp_path: Path) -> None:
    (tmp_path / "project.yml").write_text((ROOT / "project.yml").read_text(encoding="utf-8"))
    chosen = {
        "ablation_config": "base.cfg",
        "ablation_textcat": "mnli.cfg",
        "ablation_ner": "conll.cfg",
        "ablation_steps": 1000000,
        "ablation_seeds": 5,
        "jobs": 1,
        "gpu_id": 0,
    }
    overrides = {f"vars.{name}": value for name, value in chosen.items()}
    project = load_project_config(tmp_path, overrides=overrides)
    lines = [line for command in project["commands"] for line in command["script"]]
    lines = [line for line in lines if " ablate " in line]
    assert len(lines) == len(STUDIES)
    shown = (
        "--config base.cfg --textcat mnli.cfg --ner conll.cfg --data corpus --steps 1000000 "
        "--seeds 5 --jobs 1 --gpu-id 0 "
    )
    assert all(shown in line for line in lines)


def test_the_config_of_features_is_complete(tmp_path: Path) -> None:
    path = ROOT / "configs" / "features.cfg"
    before, after = fill_config(tmp_path / "filled.cfg", path, silent=True)
    assert before.to_str() == after.to_str()


@pytest.mark.parametrize("task", TASKS)
def test_configs_are_complete(tmp_path: Path, task: str) -> None:
    path = ROOT / "configs" / f"{task}.cfg"
    before, after = fill_config(tmp_path / "filled.cfg", path, silent=True)
    assert before.to_str() == after.to_str()
    assert before["nlp"]["pipeline"] == ["bert", COMPONENTS[task]]


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_of_experiments_has_a_workflow(project: dict, group: str) -> None:
    commands = {command["name"]: command for command in project["commands"]}
    (name,) = project["workflows"][group]
    (line,) = commands[name]["script"]
    words = line.split()
    assert words[:7] == f"python -m spacy bert reproduce {group} results/{group}".split()
    options = {word for word in words if word.startswith("--")}
    assert options <= {
        f"--{name.replace('_', '-')}" for name in inspect.signature(reproduce).parameters
    }
    folders = {EXPERIMENTS[name].folder for name in GROUPS[group]}
    downloads = [str(Path(asset["dest"]).with_suffix("")) for asset in project["assets"]]
    for folder in folders:
        assert any(download.startswith(f"data/{folder}") for download in downloads), folder


def test_downloads_have_checksums(project: dict) -> None:
    without = [asset["dest"] for asset in project["assets"] if not asset.get("checksum")]
    # Of SWAG none is published; git keeps these files as they are.
    assert all(name.startswith("data/swag/") for name in without)
    assert all(asset["url"].startswith("https://") for asset in project["assets"])
