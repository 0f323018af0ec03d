"""The command `data choices`: multiple choice in official formats -> `.spacy` files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.splits import echo_splits


def choices(
    task: Annotated[
        str,
        typer.Argument(
            help="swag, codah, comve-a (which of two statements is against common sense?), comve-b "
            "(why is it?) or openbookqa."
        ),
    ],
    source: Annotated[Path, typer.Argument(help="Directory of the official files, also .gz.")],
    output: Annotated[Path, typer.Argument(help="Directory to write to.")],
    lang: Annotated[str, typer.Option(help="Code of the language, for its tokenizer.")] = "en",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Pass over malformed rows, and list them.")
    ] = False,
) -> None:
    """Turn questions with choices into train.spacy, dev.spacy and test.spacy for bert_choice.

    Each becomes a Doc of the context and its choices; doc.cats says which is right. A split without
    a file is left out. codah has no splits: 80 % of its rows, shuffled, are for training, the
    others for dev.

    Expected are, of swag, train.csv, val.csv and test.csv; of codah, full_data.tsv; of openbookqa,
    train.jsonl, dev.jsonl and test.jsonl; of ComVE the directories of its authors, or
    train_subtaskA_data.csv, train_subtaskA_answers.csv and so on.

    Example: python -m spacy bert data choices swag swagaf/data swag
    """
    with one_line_errors():
        from spacy_bert.datasets.choices import TASKS, write_choices
        from spacy_bert.datasets.splits import find_task
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        files = {split: names[0] for split, names in find_task(TASKS, task).files.items()}
        bad = BadRows(skip=skip_bad_rows)
        splits = write_choices(task, source, output, blank_pipeline(lang), bad)
    echo_splits(files, splits, source, bad.problems)
