"""The command `data babi`: bAbI's stories -> training data for `bert_span_qa`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.splits import echo_problems


def babi(
    source: Annotated[Path, typer.Argument(help="qa1_single-supporting-fact_train.txt; also .gz.")],
    output: Annotated[Path, typer.Argument(help="File to write, .spacy.")],
    skip_other_answers: Annotated[
        bool,
        typer.Option(
            "--skip-other-answers",
            help="Leave out questions whose answer is no word of the story (yes, two), and count.",
        ),
    ] = False,
    lang: Annotated[str, typer.Option(help="Code of the language.")] = "en",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out malformed lines, and say which.")
    ] = False,
) -> None:
    """Turn the questions of a bAbI task into a Doc each, of the question and the story so far.

    The answer is a word of the story. The facts that support it stand in
    doc.spans["supporting_facts"].

    Example: python -m spacy bert data babi qa1_single-supporting-fact_train.txt train.spacy
    """
    with one_line_errors():
        from spacy_bert.datasets.babi import write_babi
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        bad = BadRows(skip=skip_bad_rows)
        nlp = blank_pipeline(lang)
        counts = write_babi(source, output, nlp, bad, skip_other=skip_other_answers)
    echo_problems(bad.problems)
    typer.echo(
        f"{output}: {counts.questions:,} questions on {counts.stories:,} stories, "
        f"{counts.unsupported:,} answers in no supporting fact; left out: {counts.other:,} "
        f"questions whose answer is no word of the story, {len(bad.problems):,} malformed lines"
    )
