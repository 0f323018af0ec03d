"""The command `data table`: any table of texts with classes or values -> `.spacy` files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.splits import echo_problems


def table(
    source: Annotated[Path, typer.Argument(help=".csv, .tsv or .jsonl, also .gz.")],
    output: Annotated[Path, typer.Argument(help="File to write, .spacy.")],
    text: Annotated[
        list[str],
        typer.Option(help="Column of the text; twice for pairs, which become two segments."),
    ],
    label: Annotated[str | None, typer.Option(help="Column of the class.")] = None,
    divider: Annotated[
        str | None,
        typer.Option(help="What stands between several classes of a cell (multilabel)."),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(help="Column of a real value, may be repeated (regression)."),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            help='Of cells, such as ";" or "tab"; quotes then mean something in .tsv too.'
        ),
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="A second .spacy file, for a random share of the rows.")
    ] = None,
    dev_share: Annotated[float, typer.Option(help="That share.")] = 0.1,
    lang: Annotated[str, typer.Option(help="Code of the language, for its tokenizer.")] = "en",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Pass over malformed rows, and list them.")
    ] = False,
) -> None:
    """Turn a table of texts into training data for bert_textcat: a Doc for each row.

    Columns are named by the first line; of .jsonl, they are the fields of each object, and a list
    of classes needs no divider. In .tsv quotes mean nothing, unless --delimiter tab is given.
    doc.cats holds each class as 1.0 or 0.0, or the values. Classes of
    which several may hold want mode = "multilabel", values want mode = "regression".

    \b
    Examples:
      python -m spacy bert data table reviews.csv train.spacy --text review --label stars \\
        --dev dev.spacy
      python -m spacy bert data table pairs.tsv train.spacy --text premise --text hypothesis \\
        --label relation
      python -m spacy bert data table tickets.csv train.spacy --text body --label tags --divider ";"
      python -m spacy bert data table sts.jsonl train.spacy --text a --text b --value score
    """  # noqa: D301 - click wants the character, as a mark of lines that stay apart
    with one_line_errors():
        from spacy_bert.datasets.tables import Columns, write_table
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        bad = BadRows(skip=skip_bad_rows)
        columns = Columns(texts=text, label=label, divider=divider, values=value or [])
        written = write_table(
            source,
            output,
            blank_pipeline(lang),
            bad,
            columns=columns,
            delimiter="\t" if delimiter == "tab" else delimiter,
            dev=dev,
            dev_share=dev_share,
        )
    echo_problems(bad.problems)
    for path, counts in written.items():
        found = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.labels.items()))
        typer.echo(f"{path}: {counts.docs:,} Docs ({found or 'no class holds'})")
