"""Is pre-training worth it? One config, trained from several starts, with several seeds each.

Layout of the two output directories::

    <output>/<start>-<seed>/         config.cfg, inputs.json and what `spacy train` leaves
    <output>/logs/                   output of the commands, if several run at a time
    <output>/report/                 index.html, report.json, charts
    <metrics>/<start>-<seed>.json    written by `spacy bert evaluate`

What is done and whose inputs have not changed is not done again; what stands there is replaced when
the new is complete, not before.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import srsly
from spacy.tokens import Doc
from thinc.api import Config

from spacy_bert.analysis.report import Report
from spacy_bert.experiments import plots
from spacy_bert.experiments.baselines import read_docs
from spacy_bert.experiments.processes import Processes
from spacy_bert.experiments.records import digest, is_recorded, record
from spacy_bert.experiments.score_names import format_score, name_score
from spacy_bert.experiments.summary import START_NAMES
from spacy_bert.experiments.train_config import read_train_config, set_schedule
from spacy_bert.files import replacing_directory
from spacy_bert.models.hub import find_checkpoint

PRETRAINED, RANDOM = "pretrained", "random"
SCORED_FILE = "scored.json"
# What scores are compared with, by the beginning of their names; of others nothing is known here.
GOLD: Mapping[str, tuple[str, Callable[[Doc], bool]]] = {
    "cats": ("classes or values (doc.cats)", lambda doc: bool(doc.cats)),
    "choice": ("choices (doc.cats)", lambda doc: bool(doc.cats)),
    "ents": ("entities (doc.ents)", lambda doc: bool(doc.ents)),
    "answers": ("answers (doc.spans)", lambda doc: bool(doc.spans)),
}

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
        starts: Name of a start to its checkpoint; None for the config's own.
        seeds: How many times the config is trained from each of them.
        random_seeds: How many times from random weights in the shape of the first.
        max_steps: Length of a training; None for the config's.
        jobs: Commands at a time.
        gpu_id: -1 for the CPU.
    """

    config: Path
    overrides: Mapping[str, Any]
    test: Path
    output: Path
    metrics: Path
    starts: Mapping[str, str | None] = field(default_factory=lambda: {PRETRAINED: None})
    seeds: int = 1
    random_seeds: int = 1
    max_steps: int | None = None
    jobs: int = 1
    gpu_id: int = -1

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ValueError: Names the option.
        """
        if min(self.seeds, self.random_seeds) < 0 or not self.seeds + self.random_seeds:
            given = f"{self.seeds} and {self.random_seeds}"
            raise ValueError(
                f"--seeds and --random-seeds must be 0 or more, not both 0, got {given}"
            )
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"--max-steps must be at least 1, got {self.max_steps}")
        for name in self.starts:
            if name == RANDOM or not re.fullmatch(r"[A-Za-z][\w.-]*", name):
                raise ValueError(
                    f"--start {name}: take a name of letters, digits, dots and hyphens, not random"
                )
        for directory in (self.output, self.metrics):
            if directory.is_file():
                raise ValueError(f"{directory}: is a file; name a directory")

    @property
    def runs(self) -> list[Run]:
        """All trainings, in order."""
        counts = {**dict.fromkeys(self.starts, self.seeds), RANDOM: self.random_seeds}
        return [Run(start, seed) for start, count in counts.items() for seed in range(count)]


class Comparison:
    """The trainings of a setting.

    Args:
        setting: What is compared.
        say: Takes lines on the progress.

    Raises:
        FileNotFoundError: If a set is missing.
        ValueError: If the config cannot be trained from these starts, or the test set says nothing
            of it: nothing was begun then.
    """

    def __init__(self, setting: Setting, say: Callable[[str], None]) -> None:
        self.setting, self._say = setting, say
        self.processes = Processes(setting.jobs)
        self.configs = {start: self._start_config(start) for start in (*setting.starts, RANDOM)}
        weights = self.configs[RANDOM]["training"].get("score_weights", {})
        self._main_scores = [key for key, weight in weights.items() if weight]
        self._docs = self._check_sets(self.configs[RANDOM])

    def run(self) -> None:
        """Train and score what is not yet done.

        Raises:
            ChildProcessError: If a command fails.
            ValueError: If the output directory holds something else.
        """
        with self.processes as processes:
            processes.map([partial(self._make, run) for run in self.setting.runs])

    @property
    def title(self) -> str:
        """What the table is of."""
        setting = self.setting
        counts = [f"{setting.seeds} seed{'s' * (setting.seeds != 1)}"]
        counts += [f"{setting.random_seeds} of random weights"] * bool(setting.random_seeds)
        return f"{setting.config} on {setting.test} ({self._docs:,} Docs; {', '.join(counts)})"

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
                for start in dict.fromkeys(run.start for run in found):
                    values = [
                        result["scores"][component].get(key)
                        for run, result in found.items()
                        if run.start == start
                    ]
                    row |= _cells(start, key, scores, [v for v in values if v is not None])
                baseline = first["baselines"].get(component, {}).get(key)
                row["without reading"] = baseline and format_score(key, baseline["value"], scores)
                rows.append(row)
        return rows

    def report(self) -> Report:
        """The page of the comparison."""
        report = Report("spacy_bert: starts compared", self.title)
        report.table(
            "starts",
            self.table(),
            caption="Scores on the test set after the same training from each start: means and "
            "standard deviations over the seeds, and what is had without reading a text.",
            source=f"{self.setting.metrics}/*.json",
        )
        for key in self._main_scores:
            rows = self._points(key)
            if rows:
                report.chart(
                    key.replace("_", "-"),
                    plots.seeds(
                        rows,
                        order=list(dict.fromkeys(row["system"] for row in rows)),
                        title=f"{key} on test",
                    ),
                    caption="Every seed is a point, the bar is their mean.",
                    source=f"{self.setting.metrics}/*.json",
                )
        return report

    def _points(self, key: str) -> list[Row]:
        """A score of all runs."""
        return [
            {"system": START_NAMES.get(run.start, run.start), "run": f"seed {run.seed}",
             "score": scores[key]}
            for run in self.setting.runs
            for scores in srsly.read_json(self._metrics_file(run))["scores"].values()
            if isinstance(scores.get(key), int | float)
        ]  # fmt: skip

    def _make(self, run: Run) -> None:
        """Train a run and score it, if that is not done."""
        directory, metrics = self.setting.output / run.name, self._metrics_file(run)
        config = self._run_config(run)
        inputs = self._inputs(config)
        scored = {"test": digest(self.setting.test), "metrics": str(metrics)}
        is_trained = is_recorded(directory, inputs) and (directory / "model-best").is_dir()
        is_scored = metrics.is_file() and _read(directory / SCORED_FILE) == scored
        if is_trained and is_scored:
            self._say(f"{run.name}: done before")
            return
        if not is_trained:
            self._say(f"{run.name} ...")
            start = time.perf_counter()
            with replacing_directory(directory) as temporary:
                config.to_disk(temporary / "config.cfg")
                self._spacy(run, ["train", temporary / "config.cfg", "--output", temporary])
                record(temporary, inputs)
            self._say(
                f"{run.name}: {self._dev_scores(directory)} on dev, "
                f"{time.perf_counter() - start:,.0f} s"
            )
        best = directory / "model-best"
        command = ["bert", "evaluate", best, self.setting.test, "--output", metrics]
        self._spacy(run, command, shown=False)
        srsly.write_json(directory / SCORED_FILE, scored)

    def _spacy(self, run: Run, command: list[Any], *, shown: bool = True) -> None:
        arguments = ["spacy", *map(str, command), "--gpu-id", str(self.setting.gpu_id)]
        log = self.setting.output / "logs" / f"{run.name}.log"
        self.processes.run(arguments, log, shown=shown)

    def _dev_scores(self, directory: Path) -> str:
        found = srsly.read_json(directory / "model-best" / "meta.json")["performance"]
        return ", ".join(
            f"{name_score(key, found)} {format_score(key, found[key], found)}"
            for key in self._main_scores
            if isinstance(found.get(key), int | float)
        )

    def _inputs(self, config: Config) -> dict[str, Any]:
        """All that a training depends on."""
        named = {*config.get("paths", {}).values()}
        named |= {encoder.get("name") for encoder in _encoders(config).values()}
        files = sorted(str(name) for name in named if name and Path(name).exists())
        return {"config": config.to_str(), "files": {name: digest(Path(name)) for name in files}}

    def _start_config(self, start: str) -> Config:
        """The config of a start, in which nothing is left to be filled in from elsewhere."""
        setting = self.setting
        plain = read_train_config(setting.config, interpolate=False)
        checkpoint = next(iter(setting.starts.values()), None)
        if start != RANDOM:
            checkpoint = setting.starts[start]
        overrides = dict(setting.overrides)
        if checkpoint is not None:
            for name, encoder in _encoders(plain).items():
                is_path = encoder.get("name") == "${paths.encoder}"
                overrides["paths.encoder" if is_path else f"components.{name}.model.name"] = (
                    checkpoint
                )
        config = read_train_config(setting.config, overrides, interpolate=True)
        if not _encoders(config):
            raise ValueError(f'{setting.config}: has no component of the factory "bert"')
        if "optimizer" not in config.get("training", {}):
            raise ValueError(
                f"{setting.config}: has no [training]; fill it: spacy init fill-config"
            )
        for name, encoder in _encoders(config).items():
            encoder["pretrained"] = start != RANDOM
            if encoder.get("name") is not None:
                try:
                    find_checkpoint(encoder["name"])
                except ValueError as error:
                    raise ValueError(
                        f"{setting.config}: [components.{name}.model] name: {error}; say which: "
                        "--start pretrained=DIR"
                    ) from None
        return config

    def _run_config(self, run: Run) -> Config:
        config, steps = self.configs[run.start].copy(), self.setting.max_steps
        training = config["training"]
        training["seed"] = run.seed
        if steps is not None:
            training["max_steps"] = steps
            training["eval_frequency"] = min(training["eval_frequency"], steps)
            set_schedule(training, steps)
        return config

    def _check_sets(self, config: Config) -> int:
        """See that there is something to train on and to be scored by; the number of test Docs.

        Raises:
            FileNotFoundError: If a set is missing; names the file.
            ValueError: If the test set holds none of what is scored.
        """
        for name in ("train", "dev"):
            path = config.get("paths", {}).get(name)
            if path and not Path(path).exists():
                raise FileNotFoundError(
                    f"{self.setting.config}: [paths] {name}: there is no {path}; say where it is: "
                    f"--paths.{name} FILE"
                )
        test = self.setting.test
        docs = read_docs(test)
        kinds = [
            GOLD[start] for start in GOLD if any(k.startswith(start) for k in self._main_scores)
        ]
        if kinds and not any(has(doc) for _, has in kinds for doc in docs):
            raise ValueError(
                f"{test}: no Doc has {' or '.join(name for name, _ in kinds)}, which the "
                f"[training.score_weights] of {self.setting.config} score"
            )
        return len(docs)

    def _metrics_file(self, run: Run) -> Path:
        return self.setting.metrics / f"{run.name}.json"


def _cells(start: str, key: str, scores: Mapping[str, Any], values: list[float]) -> Row:
    """Mean and standard deviation of a score over the runs of a start, as people read them."""
    mean = format_score(key, statistics.mean(values), scores) if values else None
    spread = format_score(key, statistics.stdev(values), scores) if len(values) > 1 else None
    return {start: mean, f"± {start}": spread}


def _read(file: Path) -> Any:
    try:
        return srsly.read_json(file)
    except ValueError:  # missing or cut off
        return None


def _encoders(config: Config) -> dict[str, dict[str, Any]]:
    """Name of a component to the block of the encoder that it owns."""
    components = config.get("components", {}).items()
    return {
        name: one["model"]
        for name, one in components
        if one.get("factory") == "bert" and "model" in one
    }
