"""The command of grid searches: `grid`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors


def grid(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Config for `spacy train`.")],
    output: Annotated[Path, typer.Argument(help="Directory for models, scores and report.")],
    batch_size: Annotated[
        list[int] | None,
        typer.Option(help="Docs in a batch, repeated; default: 16, 32."),
    ] = None,
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(help="Peak, repeated; default: 5e-5, 3e-5, 2e-5."),
    ] = None,
    epochs: Annotated[
        list[int] | None, typer.Option(help="Passes, repeated; default: 3, 4.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Times each point is trained.")] = 1,
    jobs: Annotated[
        int, typer.Option(help="Trainings at a time; of several, output goes to OUTPUT/logs.")
    ] = 1,
    gpu_id: Annotated[int, typer.Option(help="GPU; -1: CPU.")] = -1,
    keep_best: Annotated[
        bool, typer.Option("--keep-best", help="At the end, remove all models but the best.")
    ] = False,
) -> None:
    """Train a config at every point of a grid, as the paper does; a table, a plot, the best model.

    Batch sizes are Docs: max_docs of a batcher that has it, else size; of a batcher that counts
    something else and has no max_docs, they are in what it counts, and must be given. The learning
    rate rises and falls over the steps that the epochs make. Each point is scored on the
    development set after its last step. The same command goes on where it was stopped; points
    whose config and files have not changed are skipped. Any field of the config can be overridden
    for all points: --section.field VALUE.

    Example: python -m spacy bert grid configs/textcat.cfg grid --paths.train train.spacy
    --paths.dev dev.spacy

    Example: python -m spacy bert grid config.cfg grid --batch-size 32 --learning-rate 1e-4
    --learning-rate 3e-4 --epochs 3 --seeds 3 --jobs 2
    """
    with one_line_errors():
        from spacy_bert.cli.report import print_table
        from spacy_bert.experiments.grid import EPOCHS, LEARNING_RATES, Grid, Setting
        from spacy_bert.pretraining.config import parse_overrides

        setting = Setting(
            config=config,
            overrides=parse_overrides(context.args),
            output=output,
            batch_sizes=batch_size,
            learning_rates=learning_rate or LEARNING_RATES,
            epochs=epochs or EPOCHS,
            seeds=seeds,
            jobs=jobs,
            gpu_id=gpu_id,
            keeps_best_only=keep_best,
        )
        search = Grid(setting, typer.echo)
        best = search.run()
        print_table("Development set, after the last step", search.table())
        typer.echo(f"\nBest: {search.model(best)}")
        page = search.report().save(output / "report")
    typer.echo(f"Report: {page}")
