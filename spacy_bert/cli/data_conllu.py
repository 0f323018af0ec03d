"""The command `data conllu`: a treebank of Universal Dependencies -> a `.spacy` file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.splits import echo_problems


def conllu(
    source: Annotated[Path, typer.Argument(help="A treebank in CoNLL-U; also .gz.")],
    output: Annotated[Path, typer.Argument(help="File to write, .spacy.")],
    documents: Annotated[
        bool, typer.Option("--documents", help="A Doc for each document (# newdoc), not sentence.")
    ] = False,
    lang: Annotated[str, typer.Option(help="Code of the language.")] = "en",
    skip_bad_rows: Annotated[
        bool,
        typer.Option("--skip-bad-rows", help="Leave out sentences with a malformed row, and list."),
    ] = False,
) -> None:
    """Turn a treebank into Docs with trees, tags, lemmas and morphology.

    Words and white space are those of the file. A multiword token (don't) gives its words (do,
    n't); empty nodes are passed over.

    Example: python -m spacy bert data conllu en_ewt-ud-dev.conllu dev.spacy
    """
    with one_line_errors():
        from spacy_bert.datasets.conllu import write_conllu
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        bad = BadRows(skip=skip_bad_rows)
        vocab = blank_pipeline(lang).vocab
        counts = write_conllu(source, output, vocab, bad, documents=documents)
    echo_problems(bad.problems)
    typer.echo(
        f"{output}: {counts.documents:,} documents, {counts.sentences:,} sentences, "
        f"{counts.words:,} words, {counts.multiword:,} multiword tokens; "
        f"{len(bad.problems):,} malformed sentences left out"
    )
