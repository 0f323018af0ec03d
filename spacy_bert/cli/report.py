"""Commands that judge and show results: `baselines`, `report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from spacy_bert.cli.errors import one_line_errors


def baselines(
    train: Annotated[Path, typer.Argument(help="Training set, .spacy.")],
    test: Annotated[Path, typer.Argument(help="Test set, .spacy.")],
    output: Annotated[Path, typer.Argument(help="JSON file to write the scores to.")],
) -> None:
    """Score cheap baselines on a test set, as spaCy scores pipelines.

    Of text classification (exclusive doc.cats): the majority, tf-idf + logistic regression. Of
    named entities (doc.ents): the most frequent label of the word, and logistic regression on the
    shapes of words and on the words themselves. Of questions (doc.spans["answers"]): never to
    answer, and the sentence most like the question. What the training set holds decides.

    Example: python -m spacy bert baselines train.spacy test.spacy metrics/textcat/baselines.json
    """
    import srsly

    from spacy_bert.experiments.baselines import score_baselines
    from spacy_bert.experiments.summary import TASKS
    from spacy_bert.files import replacing

    with one_line_errors():
        scores = score_baselines(train, test)
        with replacing(output) as temporary:
            srsly.write_json(temporary, scores)
    titles = {key: title for task in TASKS.values() for key, title in task.scores.items()}
    for name, found in scores.items():
        figures = [f"{titles[key]} {found[key]:.3f}" for key in titles if key in found]
        typer.echo(f"{name}: {', '.join(figures)}")


def report(
    output: Annotated[Path, typer.Argument(help="Directory for index.html, PNGs and a JSON.")],
    pretrained: Annotated[
        Path | None, typer.Option(help="Output directory of `pretrain`: log.jsonl, metrics.json.")
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option(help="Directory with TASK/START-SEED.json of `evaluate`.")
    ] = None,
) -> None:
    """Gather the results of a workflow: a table on the console, an off-line HTML report on disk.

    Example: python -m spacy bert report report --pretrained pretrained --metrics metrics
    """
    from spacy_bert.experiments.summary import (
        TASKS,
        build_report,
        pretraining_table,
        read_pretraining,
        read_task,
        results_table,
    )

    with one_line_errors():
        if pretrained is None and metrics is None:
            raise ValueError("nothing to report; give --pretrained or --metrics")
        pretraining = read_pretraining(pretrained) if pretrained else None
        names = [name for name in TASKS if metrics and (metrics / name).is_dir()]
        if metrics and not names:
            raise FileNotFoundError(
                f"{metrics}: has no directory named {' or '.join(TASKS)}, of files "
                "START-SEED.json; `compare` leaves them in OUTPUT/metrics and reports them itself"
            )
        tasks = {name: read_task(metrics / name) for name in names if metrics}
        tables = {TASKS[name].title: results_table(TASKS[name], tasks[name]) for name in tasks}
        page = build_report(pretraining, tasks).save(output)
    if pretraining:
        print_table("Pre-training, dev set", pretraining_table(pretraining))
    for title, rows in tables.items():
        print_table(f"{title}, test set", rows)
    typer.echo(f"\nReport: {page}")


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table; gaps show as a dash."""
    from wasabi.tables import table

    from spacy_bert.analysis.report_blocks import format_value

    header = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[format_value(row.get(column)) for column in header] for row in rows]
    numeric = [any(isinstance(row.get(each), (int, float)) for row in rows) for each in header]
    typer.echo(f"\n{title}")
    typer.echo(
        table(cells, header=header, divider=True, aligns=["r" if n else "l" for n in numeric])
    )
