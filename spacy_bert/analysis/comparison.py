"""Is pre-training worth it? One config, trained from pre-trained and from random weights.

Layout of the two output directories::

    <output>/<start>-<seed>/         config.cfg, inputs.json and what `spacy train` leaves
    <output>/logs/                   output of the commands, if several run at a time
    <metrics>/<start>-<seed>.json    written by `spacy bert evaluate`

What is done and whose inputs have not changed is not done again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import srsly
from thinc.api import Config

from spacy_bert.analysis.processes import Processes
from spacy_bert.analysis.records import digest, is_done
from spacy_bert.analysis.score_names import format_score, name_score
from spacy_bert.analysis.train_config import read_train_config

STARTS = ("pretrained", "random")

Row = dict[str, Any]


class Run(NamedTuple):
    """One training."""

    start: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its directory and of the file of its scores."""
        return f"{self.start}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is compared.

    Attributes:
        config: A config for `spacy train` with a component of the factory "bert".
        overrides: Its fields by dotted name, for all runs.
        test: The set that all are scored on, `.spacy`.
        output: Directory for the pipelines.
        metrics: Directory for the scores.
        seeds: How many times the config is trained from the pre-trained weights.
        random_seeds: How many times from random ones.
        jobs: Commands at a time.
        gpu_id: -1 for the CPU.
    """

    config: Path
    overrides: Mapping[str, Any]
    test: Path
    output: Path
    metrics: Path
    seeds: int = 1
    random_seeds: int = 1
    jobs: int = 1
    gpu_id: int = -1

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            FileNotFoundError: If there is no test set.
            ValueError: Names the option.
        """
        if min(self.seeds, self.random_seeds) < 0 or not self.seeds + self.random_seeds:
            given = f"{self.seeds} and {self.random_seeds}"
            raise ValueError(f"seeds and random seeds must be 0 or more, not both 0, got {given}")
        if not self.test.exists():
            raise FileNotFoundError(f"{self.test}: no such test set")

    @property
    def runs(self) -> list[Run]:
        """All trainings, in order."""
        counts = zip(STARTS, (self.seeds, self.random_seeds), strict=True)
        return [Run(start, seed) for start, count in counts for seed in range(count)]


class Comparison:
    """The trainings of a setting.

    Args:
        setting: What is compared.
        say: Takes lines on the progress.

    Raises:
        ValueError: If the config cannot be trained from two starts: nothing was begun then.
    """

    def __init__(self, setting: Setting, say: Callable[[str], None]) -> None:
        self.setting, self._say = setting, say
        self.config = _read_config(setting.config, setting.overrides)
        self.processes = Processes(setting.jobs)

    def run(self) -> None:
        """Train and score what is not yet done.

        Raises:
            ChildProcessError: If a command fails.
            ValueError: If the output directory holds something else.
        """
        with self.processes as processes:
            processes.map([partial(self._train, run) for run in self.setting.runs])

    def table(self) -> list[Row]:
        """A row for each score: the mean over the seeds of each start, and the cheap baseline."""
        found = {run: srsly.read_json(self._metrics_file(run)) for run in self.setting.runs}
        first = found[self.setting.runs[0]]
        rows: list[Row] = []
        for component, scores in first["scores"].items():
            if component == "tokenizer":
                continue
            for key, value in scores.items():
                if not isinstance(value, int | float):
                    continue
                row: Row = {"component": component, "score": name_score(key, scores)}
                for start in STARTS:
                    row |= _start_cells(found, start, component, key)
                baseline = first["baselines"].get(component, {}).get(key)
                row["without reading"] = baseline and format_score(key, baseline["value"], scores)
                rows.append(row)
        return rows

    def _train(self, run: Run) -> None:
        setting, directory = self.setting, self.setting.output / run.name
        config, metrics = self._run_config(run), self._metrics_file(run)
        paths = [Path(str(value)) for value in config.get("paths", {}).values() if value]
        inputs = {
            "config": config.to_str(),
            "files": {str(path): digest(path) for path in (*paths, setting.test) if path.exists()},
        }
        if is_done(directory, inputs, metrics):
            self._say(f"{run.name}: done before")
            return
        self._say(f"{run.name} ...")
        config.to_disk(directory / "config.cfg")
        start = time.perf_counter()
        train = ["train", directory / "config.cfg", "--output", directory]
        best = directory / "model-best"
        evaluate = ["bert", "evaluate", best, setting.test, "--output", metrics]
        for command in (train, evaluate):
            arguments = ["spacy", *map(str, command), "--gpu-id", str(setting.gpu_id)]
            self.processes.run(arguments, setting.output / "logs" / f"{run.name}.log")
        score = srsly.read_json(best / "meta.json")["performance"]
        weights = self.config["training"].get("score_weights", {})
        shown = ", ".join(
            f"{name_score(key, score)} {format_score(key, score[key], score)}"
            for key, weight in weights.items()
            if weight and isinstance(score.get(key), int | float)
        )
        self._say(f"{run.name}: {shown} on dev, {time.perf_counter() - start:,.0f} s")

    def _run_config(self, run: Run) -> Config:
        """The config of a run, in which nothing is left to be filled in from elsewhere."""
        config = self.config.copy()
        config["training"]["seed"] = run.seed
        for encoder in _encoders(config):
            encoder["pretrained"] = run.start == "pretrained"
        return config

    def _metrics_file(self, run: Run) -> Path:
        return self.setting.metrics / f"{run.name}.json"


def _start_cells(found: Mapping[Run, Any], start: str, component: str, key: str) -> Row:
    """Mean and standard deviation of a score over the runs of a start, if it has any."""
    scores = [result["scores"][component] for run, result in found.items() if run.start == start]
    values = [one[key] for one in scores if isinstance(one.get(key), int | float)]
    if not values:
        return {start: None, f"± {start}": None}
    spread = format_score(key, statistics.stdev(values), scores[0]) if len(values) > 1 else None
    return {start: format_score(key, statistics.mean(values), scores[0]), f"± {start}": spread}


def _read_config(file: Path, overrides: Mapping[str, Any]) -> Config:
    """Read a config for `spacy train` and see that it can be trained from two starts.

    Raises:
        ValueError: If not; names the file and the section.
    """
    config = read_train_config(file, overrides, interpolate=True)
    if "training" not in config:
        raise ValueError(f"{file}: has no [training]; fill it: spacy init fill-config")
    if not _encoders(config):
        raise ValueError(f'{file}: has no component of the factory "bert" with a [...model]')
    return config


def _encoders(config: Config) -> list[dict[str, Any]]:
    """The blocks of the encoders that components own."""
    components = config.get("components", {}).values()
    return [one["model"] for one in components if one.get("factory") == "bert" and "model" in one]
