"""The command that repeats the paper's fine-tuning: `reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors


def reproduce(
    context: typer.Context,
    names: Annotated[
        str,
        typer.Argument(
            help="With commas: glue, or of it cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli; "
            "conll2003, or conll2003-documents, conll2003-sentences; squad, or squad1, squad2; "
            "swag; features, or of it conll2003-embeddings, conll2003-last-hidden, ...; and what "
            "is not in the paper: conll2003-joined, sick-e, codah, openbookqa, comve-a, comve-b."
        ),
    ],
    output: Annotated[Path, typer.Argument(help="Directory for models, scores and report.")],
    data: Annotated[
        Path,
        typer.Option(help="Directory with glue/MRPC, ..., conll2003, squad, swag, as published."),
    ],
    encoder: Annotated[
        str, typer.Option(help="The BERT: directory of a checkpoint, or hub id.")
    ] = "bert-base-uncased",
    seeds: Annotated[int, typer.Option(help="Times each is trained.")] = 1,
    random_seeds: Annotated[
        int, typer.Option(help="Times each is trained from random weights.")
    ] = 1,
    learning_rate: Annotated[
        float, typer.Option(help="Its peak; of features, whose BiLSTM has 1e-3, it says nothing.")
    ] = 5e-5,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training set.  [3; SQuAD: 2; features: 10]")
    ] = None,
    train_limit: Annotated[
        int | None, typer.Option(help="Training examples at most, chosen at random.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="Commands at a time; of several, output goes to OUTPUT/logs.")
    ] = 1,
    gpu_id: Annotated[int, typer.Option(help="GPU; -1: CPU.")] = -1,
) -> None:
    """Fine-tune on the paper's tasks by its recipe, and print our figures beside the paper's.

    Official files become Docs, `spacy train` trains, the last model is scored on the sets that the
    paper has, or the development set where it has a test set of which the labels are secret. The
    same training from random weights and what can be had without reading stand beside. The same
    command goes on where it was stopped; what is done and whose inputs have not changed is skipped.
    A task without files is left out, and named. Any field of the training config can be overridden:
    --section.field VALUE.

    Example: python -m spacy bert reproduce mrpc,rte results --data data --seeds 3 --gpu-id 0
    """
    with one_line_errors():
        from spacy_bert.cli.report import print_table
        from spacy_bert.experiments.catalog import find_experiments
        from spacy_bert.experiments.finetuning import Finetuning, Setting
        from spacy_bert.pretraining.config import parse_overrides

        found = find_experiments([name.strip() for name in names.split(",") if name.strip()])
        setting = Setting(
            encoder=encoder,
            data=data,
            output=output,
            seeds=seeds,
            random_seeds=random_seeds,
            learning_rate=learning_rate,
            epochs=epochs,
            overrides=parse_overrides(context.args),
            train_limit=train_limit,
            jobs=jobs,
            gpu_id=gpu_id,
        )
        finetuning = Finetuning(found, setting, typer.echo)
        finetuning.run()
        page = finetuning.report().save(output / "report")
    print_table("Fine-tuning, in percent (paper: BERT base)", finetuning.table())
    for note in finetuning.notes():
        typer.echo(note)
    typer.echo(f"\nReport: {page}")
