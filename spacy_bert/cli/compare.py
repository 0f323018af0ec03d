"""The command that sets a pre-trained start beside a random one: `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors


def compare(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help='Config for `spacy train` with a "bert".')],
    output: Annotated[Path, typer.Argument(help="Directory for the pipelines.")],
    test: Annotated[Path, typer.Option(help="Set that all are scored on, .spacy.")],
    metrics: Annotated[
        Path | None, typer.Option(help="Directory for the scores.  [OUTPUT/metrics]")
    ] = None,
    start: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=DIR, a checkpoint to start from, repeated for several; default: what the "
            "config names, as pretrained."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings from each start.")] = 1,
    random_seeds: Annotated[int, typer.Option(help="Trainings from random weights.")] = 1,
    max_steps: Annotated[
        int | None,
        typer.Option(help="Length of a training, the learning rate's rise and fall included."),
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="Trainings at a time; of several, output goes to OUTPUT/logs.")
    ] = 1,
    gpu_id: Annotated[int, typer.Option(help="GPU; -1: CPU.")] = -1,
) -> None:
    """Is pre-training worth it? Train a config from pre-trained and from random weights.

    Each start is trained with several seeds by `spacy train`; the best pipeline on the dev set is
    scored on the test set, and OUTPUT/report shows means and spreads. The same command goes on
    where it was stopped; what is done and whose inputs have not changed is skipped. Any field of
    the config can be overridden: --section.field VALUE.

    Example: python -m spacy bert compare configs/textcat.cfg training/textcat
    --test corpus/textcat/test.spacy --seeds 3 --random-seeds 3 --jobs 2

    Example: python -m spacy bert compare textcat.cfg adapted-or-not --test test.spacy
    --start adapted=output/model-last --start before=bert-base-uncased --seeds 3 --gpu-id 0
    """
    with one_line_errors():
        from spacy_bert.cli.report import print_table
        from spacy_bert.experiments.comparison import PRETRAINED, Comparison, Setting
        from spacy_bert.pretraining.config import parse_overrides

        starts: dict[str, str | None] = {}
        for one in start or ():
            name, _, checkpoint = one.partition("=")
            if not checkpoint or name in starts:
                raise ValueError(f"--start {one}: write NAME=DIR, each name once")
            starts[name] = checkpoint
        comparison = Comparison(
            Setting(
                config=config,
                overrides=parse_overrides(context.args),
                test=test,
                output=output,
                metrics=output / "metrics" if metrics is None else metrics,
                starts=starts or {PRETRAINED: None},
                seeds=seeds,
                random_seeds=random_seeds,
                max_steps=max_steps,
                jobs=jobs,
                gpu_id=gpu_id,
            ),
            typer.echo,
        )
        comparison.run()
        table = comparison.table()
        page = comparison.report().save(output / "report")
    print_table(comparison.title, table)
    typer.echo(f"\nReport: {page}")
