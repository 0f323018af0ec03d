"""The command `data iob`: tokens in columns, with tags of entities -> `.spacy` files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.splits import echo_problems


def iob(
    source: Annotated[Path, typer.Argument(help="A token a line, in columns; also .gz.")],
    output: Annotated[Path, typer.Argument(help="File to write, .spacy.")],
    scheme: Annotated[
        str | None,
        typer.Option(help="iob1, iob2 (BIO) or bioes (BILOU), if not what the tags look like."),
    ] = None,
    documents: Annotated[
        bool,
        typer.Option("--documents", help="A Doc for each document (-DOCSTART-), not sentence."),
    ] = False,
    word_column: Annotated[int, typer.Option(help="Where the word is, counted from 1.")] = 1,
    tag_column: Annotated[
        int, typer.Option(help="Where the entity's tag is; from the end if negative.")
    ] = -1,
    pos_column: Annotated[
        int | None, typer.Option(help="Where the part of speech is, for token.tag_.")
    ] = None,
    comment: Annotated[
        str | None, typer.Option(help='Pass over lines that begin with this, such as "# ".')
    ] = None,
    lang: Annotated[str, typer.Option(help="Code of the language.")] = "en",
    skip_bad_rows: Annotated[
        bool,
        typer.Option("--skip-bad-rows", help="Leave out sentences with a malformed row, and list."),
    ] = False,
) -> None:
    """Turn CoNLL-2003, or columns like it, into a file for bert_ner or spaCy's ner.

    A blank line ends a sentence. A tag that its scheme forbids where it stands, such as I-PER after
    O in iob2, is an error that names the line.

    Example: python -m spacy bert data iob eng.train train.spacy --documents
    """
    with one_line_errors():
        from spacy_bert.datasets.iob import Columns, write_iob
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        bad = BadRows(skip=skip_bad_rows)
        counts = write_iob(
            source,
            output,
            blank_pipeline(lang),
            bad,
            columns=Columns(word=word_column, tag=tag_column, pos=pos_column),
            scheme=scheme,
            documents=documents,
            comment=comment,
        )
    echo_problems(bad.problems)
    found = ", ".join(f"{label} {count:,}" for label, count in sorted(counts.entities.items()))
    kind = "document" if documents else "sentence"
    typer.echo(
        f"{output}: a Doc for each {kind}: {counts.documents:,} documents, "
        f"{counts.sentences:,} sentences, "
        f"{counts.tokens:,} tokens; entities ({counts.scheme}): {found or 'none'}; "
        f"{len(bad.problems):,} malformed sentences left out"
    )
