"""A grid search over batch size, learning rate and epochs (Devlin et al. 2018, appendix A.3).

Each point trains the same config with `spacy train`, for as many steps as its epochs make, and is
scored on the development set after the last one: there is no search for the best checkpoint.
Layout of the output directory::

    runs/<point>/         config.cfg, inputs.json, model-last/
    scores/<point>.json   score, scores, steps, seconds
    logs/                 output of the commands, if several run at a time
    report/               index.html, report.json, chart

`inputs.json` says what a point depends on; a point whose inputs have not changed is not done again.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import srsly
from spacy.language import Language
from spacy.training import Example
from spacy.util import load_model_from_config, registry, resolve_dot_names
from thinc.api import Config

from spacy_bert.analysis.report import Report
from spacy_bert.experiments import plots
from spacy_bert.experiments.processes import Processes
from spacy_bert.experiments.records import digest, is_done
from spacy_bert.experiments.train_config import read_train_config, require_corpora, set_schedule
from spacy_bert.files import replacing

# The paper's.
BATCH_SIZES = (16, 32)
LEARNING_RATES = (5e-5, 3e-5, 2e-5)
EPOCHS = (3, 4)

MAX_DOCS = "max_docs"
COUNTS_DOCS = ("spacy.batch_by_sequence.v1", "spacy_bert.batch_by_length.v1")

Row = dict[str, Any]


class Point(NamedTuple):
    """One training."""

    batch_size: int
    learning_rate: float
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"b{self.batch_size}-lr{self.learning_rate:g}-e{self.epochs}-s{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a grid is made of; the defaults are the paper's.

    Attributes:
        config: A config for `spacy train`, whose learning rate is a number or `warmup_linear.v1`.
        overrides: Its fields by dotted name, for all points.
        output: Directory for everything that is made.
        batch_sizes: Docs in a batch; or of a batcher that counts something else (pieces, words)
            and has no `max_docs`, values of its `size`. Default: the paper's, of Docs.
        learning_rates: Peaks of the learning rate.
        epochs: Passes over the training set.
        seeds: How many times each point is trained.
        jobs: Commands at a time.
        gpu_id: -1 for the CPU.
        keeps_best_only: Whether all models but the best are removed when the grid is complete.
    """

    config: Path
    overrides: Mapping[str, Any]
    output: Path
    batch_sizes: Sequence[int] | None = None
    learning_rates: Sequence[float] = LEARNING_RATES
    epochs: Sequence[int] = EPOCHS
    seeds: int = 1
    jobs: int = 1
    gpu_id: int = -1
    keeps_best_only: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: Names the option.
        """
        for name in ("batch_sizes", "learning_rates", "epochs"):
            values = getattr(self, name)
            if name == "batch_sizes" and values is None:
                continue
            if not values or min(values) <= 0:
                raise ValueError(f"{name.replace('_', ' ')}: all must be above 0, got {values}")
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")

    @property
    def points(self) -> list[Point]:
        """All trainings, in order, none twice."""
        values = product(
            self.batch_sizes or BATCH_SIZES, self.learning_rates, self.epochs, range(self.seeds)
        )
        return list(dict.fromkeys(Point(*value) for value in values))


class Grid:
    """A grid search.

    Args:
        setting: What is searched.
        say: Takes lines on the progress.

    Raises:
        ValueError: If the config cannot be searched: nothing was begun then.
    """

    def __init__(self, setting: Setting, say: Callable[[str], None]) -> None:
        self.setting, self._say = setting, say
        self.config = _read_config(setting.config, setting.overrides)
        self._batch_field = _batch_field(setting, self.config["training"]["batcher"])
        self.processes = Processes(setting.jobs)
        self._steps = self._count_steps()

    def run(self) -> Point:
        """Train what is not yet trained.

        Returns:
            The point with the best score; of several seeds, the one with the best mean, and of
            its seeds the best.

        Raises:
            ChildProcessError: If a training fails.
            ValueError: If the output directory holds something else.
        """
        with self.processes as processes:
            processes.map([partial(self._train, point) for point in self.setting.points])
        best = self.best()
        if self.setting.keeps_best_only:
            others = [point for point in self.setting.points if point != best]
            for point in others:
                shutil.rmtree(self.model(point), ignore_errors=True)
            self._say(f"removed the models of the {len(others)} other points")
        return best

    def model(self, point: Point) -> Path:
        """Where the trained pipeline of a point stands."""
        return self.setting.output / "runs" / point.name / "model-last"

    def scores(self, point: Point) -> dict[str, Any]:
        """What `scores/<point>.json` holds."""
        found: dict[str, Any] = srsly.read_json(self._scores_file(point))
        return found

    def best(self) -> Point:
        """The best point."""
        row = self.table()[0]
        first = Point(row["batch size"], row["learning rate"], row["epochs"], 0)
        seeds = [first._replace(seed=seed) for seed in range(self.setting.seeds)]
        return max(seeds, key=lambda point: self.scores(point)["score"])

    def table(self) -> list[Row]:
        """A row for each combination, the best score first: means over the seeds."""
        rows: list[Row] = []
        for first in self.setting.points:
            if first.seed:
                continue
            found = [self.scores(first._replace(seed=s)) for s in range(self.setting.seeds)]
            values = [scores["score"] for scores in found]
            row: Row = {
                "batch size": first.batch_size,
                "learning rate": first.learning_rate,
                "epochs": first.epochs,
                "steps": found[0]["steps"],
                "score": statistics.mean(values),
                "±": statistics.stdev(values) if len(values) > 1 else None,
            }
            for name in found[0]["scores"]:
                row[name] = statistics.mean(scores["scores"][name] for scores in found)
            row["seconds"] = statistics.mean(scores["seconds"] for scores in found)
            rows.append(row)
        return sorted(rows, key=lambda row: -row["score"])

    def report(self) -> Report:
        """The page of the grid."""
        report = Report("spacy_bert: a grid search", str(self.setting.config))
        report.text(
            f"{len(self.setting.points)} trainings, each scored on the development set after its "
            "last step. The score is the mean of spaCy's scores by [training.score_weights]. The "
            "best of many runs is better on this set than it would be on another: score the "
            "chosen pipeline on a test set."
        )
        report.table(
            "grid",
            self.table(),
            caption="Every combination; of several seeds, the mean and standard deviation.",
            source=f"{self.setting.output}/scores/*.json",
            best=["score"],
        )
        rows = [
            {
                "learning rate": f"{point.learning_rate:g}",
                "batch": f"batch {point.batch_size}",
                "epochs": f"{point.epochs} epochs",
                "run": f"seed {point.seed}",
                "score": self.scores(point)["score"],
            }
            for point in self.setting.points
        ]
        report.chart(
            "grid",
            plots.grid(rows),
            caption="The score by learning rate: each run is a point, lines join the means.",
            source=f"{self.setting.output}/scores/*.json",
        )
        return report

    def _train(self, point: Point) -> None:
        directory, steps = self.setting.output / "runs" / point.name, self._steps[point.batch_size]
        config, file = self._point_config(point), self._scores_file(point)
        paths = [Path(str(value)) for value in config.get("paths", {}).values() if value]
        inputs = {
            "config": config.to_str(),
            "files": {str(path): digest(path) for path in paths if path.exists()},
        }
        if is_done(directory, inputs, file):
            self._say(f"{point.name}: done before")
            return
        self._say(f"{point.name} ...")
        config.to_disk(directory / "config.cfg")
        command = ["spacy", "train", directory / "config.cfg", "--output", directory]
        start = time.perf_counter()
        self.processes.run(
            [*map(str, command), "--gpu-id", str(self.setting.gpu_id)],
            self.setting.output / "logs" / f"{point.name}.log",
        )
        seconds = time.perf_counter() - start
        shutil.rmtree(directory / "model-best", ignore_errors=True)  # no other than model-last
        scores = self._performance(point)
        result = {**scores, "steps": steps * point.epochs, "seconds": round(seconds, 1)}
        with replacing(file) as temporary:
            srsly.write_json(temporary, result)
        self._say(f"{point.name}: score {scores['score']:.4f}, {seconds:,.0f} s")

    def _performance(self, point: Point) -> dict[str, Any]:
        """The score of the last step, and the scores that it is the mean of."""
        performance = srsly.read_json(self.model(point) / "meta.json")["performance"]
        weights = {
            name: weight
            for name, weight in self.config["training"].get("score_weights", {}).items()
            if weight
        }
        scores = {name: performance.get(name) or 0.0 for name in weights}
        return {"score": sum(scores[name] * weights[name] for name in weights), "scores": scores}

    def _point_config(self, point: Point) -> Config:
        """The config of a point, in which nothing is left to be filled in from elsewhere."""
        config = self.config.copy()
        training, steps = config["training"], self._steps[point.batch_size] * point.epochs
        training["seed"] = point.seed
        training["batcher"][self._batch_field] = point.batch_size
        # spaCy counts the steps from 0 and scores the multiples of `eval_frequency`.
        training["max_steps"] = training["eval_frequency"] = max(steps - 1, 1)
        training["max_epochs"] = training["patience"] = 0
        set_schedule(training, steps)
        schedule = training["optimizer"]["learn_rate"]
        if isinstance(schedule, dict):
            schedule["initial_rate"] = point.learning_rate
        else:
            training["optimizer"]["learn_rate"] = point.learning_rate
        return config

    def _scores_file(self, point: Point) -> Path:
        return self.setting.output / "scores" / f"{point.name}.json"

    def _count_steps(self) -> dict[int, int]:
        """Batches in a pass over the training set, for each batch size."""
        nlp = load_model_from_config(self.config, auto_fill=True)
        (corpus,) = resolve_dot_names(self.config, [self.config["training"]["train_corpus"]])
        examples = list(corpus(nlp))
        if not examples:
            raise ValueError(f"{self.setting.config}: the training corpus is empty")
        sizes = self.setting.batch_sizes or BATCH_SIZES
        steps = {size: self._batches(nlp, examples, size) for size in sizes}
        if self._batch_field == MAX_DOCS and len(set(steps.values())) < len(steps) > 1:
            self._say(
                f"{self.setting.config}: batches of {', '.join(map(str, sizes))} Docs are the same "
                "ones in part, since [training.batcher] size cuts them before: raise it"
            )
        return steps

    def _batches(self, nlp: Language, examples: list[Example], size: int) -> int:
        block = {**self.config["training"]["batcher"], self._batch_field: size}
        batcher = registry.resolve({"batcher": block})["batcher"]
        return sum(1 for _ in batcher(examples))


def _batch_field(setting: Setting, batcher: Mapping[str, Any]) -> str:
    """The field of the batcher that the grid sets.

    Raises:
        ValueError: If no batch sizes are given, and it cannot be one that counts Docs.
    """
    if isinstance(batcher.get(MAX_DOCS), int):
        return MAX_DOCS
    if setting.batch_sizes is None and batcher.get("@batchers") not in COUNTS_DOCS:
        raise ValueError(
            f"{setting.config}: [training.batcher] {batcher.get('@batchers')} does not count Docs: "
            "give sizes in what it counts (--batch-size), or set its max_docs to a number, if it "
            "has one"
        )
    return "size"


def _read_config(file: Path, overrides: Mapping[str, Any]) -> Config:
    """Read a config for `spacy train` and see that it can be searched.

    Raises:
        ValueError: If not; names the file and the field.
    """
    config = read_train_config(file, overrides, interpolate=True)
    require_corpora(file, config)
    training = config.get("training", {})
    for section in ("batcher", "optimizer"):
        if not isinstance(training.get(section), dict):
            raise ValueError(
                f"{file}: has no [training.{section}]; fill it: spacy init fill-config"
            )
    if not isinstance(training["batcher"].get("size"), int):
        raise ValueError(f"{file}: [training.batcher] size must be a number, which the grid sets")
    schedule = training["optimizer"].get("learn_rate")
    if isinstance(schedule, dict) and not {"initial_rate", "total_steps"} <= set(schedule):
        raise ValueError(
            f"{file}: [training.optimizer.learn_rate] must be warmup_linear.v1 or a number, of "
            f"which the grid knows the peak and the end, not {schedule.get('@schedules')}"
        )
    return config
