"""What an ablation study found: our table beside the paper's, and a page with charts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import srsly

from spacy_bert.analysis.report import Report
from spacy_bert.experiments import plots
from spacy_bert.experiments.ablations import Ablation
from spacy_bert.experiments.studies import Arm, Measure
from spacy_bert.experiments.summary import TASKS, Scores, score

Row = dict[str, Any]
LOSS, STEPS = "dev LM loss", "steps"


def study_table(ablation: Ablation) -> list[Row]:
    """A row for every arm, with the paper's figures where it has the row, then the baselines."""
    study = ablation.study
    beside = has_paper_rows(ablation)
    columns = list(dict.fromkeys(key for row in study.paper.values() for key in row))
    rows: list[Row] = []
    for arm in study.arms:
        row: Row = {"arm": arm.title, STEPS: ablation.steps(arm), LOSS: ablation.dev_loss(arm)}
        for measure in study.measures:
            values = arm_scores(ablation, arm, measure)
            row[measure.title] = statistics.mean(values)
            row[f"± {measure.name}"] = statistics.stdev(values) if len(values) > 1 else None
        if beside:
            figures: Mapping[str, float] = study.paper.get(arm.title, {})
            row |= {f"paper {column}": figures.get(column) for column in columns}
        rows.append(row)
    return rows + _baseline_rows(ablation, list(rows[0]))


def paper_table(ablation: Ablation) -> list[Row]:
    """The paper's own table, empty if it has none."""
    return [{"arm": title, **row} for title, row in ablation.study.paper.items()]


def has_paper_rows(ablation: Ablation) -> bool:
    """Whether the paper has a row of the same name as one of the arms."""
    return any(arm.title in ablation.study.paper for arm in ablation.study.arms)


def unigram_note(ablation: Ablation) -> str:
    """What a dev loss must be below for anything to have been learned of contexts."""
    loss = ablation.unigram_loss()
    return f"A dev loss near {loss:.3f} nats is no better than the frequencies of the pieces."


def arm_scores(ablation: Ablation, arm: Arm, measure: Measure) -> list[float]:
    """The main score of each seed on the test set."""
    files = [ablation.metrics_file(arm, measure, seed) for seed in range(ablation.setting.seeds)]
    return [_main(srsly.read_json(file), measure, str(file)) for file in files]


def build_study_report(ablation: Ablation) -> Report:
    """The page of a study."""
    study, setting = ablation.study, ablation.setting
    report = Report(f"spacy_bert: {study.title[0].lower()}{study.title[1:]}", study.source)
    first = next(iter(ablation.configs.values()))
    report.text(
        f"Pre-training: {setting.pretrain_config}, {first.training.steps:,} steps. Fine-tuning: "
        f"{', '.join(map(str, setting.finetune_configs.values()))}, {setting.seeds} "
        f"seed{'s' if setting.seeds > 1 else ''} for each arm. Scores are those of the test sets, "
        "from 0 to 1; the paper's are in percent, of other data and larger networks: what can be "
        "compared is which arm is better, if the difference is more than that of seeds."
    )
    report.text(f"{unigram_note(ablation)} {study.note}")
    report.table(
        "arms",
        study_table(ablation),
        caption="Every arm on our tasks, and the paper's figures where it has the arm. The loss is "
        "in nats a piece.",
        source=f"{setting.output}/metrics/*/*.json; {study.source}",
        best=[measure.title for measure in study.measures],
    )
    if study.paper and not has_paper_rows(ablation):
        report.table(
            "paper", paper_table(ablation), caption=f"{study.source}.", source=study.source
        )
    for measure in study.measures:
        _add_chart(report, ablation, measure)
    return report


def _add_chart(report: Report, ablation: Ablation, measure: Measure) -> None:
    arms = ablation.study.arms
    source = f"{ablation.setting.output}/metrics/{measure.name}/*.json"
    rows = [
        {"system": arm.title, "step": ablation.steps(arm), "run": f"seed {seed}", "score": value}
        for arm in arms
        for seed, value in enumerate(arm_scores(ablation, arm, measure))
    ]
    title = f"{measure.title} on test"
    if any(arm.run.is_cut for arm in arms):
        order = list(dict.fromkeys(arm.title for arm in arms if arm.parts))
        # Fresh weights are where every curve begins, one of them for all.
        start = [row for row in rows if not row["step"]]
        rows = [row for row in rows if row["step"]]
        rows += [{**row, "system": system} for row in start for system in order]
        report.chart(
            measure.name,
            plots.score_curve(rows, order=order, title=title),
            caption=f"{measure.title} after fine-tuning, by steps of pre-training before it; every "
            "seed is a point, the line joins their means.",
            source=source,
        )
        return
    report.chart(
        measure.name,
        plots.seeds(rows, order=[arm.title for arm in arms], title=title, from_zero=False),
        caption=f"{measure.title} of every arm: each seed is a point, the bar is their mean. The "
        "axis does not begin at 0.",
        source=source,
    )


def _baseline_rows(ablation: Ablation, columns: list[str]) -> list[Row]:
    rows: dict[str, Row] = {}
    for measure in ablation.study.measures:
        if measure.is_feature_based:
            continue
        file = ablation.baselines_file(measure)
        for name, scores in srsly.read_json(file).items():
            row = rows.setdefault(name, {**dict.fromkeys(columns), "arm": name})
            row[measure.title] = _main(scores, measure, str(file))
    return list(rows.values())


def _main(scores: Scores, measure: Measure, source: str) -> float:
    return score(scores, next(iter(TASKS[measure.task].scores)), source)
