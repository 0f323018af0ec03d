"""The results of a workflow: what pre-training, `evaluate` and the baselines left on disk.

The layout read here is that of `project.yml`::

    pretrained/log.jsonl                     losses by step
    pretrained/metrics.json                  the dev set at the end, beside baselines
    metrics/<task>/<start>-<seed>.json       written by `spacy bert evaluate --output`
    metrics/<task>/baselines.json            name of the baseline -> the same scores
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import srsly

from spacy_bert.analysis.report import Report
from spacy_bert.experiments import plots

Scores = dict[str, Any]

START_NAMES = {"pretrained": "BERT, pre-trained start", "random": "BERT, random start"}


@dataclass(frozen=True)
class Task:
    """How a task is shown.

    Attributes:
        title: Its heading.
        short: Its name beside single figures.
        scores: spaCy's name of a score to ours, the main one first.
        by_label: spaCy's name of the scores by label; None if the task has no labels.
        note: What a reader must know of the data.
    """

    title: str
    short: str
    scores: dict[str, str]
    by_label: str | None
    note: str


TASKS = {
    "textcat": Task(
        title="Text classification: the area of a docstring",
        short="Text classification",
        scores={"cats_macro_f": "macro F1", "cats_micro_f": "accuracy"},
        by_label="cats_f_per_type",
        note="The labels are derived, not annotated: a docstring has the area of the module that "
        "it stands in, whether or not its text shows it. Train, dev and test share no module, "
        "names of modules are masked, and pre-training has not seen the modules of dev and test.",
    ),
    "ner": Task(
        title="Named entities: names of code in docstrings",
        short="Named entities",
        scores={"ents_f": "F1", "ents_p": "precision", "ents_r": "recall"},
        by_label="ents_per_type",
        note="The labels are derived, not annotated: names that authors marked by quotes, "
        "backticks, asterisks, a call's parentheses or dots; all of these marks but the dots are "
        "taken out of the text. Names that an author left unmarked count as errors, so no system "
        "can be perfect. The first segment of each Doc is the signature of what is documented: "
        "it alone tells a PARAMETER from another QUOTED word. Train, dev and test share no "
        "module, and pre-training has not seen the modules of dev and test.",
    ),
    "qa": Task(
        title="Question answering: what docstrings say, and what they do not",
        short="Question answering",
        scores={
            "answers_f1": "F1",
            "answers_em": "exact match",
            "answers_has_f1": "F1 where there is an answer",
            "answers_no_em": "silent where there is none",
        },
        by_label=None,
        note="The questions are derived, not asked by people: set phrases of docstrings (what is "
        "returned, when an exception is raised, what a parameter is, what follows from its value) "
        "give questions of a few forms, and questions of the same forms about what the text does "
        "not say must be left without an answer. Train, dev and test share no module, and "
        "pre-training has not seen the modules of dev and test.",
    ),
}


@dataclass(frozen=True)
class PretrainingResults:
    """What a pre-training run left: the rows of its log and its last metrics."""

    source: str
    log: list[dict[str, Any]]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class TaskResults:
    """The scores of one task on its test set.

    Attributes:
        source: Directory of the files.
        runs: Name of the system to its runs (seed to scores).
        baselines: Name of the baseline to its scores.
    """

    source: str
    runs: dict[str, dict[int, Scores]]
    baselines: dict[str, Scores] = field(default_factory=dict)


def read_pretraining(directory: Path) -> PretrainingResults:
    """Read `log.jsonl` and `metrics.json` of a pre-training run.

    Raises:
        FileNotFoundError: If one of them is missing.
        ValueError: If one of them is not JSON, or `metrics.json` lacks a figure.
    """
    log_path, metrics_path = directory / "log.jsonl", directory / "metrics.json"
    log = _read(log_path, lambda path: list(srsly.read_jsonl(path)))
    metrics = _read(metrics_path, srsly.read_json)
    for name in ("dev_mlm_loss", "unigram_cross_entropy"):
        if not isinstance(metrics.get(name), float):
            raise ValueError(f"{metrics_path}: no number {name!r}; pre-train again to write it")
    baselines = metrics.get("nsp_baselines") or {}
    metrics["nsp_baselines"] = {name.replace("_", " "): baselines[name] for name in baselines}
    return PretrainingResults(str(directory), log, metrics)


def read_task(directory: Path) -> TaskResults:
    """Read the scores of one task.

    Raises:
        FileNotFoundError: If the directory holds no `<start>-<seed>.json`.
        ValueError: If a file is not JSON.
    """
    runs: dict[str, dict[int, Scores]] = defaultdict(dict)
    for path in sorted(directory.glob("*.json")):
        match = re.fullmatch(r"(.+)-(\d+)", path.stem)
        if match:
            name = START_NAMES.get(match[1], match[1])
            runs[name][int(match[2])] = _read(path, read_scores)
    if not runs:
        raise FileNotFoundError(
            f"{directory}: no scores named <start>-<seed>.json; "
            "write them with `python -m spacy bert evaluate --output`"
        )
    path = directory / "baselines.json"
    baselines = _read(path, srsly.read_json) if path.exists() else {}
    return TaskResults(str(directory), dict(runs), baselines)


def pretraining_table(results: PretrainingResults) -> list[dict[str, Any]]:
    """A row for every measure on the dev set, BERT's before the baselines'."""
    metrics = results.metrics
    loss, accuracy = "masked-LM loss (nats)", "next-sentence accuracy"
    rows = [
        {"measure": loss, "system": "BERT", "value": metrics["dev_mlm_loss"]},
        {"measure": loss, "system": "unigrams", "value": metrics["unigram_cross_entropy"]},
    ]
    if metrics.get("nsp_accuracy") is not None:
        systems = {"BERT": metrics["nsp_accuracy"], **metrics["nsp_baselines"]}
        rows += [
            {"measure": accuracy, "system": system, "value": value}
            for system, value in systems.items()
        ]
    return rows


def results_table(task: Task, results: TaskResults) -> list[dict[str, Any]]:
    """A row for every system and baseline: runs, and mean and standard deviation of each score."""
    rows = []
    for name, runs in _all_runs(results).items():
        seeds = len(runs) if name in results.runs else None
        row: dict[str, Any] = {"system": name, "seeds": seeds}
        for key, title in task.scores.items():
            values = [score(scores, key, results.source) for scores in runs.values()]
            row[title] = statistics.mean(values)
            row[f"{title} ±"] = statistics.stdev(values) if len(values) > 1 else None
        rows.append(row)
    return rows


def build_report(
    pretraining: PretrainingResults | None, tasks: dict[str, TaskResults], *, subtitle: str = ""
) -> Report:
    """The report of a workflow.

    Args:
        pretraining: Its pre-training run, if it had one.
        tasks: Name of the task (a key of `TASKS`) to its results.
        subtitle: One line under the title.
    """
    report = Report("spacy_bert: from raw text to a trained pipeline", subtitle)
    report.figures(_key_figures(pretraining, tasks))
    if pretraining is not None:
        _add_pretraining(report, pretraining)
    for name, results in tasks.items():
        _add_task(report, name, results)
    return report


def _key_figures(
    pretraining: PretrainingResults | None, tasks: dict[str, TaskResults]
) -> dict[str, tuple[object, str]]:
    figures: dict[str, tuple[object, str]] = {}
    if pretraining is not None:
        metrics = pretraining.metrics
        figures["Dev masked-LM loss"] = (
            f"{metrics['dev_mlm_loss']:.2f}",
            f"nats a piece; unigram {metrics['unigram_cross_entropy']:.2f}",
        )
        if metrics.get("nsp_accuracy") is not None:
            others = metrics["nsp_baselines"]
            best = max(others, key=lambda name: others[name], default=None)
            note = "accuracy" if best is None else f"accuracy; {best} {others[best]:.1%}"
            figures["Next sentence"] = (f"{metrics['nsp_accuracy']:.1%}", note)
    for name, results in tasks.items():
        task = TASKS[name]
        (key, title), *_ = task.scores.items()
        for system, runs in results.runs.items():
            mean = statistics.mean(score(scores, key, results.source) for scores in runs.values())
            note = f"{title} on test, mean of {len(runs)} seeds"
            figures[f"{task.short}: {system}"] = (f"{mean:.1%}", note)
    return figures


def _add_pretraining(report: Report, results: PretrainingResults) -> None:
    metrics, source = results.metrics, results.source
    report.section("Pre-training")
    if "corpus" in metrics:
        train = metrics["corpus"]["train"]
        report.text(
            f"{metrics['steps']:,} updates on {train['documents']:,} documents "
            f"({train['sentences']:,} sentences, {train['pieces']:,} pieces), "
            f"{metrics['pieces_per_second']:,.0f} pieces a second (device: {metrics['device']})."
        )
    report.chart(
        "loss",
        plots.loss_curve(results.log, metrics["unigram_cross_entropy"]),
        caption="Masked-LM loss by step; the dashed line is what the frequencies of the pieces "
        "alone allow.",
        source=f"{source}/log.jsonl, {source}/metrics.json",
    )
    if metrics.get("nsp_accuracy") is not None:
        report.chart(
            "next-sentence",
            plots.bars(
                {"BERT": metrics["nsp_accuracy"], **metrics["nsp_baselines"]},
                title="accuracy of next-sentence prediction on dev",
                chance=0.5,
            ),
            caption="Next-sentence prediction beside cheap ways to guess it; "
            "on a balanced set chance is one half.",
            source=f"{source}/metrics.json",
        )


def _add_task(report: Report, name: str, results: TaskResults) -> None:
    task = TASKS[name]
    (key, title), *_ = task.scores.items()
    systems = _all_runs(results)
    report.section(task.title).text(task.note)
    report.table(
        name,
        results_table(task, results),
        caption="Scores on the test set; the best of each column is marked.",
        source=f"{results.source}/*.json (spacy bert evaluate)",
        best=list(task.scores.values()),
    )
    report.chart(
        f"{name}-seeds",
        plots.seeds(
            [
                {"system": system, "run": f"seed {seed}", "score": scores[key]}
                for system, runs in systems.items()
                for seed, scores in runs.items()
            ],
            order=list(systems),
            title=f"{title} on test",
        ),
        caption="Every seed is a point, the bar is their mean; the baselines have no seed.",
        source=f"{results.source}/*.json",
    )
    if task.by_label is not None:
        _add_labels(report, name, results, task.by_label)


def _add_labels(report: Report, name: str, results: TaskResults, by_label: str) -> None:
    labels = [
        {
            "label": label,
            "system": system,
            "score": statistics.mean(scores[by_label][label]["f"] for scores in runs.values()),
        }
        for system, runs in results.runs.items()
        for label in next(iter(runs.values())).get(by_label, {})
    ]
    if labels:
        report.chart(
            f"{name}-labels",
            plots.by_label(labels, systems=list(results.runs), title="F1 on test, mean of seeds"),
            caption="F1 of every label by start; the line between the two is what the start makes.",
            source=f"{results.source}/*.json",
        )


def _all_runs(results: TaskResults) -> dict[str, dict[int, Scores]]:
    return {**results.runs, **{name: {0: scores} for name, scores in results.baselines.items()}}


def score(scores: Scores, key: str, source: str) -> float:
    """One of the scores that spaCy gives.

    Raises:
        ValueError: If it is not there; names the source.
    """
    value = scores.get(key)
    if not isinstance(value, (int, float)):
        raise ValueError(f"{source}: a file has no score {key!r}; evaluate the pipeline again")
    return float(value)


def read_scores(path: Path) -> Scores:
    """The scores of a pipeline, as `spacy bert evaluate` or `spacy evaluate` wrote them."""
    written: dict[str, Any] = srsly.read_json(path)
    if "scores" not in written:
        return written
    return {key: value for found in written["scores"].values() for key, value in found.items()}


def _read(path: Path, reader: Any) -> Any:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; run the step that writes it first")
    try:
        return reader(path)
    except ValueError as error:
        raise ValueError(
            f"{path}: not valid JSON ({error}); delete it and make it again"
        ) from error
