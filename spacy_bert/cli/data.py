"""Commands that make data sets: `data pydocs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors

data = typer.Typer(name="data", help="Make data sets.", no_args_is_help=True, rich_markup_mode=None)


@data.callback()
def _group() -> None:
    """Make data sets."""


@data.command("pydocs", no_args_is_help=True)
def pydocs(
    output: Annotated[Path, typer.Argument(help="Directory to write to.")],
    library: Annotated[
        Path | None, typer.Option(help="Python's library, if not the running one's.")
    ] = None,
) -> None:
    """Turn Python's own documentation into a corpus and a labelled set, without any download.

    Writes corpus.txt (for pre-training), textcat/{train,dev,test}.spacy (the area of a docstring's
    module: derived labels, split by module, names of modules masked) and stats.json.

    Example: python -m spacy bert data pydocs corpus
    """
    from spacy_bert.datasets.embedded import write_pydocs

    with one_line_errors():
        stats = write_pydocs(output, library)
    counts = stats["corpus"]
    typer.echo(
        f"Documentation of Python {stats['python']}: {counts['documents']:,} documents, "
        f"{counts['sentences']:,} sentences, {counts['words']:,} words, "
        f"{counts['modules']} modules, {counts['topics']} topics"
    )
    for split, sizes in stats["textcat"].items():
        areas = ", ".join(f"{area} {count}" for area, count in sizes["areas"].items())
        typer.echo(
            f"{split:>5}: {sizes['documents']:,} docs of {sizes['modules']} modules ({areas})"
        )
