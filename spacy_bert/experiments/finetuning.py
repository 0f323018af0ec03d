"""Run experiments: official files -> `.spacy` -> `spacy train` -> `spacy bert evaluate` -> a table.

Layout of the output directory::

    unpacked/                       archives of official files
    data/<experiment>/              train.spacy and the sets that are scored
    training/<experiment>/<run>/    config.cfg, inputs.json, model-last/
    metrics/<experiment>/<run>.json the figures of the run; baselines.json: cheap baselines
    logs/                           output of the commands, if several run at a time
    report/                         index.html, report.json, charts

A run is a start and a seed, `pretrained-1`. What is done and whose inputs have not changed is not
done again. The last model is scored: there is no search for the best checkpoint.
"""

from __future__ import annotations

import random
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import srsly
from spacy.tokens import DocBin
from spacy.vocab import Vocab
from thinc.api import Config

from spacy_bert.analysis.report import Report
from spacy_bert.datasets.writing import write_docs
from spacy_bert.experiments.baselines import score_baselines
from spacy_bert.experiments.catalog import Experiment, Score
from spacy_bert.experiments.catalog_config import experiment_config
from spacy_bert.experiments.processes import Processes
from spacy_bert.experiments.records import digest, is_done
from spacy_bert.files import replacing, replacing_directory

Row = dict[str, Any]
STARTS = ("pretrained", "random")


class Run(NamedTuple):
    """One training."""

    experiment: str
    start: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"{self.start}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all experiments share.

    Attributes:
        encoder: Checkpoint directory or hub id.
        data: Directory in which each experiment has its folder.
        output: Directory for everything that is made.
        seeds: How many times each is trained from the pre-trained weights.
        random_seeds: How many times from random ones.
        learning_rate: Its peak, where the encoder is trained.
        epochs: Passes over the training set; None for the recipe's.
        overrides: Fields of the config by dotted name, for all.
        train_limit: Take so many training examples, the first of them shuffled; None for all.
        jobs: Commands at a time.
        gpu_id: -1 for the CPU.
    """

    encoder: str
    data: Path
    output: Path
    seeds: int = 1
    random_seeds: int = 1
    learning_rate: float = 5e-5
    epochs: int | None = None
    overrides: Mapping[str, Any]
    train_limit: int | None = None
    jobs: int = 1
    gpu_id: int = -1

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ValueError: Names the option.
        """
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")
        if self.random_seeds < 0:
            raise ValueError(f"random seeds must not be negative, got {self.random_seeds}")
        if self.learning_rate <= 0.0:
            raise ValueError(f"learning rate must be above 0, got {self.learning_rate}")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")


class Finetuning:
    """Experiments in a setting.

    Args:
        experiments: By name.
        setting: Everything else.
        say: Takes lines on the progress.
    """

    def __init__(
        self, experiments: Mapping[str, Experiment], setting: Setting, say: Callable[[str], None]
    ) -> None:
        self.setting, self._say = setting, say
        self.experiments = dict(experiments)
        self.processes = Processes(setting.jobs)
        self._fitted: dict[tuple[str, ...], dict[str, Any]] = {}  # baselines by hashes of files

    @property
    def runs(self) -> list[Run]:
        """All trainings, in order."""
        counts = zip(STARTS, (self.setting.seeds, self.setting.random_seeds), strict=True)
        return [
            Run(name, start, seed)
            for start, count in counts
            for name in self.experiments
            for seed in range(1, count + 1)
        ]

    def run(self) -> None:
        """Do what is not yet done; experiments without files are left out, and it is said.

        Raises:
            ChildProcessError: If a command fails.
            FileNotFoundError: If no experiment has its files.
            ValueError: If a file is malformed, or the output directory holds something else.
        """
        missing: list[str] = []
        for name in list(self.experiments):
            try:
                self._write_data(name)
            except FileNotFoundError as error:
                missing.append(f"{name} is left out: {error}")
                self._say(missing[-1])
                del self.experiments[name]
        if not self.experiments:
            raise FileNotFoundError("nothing to train on. " + "; ".join(missing))
        for name in self.experiments:
            self._score_baselines(name)
        with self.processes as processes:
            processes.map([partial(self._train, run) for run in self.runs])

    def figures(self, run: Run) -> dict[str, float]:
        """The figures of a run, in percent."""
        found: dict[str, float] = srsly.read_json(self._metrics_file(run))["figures"]
        return found

    def table(self) -> list[Row]:
        """A row for each figure: the mean over the seeds of each start, and the paper's."""
        rows: list[Row] = []
        for name, experiment in self.experiments.items():
            for title, score in experiment.scores.items():
                row: Row = {"experiment": name, "score": title}
                for start in STARTS:
                    runs = [r for r in self.runs if (r.experiment, r.start) == (name, start)]
                    values = [self.figures(run)[title] for run in runs]
                    row[start] = statistics.mean(values) if values else None
                    row[f"± {start}"] = statistics.stdev(values) if len(values) > 1 else None
                row["without reading"] = self._unread(name, title)
                row["cheap baseline"] = self._cheap(name, score)
                row["paper"] = score.paper
                rows.append(row)
        return rows

    def notes(self) -> list[str]:
        """What a reader must know, a line each."""
        found = (experiment.note for experiment in self.experiments.values())
        return list(dict.fromkeys(note for note in found if note))

    def report(self) -> Report:
        """The page of the experiments."""
        setting = self.setting
        report = Report(
            "spacy_bert: fine-tuning", f"{setting.encoder}, learning rate {setting.learning_rate:g}"
        )
        epochs = "three epochs (two for SQuAD, ten for features at a rate of 1e-3)"
        if setting.epochs is not None:
            epochs = f"but for the epochs, which are {setting.epochs}"
        report.text(
            "Each figure is that of the last model; no checkpoint was searched for. The recipe is "
            f"the paper's: batches of 32 (16 for questions and choices), {epochs}, a tenth of the "
            "steps to warm up, dropout 0.1. " + " ".join(self.notes())
        )
        report.table(
            "experiments",
            self.table(),
            caption="Means and standard deviations over the seeds, in percent, beside the same "
            "training from random weights, what can be had without reading, the best cheap "
            "baseline (linear models of words, shared words), and BERT base in the paper.",
            source=f"{setting.output}/metrics/*/*.json; Devlin et al. 2018",
            best=["pretrained"],
        )
        return report

    def _write_data(self, name: str) -> None:
        """Make the `.spacy` files of an experiment.

        Raises:
            FileNotFoundError: If a set that it needs is not there.
        """
        experiment, directory = self.experiments[name], self._data(name)
        source = self._source(experiment.folder)
        inputs = {"source": digest(source), "train_limit": self.setting.train_limit}
        if not is_done(directory, inputs, directory / "done"):
            self._say(f"{name}: reading {source}")
            experiment.write(source, directory)
            if self.setting.train_limit is not None:
                _limit(directory / "train.spacy", self.setting.train_limit)
            (directory / "done").touch()
        for split in ("train", *experiment.splits):
            if not (directory / f"{split}.spacy").is_file():
                raise FileNotFoundError(f"{source} has no file of the split {split}")

    def _source(self, folder: str) -> Path:
        """The directory of official files, unpacked if an archive of its name stands there.

        Raises:
            FileNotFoundError: If there is neither.
            ValueError: If the archive cannot be read.
        """
        source = self.setting.data / folder
        archive = source.with_name(f"{source.name}.zip")
        if source.is_dir():
            return source
        if not archive.is_file():
            raise FileNotFoundError(f"there is no directory {source}")
        unpacked = self.setting.output / "unpacked" / folder
        if not unpacked.is_dir():
            with replacing_directory(unpacked) as temporary:
                try:
                    with ZipFile(archive) as packed:
                        packed.extractall(temporary)
                except BadZipFile as error:
                    raise ValueError(f"{archive}: {error}; download it again") from None
        inner = unpacked / source.name  # GLUE's archives hold one directory
        return inner if inner.is_dir() else unpacked

    def _train(self, run: Run) -> None:
        setting = self.setting
        directory = setting.output / "training" / run.experiment / run.name
        config, metrics = self._config(run), self._metrics_file(run)
        inputs = {
            "config": config.to_str(),
            "data": digest(self._data(run.experiment)),
            "encoder": digest(Path(setting.encoder)) if Path(setting.encoder).exists() else None,
        }
        title = f"{run.experiment} {run.name}"
        if is_done(directory, inputs, metrics):
            self._say(f"{title}: done before")
            return
        self._say(f"{title} ...")
        config.to_disk(directory / "config.cfg")
        start = time.perf_counter()
        self._spacy(run, ["train", directory / "config.cfg", "--output", directory])
        seconds = time.perf_counter() - start
        shutil.rmtree(directory / "model-best", ignore_errors=True)  # the last one is scored
        result = {**self._evaluate(run, directory), "seconds": round(seconds, 1)}
        with replacing(metrics) as temporary:
            srsly.write_json(temporary, result)
        shown = ", ".join(f"{name} {value:.1f}" for name, value in result["figures"].items())
        self._say(f"{title}: {shown}, {seconds:,.0f} s")

    def _evaluate(self, run: Run, directory: Path) -> dict[str, Any]:
        """The figures of a trained run, those of who reads nothing, and all scores by split."""
        experiment = self.experiments[run.experiment]
        scores, baselines = {}, {}
        for split in experiment.splits:
            output = directory / f"{split}.json"
            file = self._data(run.experiment) / f"{split}.spacy"
            command = ["bert", "evaluate", directory / "model-last", file, "--output", output]
            self._spacy(run, command)
            found = srsly.read_json(output)
            scores[split] = found["scores"][experiment.component]
            baselines[split] = found["baselines"].get(experiment.component, {})
        wanted = experiment.scores.items()
        return {
            "figures": {
                name: 100.0 * (_find(scores[one.split], one) or 0.0) for name, one in wanted
            },
            "baselines": {
                name: 100.0 * baselines[one.split][one.key]["value"]
                for name, one in wanted
                if one.key in baselines[one.split]
            },
            "scores": scores,
        }

    def _spacy(self, run: Run, command: Sequence[object]) -> None:
        log = self.setting.output / "logs" / f"{run.experiment}-{run.name}.log"
        gpu = ["--gpu-id", str(self.setting.gpu_id)]
        self.processes.run(["spacy", *map(str, command), *gpu], log)

    def _config(self, run: Run) -> Config:
        """The complete config of a run."""
        setting = self.setting
        return experiment_config(
            self.experiments[run.experiment],
            setting.encoder,
            self._data(run.experiment),
            pretrained=run.start == "pretrained",
            seed=run.seed,
            learning_rate=setting.learning_rate,
            epochs=setting.epochs,
            overrides=setting.overrides,
        )

    def _score_baselines(self, name: str) -> None:
        """Fit cheap baselines, if there are any of the task, and score them on all sets."""
        file, directory = self._baselines_file(name), self.setting.output / "baselines" / name
        if is_done(directory, {"data": digest(self._data(name))}, file):
            return
        train, splits = self._data(name) / "train.spacy", self.experiments[name].splits
        files = {split: train.with_name(f"{split}.spacy") for split in splits}
        # Of the rows of a table that differ in the encoder alone, the data are the same.
        same = tuple(digest(path) for path in (train, *files.values()))
        if same not in self._fitted:
            self._fitted[same] = {
                split: score_baselines(train, path) for split, path in files.items()
            }
        found = self._fitted[same]
        with replacing(file) as temporary:
            srsly.write_json(temporary, found)

    def _cheap(self, name: str, score: Score) -> float | None:
        """The best of the cheap baselines."""
        found = srsly.read_json(self._baselines_file(name))[score.split]
        values = [value for scores in found.values() if (value := _find(scores, score)) is not None]
        return 100.0 * max(values) if values else None

    def _baselines_file(self, name: str) -> Path:
        return self.setting.output / "metrics" / name / "baselines.json"

    def _unread(self, name: str, title: str) -> float | None:
        run = next(run for run in self.runs if run.experiment == name)
        found: dict[str, float] = srsly.read_json(self._metrics_file(run))["baselines"]
        return found.get(title)

    def _data(self, name: str) -> Path:
        return self.setting.output / "data" / name

    def _metrics_file(self, run: Run) -> Path:
        return self.setting.output / "metrics" / run.experiment / f"{run.name}.json"


def _find(scores: Mapping[str, Any], score: Score) -> float | None:
    """A score by its dotted key; None if it is not there."""
    value: Any = scores
    for key in score.key.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def _limit(file: Path, limit: int) -> None:
    """Keep so many Docs of a file, the first of them shuffled: those of two limits overlap."""
    docs = list(DocBin().from_disk(file).get_docs(Vocab()))
    random.Random(0).shuffle(docs)
    write_docs(file, docs[:limit])
