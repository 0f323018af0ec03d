"""Ablation studies: pre-train every arm, fine-tune it, score it; what is done is not done again.

Layout of the output directory::

    pretrained/<run>/                        as `pretrain` leaves it
    training/<measure>/<arm>-<seed>/         config.cfg and what `spacy train` leaves
    metrics/<measure>/<arm>-<seed>.json      written by `spacy evaluate`
    metrics/<measure>/baselines.json         cheap baselines on the same test set
    logs/                                    output of the commands, if several run at a time
    report/                                  index.html, report.json, charts

Each directory of a run or an arm has a file `inputs.json`: what its result depends on. It is
written before the work begins, and the result after it has ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import srsly

from spacy_bert.experiments.arm_configs import arm_config, read_config
from spacy_bert.experiments.baselines import score_baselines
from spacy_bert.experiments.processes import Processes
from spacy_bert.experiments.records import digest, is_done
from spacy_bert.experiments.studies import PARTS, Arm, Measure, Run, Study
from spacy_bert.files import replacing
from spacy_bert.pretraining.config import PretrainConfig

_ALL_CHECKPOINTS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all arms of a study share.

    Attributes:
        pretrain_config: Config of pre-training; arms override it.
        overrides: Its fields by dotted name, for all arms.
        finetune_configs: Name of the task to its fine-tuning config.
        data: Directory of `<task>/train.spacy`, `dev.spacy` and `test.spacy`.
        output: Directory for everything that is made.
        seeds: How many times each arm is fine-tuned.
        jobs: Commands at a time.
        gpu_id: Of fine-tuning, -1 for the CPU; pre-training's device is in its config.
    """

    pretrain_config: Path
    overrides: Mapping[str, Any]
    finetune_configs: Mapping[str, Path]
    data: Path
    output: Path
    seeds: int = 1
    jobs: int = 1
    gpu_id: int = -1


class Ablation:
    """A study in a setting.

    Args:
        study: Its arms and measures.
        setting: Everything else.
        say: Takes lines on the progress.

    Raises:
        ValueError: If a config or an option is not as it must be: nothing was begun then.
        FileNotFoundError: If a set is missing.
    """

    def __init__(self, study: Study, setting: Setting, say: Callable[[str], None]) -> None:
        if setting.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {setting.seeds}")
        self.study, self.setting, self._say = study, setting, say
        self.runs = {arm.run.name: arm.run for arm in study.arms}
        self.configs = {name: self._pretrain_config(run) for name, run in self.runs.items()}
        self.processes = Processes(setting.jobs)
        for measure in study.measures:
            read_config(setting.finetune_configs[measure.task], measure)
            for split in ("train", "dev", "test"):
                file = self._data(measure) / f"{split}.spacy"
                if not file.is_file():
                    raise FileNotFoundError(
                        f"{file}: no such file; --data is a directory with textcat/ and ner/, each "
                        "with train, dev and test, such as `data pydocs` writes"
                    )

    def run(self) -> None:
        """Do what is not yet done.

        Raises:
            ChildProcessError: If a command fails.
            ValueError: If the output directory holds something else.
        """
        pretrainings = [partial(self._pretrain, run) for run in self.runs.values()]
        finetunings = [
            partial(self._finetune, arm, measure, seed)
            for measure in self.study.measures
            for arm in self.study.arms
            for seed in range(self.setting.seeds)
        ]
        with self.processes as processes:
            processes.map(pretrainings)
            processes.map(finetunings)
        for measure in self.study.measures:
            self._score_baselines(measure)

    def metrics_file(self, arm: Arm, measure: Measure, seed: int) -> Path:
        """Where `spacy evaluate` writes the scores of an arm."""
        return self.setting.output / "metrics" / measure.name / f"{arm.name}-{seed}.json"

    def baselines_file(self, measure: Measure) -> Path:
        """Where the scores of the baselines are written."""
        return self.setting.output / "metrics" / measure.name / "baselines.json"

    def steps(self, arm: Arm) -> int:
        """After how many steps of its run an arm starts."""
        total = self.configs[arm.run.name].training.steps
        return total if arm.parts == PARTS else arm.parts * (total // PARTS)

    def dev_loss(self, arm: Arm) -> float | None:
        """The dev loss of the weights that an arm starts from; None for fresh ones."""
        if not arm.parts:
            return None
        log = srsly.read_jsonl(self._run_directory(arm.run) / "log.jsonl")
        lines = {line["step"]: line for line in log}
        loss: float = lines[self.steps(arm)]["dev_mlm"]
        return loss

    def unigram_loss(self) -> float:
        """The cross-entropy of the pieces' frequencies on the dev split."""
        directory = self._run_directory(next(iter(self.runs.values())))
        loss: float = srsly.read_json(directory / "metrics.json")["unigram_cross_entropy"]
        return loss

    def _pretrain(self, run: Run) -> None:
        directory, config = self._run_directory(run), self.configs[run.name]
        inputs = {
            "settings": config.decisive(),
            "run": self._overrides(run),
            "tokenizer": digest(config.data.tokenizer),
            "shards": digest(config.data.shards / "manifest.json"),
            "checkpoint": None if config.checkpoint is None else digest(config.checkpoint),
        }
        title = f"pre-train {run.name}"
        if self._is_done(directory, inputs, directory / "metrics.json", title):
            return
        overrides = {**self.setting.overrides, **self._overrides(run)}
        arguments = [f"--{name}={json.dumps(value)}" for name, value in overrides.items()]
        command = ["bert", "pretrain", self.setting.pretrain_config, directory, "--resume"]
        self._spacy(title, [[*command, *arguments]])

    def _finetune(self, arm: Arm, measure: Measure, seed: int) -> None:
        name = f"{arm.name}-{seed}"
        directory = self.setting.output / "training" / measure.name / name
        metrics, data = self.metrics_file(arm, measure, seed), self._data(measure)
        checkpoint = self._checkpoint(arm)
        config = arm_config(
            self.setting.finetune_configs[measure.task],
            measure,
            arm.reading,
            checkpoint=checkpoint,
            pretrained=bool(arm.parts),
            data=data,
            seed=seed,
            features=arm.features,
        )
        inputs = {
            "config": config.to_str(),
            "checkpoint": digest(checkpoint / "model.safetensors"),
            "vocabulary": digest(checkpoint / "vocab.txt"),
            "data": [digest(data / f"{split}.spacy") for split in ("train", "dev", "test")],
        }
        title = f"fine-tune {measure.name} {name}"
        if self._is_done(directory, inputs, metrics, title):
            return
        metrics.parent.mkdir(parents=True, exist_ok=True)
        config.to_disk(directory / "config.cfg")
        gpu = ["--gpu-id", self.setting.gpu_id]
        train = ["train", directory / "config.cfg", "--output", directory, *gpu]
        evaluate = ["evaluate", directory / "model-best", data / "test.spacy", "--output", metrics]
        self._spacy(title, [train, [*evaluate, *gpu]])

    def _score_baselines(self, measure: Measure) -> None:
        file, data = self.baselines_file(measure), self._data(measure)
        sets = data / "train.spacy", data / "test.spacy"
        directory = self.setting.output / "training" / measure.name / "baselines"
        inputs = {"data": [digest(path) for path in sets]}
        if self._is_done(directory, inputs, file, f"baselines {measure.name}"):
            return
        scores = score_baselines(*sets)
        with replacing(file) as temporary:
            srsly.write_json(temporary, scores)

    def _is_done(
        self, directory: Path, inputs: Mapping[str, Any], result: Path, title: str
    ) -> bool:
        if not is_done(directory, inputs, result):
            return False
        self._say(f"{title}: done before")
        return True

    def _spacy(self, title: str, commands: list[list[Any]]) -> None:
        self._say(f"{title} ...")
        start = time.perf_counter()
        log = self.setting.output / "logs" / f"{title.replace(' ', '-')}.log"
        for command in commands:
            self.processes.run(["spacy", *map(str, command)], log)
        self._say(f"{title}: {time.perf_counter() - start:,.0f} s")

    def _pretrain_config(self, run: Run) -> PretrainConfig:
        overrides = {**self.setting.overrides, **run.overrides}
        config = PretrainConfig.load(self.setting.pretrain_config, overrides)
        if run.is_cut and config.training.steps < PARTS:
            raise ValueError(f"this study needs at least {PARTS} pre-training steps")
        for path in (config.data.tokenizer, config.data.shards):
            if not path.is_dir():
                raise FileNotFoundError(f"{path}: no such directory; pre-training needs it")
        return config

    def _overrides(self, run: Run) -> dict[str, object]:
        if not run.is_cut:
            return dict(run.overrides)
        # An evaluation at each part gives the loss beside the checkpoint; all of these are kept.
        part = self.configs[run.name].training.steps // PARTS
        return {
            **run.overrides,
            "training.evaluate_every": part,
            "training.save_every": part,
            "training.keep_checkpoints": _ALL_CHECKPOINTS,
        }

    def _checkpoint(self, arm: Arm) -> Path:
        directory = self._run_directory(arm.run)
        if arm.parts in (0, PARTS):
            return directory / "model-last"
        return directory / "checkpoints" / f"step-{self.steps(arm):08d}"

    def _run_directory(self, run: Run) -> Path:
        return self.setting.output / "pretrained" / run.name

    def _data(self, measure: Measure) -> Path:
        return self.setting.data / measure.task
