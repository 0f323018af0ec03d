"""The command `data squad`: training data for `bert_span_qa`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.splits import echo_problems


def squad(
    source: Annotated[Path, typer.Argument(help="SQuAD 1.1 or 2.0: .json, also .gz.")],
    output: Annotated[Path, typer.Argument(help="File to write, .spacy.")],
    lang: Annotated[str, typer.Option(help="Code of the language.")] = "en",
    skip_bad_rows: Annotated[
        bool,
        typer.Option("--skip-bad-rows", help="Leave out malformed questions, and say which."),
    ] = False,
) -> None:
    """Turn questions in SQuAD's format into training data: a Doc of question and context each.

    An answer that is not where "answer_start" says is an error. Questions without answer (SQuAD
    2.0) want null_answers = true: init-config --pipeline bert_span_qa --null-answers.

    Example: python -m spacy bert data squad train-v1.1.json train.spacy
    """
    with one_line_errors():
        from spacy_bert.datasets.squad import write_squad
        from spacy_bert.datasets.writing import BadRows

        rows = BadRows(skip=skip_bad_rows)
        counts = write_squad(source, output, lang=lang, rows=rows)
    echo_problems(rows.problems)
    typer.echo(
        f"{output}: {counts['questions']:,} questions, {counts['unanswerable']:,} without answer, "
        f"{counts['answers']:,} answers, of which {counts['inexact']:,} begin or end in a token; "
        f"{len(rows.problems):,} malformed questions left out"
    )
