"""Commands that make data sets: `data pydocs`, `english`, and readers of official formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.data_babi import babi
from spacy_bert.cli.data_choices import choices
from spacy_bert.cli.data_conllu import conllu
from spacy_bert.cli.data_glue import glue
from spacy_bert.cli.data_hotpotqa import hotpotqa
from spacy_bert.cli.data_iob import iob
from spacy_bert.cli.data_probing import dpr, edges, gap, semeval2010, trec
from spacy_bert.cli.data_squad import squad
from spacy_bert.cli.data_table import table
from spacy_bert.cli.errors import one_line_errors

data = typer.Typer(name="data", help="Make data sets.", no_args_is_help=True, rich_markup_mode=None)
data.command("table", no_args_is_help=True)(table)
data.command("glue", no_args_is_help=True)(glue)


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
    """Turn Python's own documentation into a corpus and labelled sets, without any download.

    Writes corpus.txt (for pre-training), textcat/{train,dev,test}.spacy (the area of a docstring's
    module, names of modules masked), ner/{train,dev,test}.spacy (names of code that authors marked,
    the marks taken away), qa/{train,dev,test}.spacy (questions about what docstrings say in set
    phrases, and some that they do not answer) and stats.json. The labels are derived; the splits
    share no module.

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
    for task, labels in {"textcat": "areas", "ner": "labels", "qa": "kinds"}.items():
        for split, sizes in stats[task].items():
            found = ", ".join(f"{label} {count}" for label, count in sizes[labels].items())
            size = f"{sizes['documents']:,} docs of {sizes['modules']} modules"
            typer.echo(f"{task} {split}: {size} ({found})")


@data.command("english", no_args_is_help=True)
def english(
    output: Annotated[Path, typer.Argument(help="File to write, .jsonl.gz.")],
    wikipedia: Annotated[
        Path | None, typer.Option(help="Articles: .jsonl(.gz) with a field text.")
    ] = None,
    novels: Annotated[
        Path | None, typer.Option(help="Novels: .jsonl(.gz) with a list of texts in chapters.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="Text with blank lines between documents.")
    ] = None,
) -> None:
    """Put articles, chapters of novels and other documents into one pre-training corpus.

    Example: python -m spacy bert data english english.jsonl.gz --wikipedia articles.jsonl.gz
    --novels novels.jsonl.gz --text corpus/corpus.txt
    """
    from spacy_bert.datasets.english import write_english

    with one_line_errors():
        counts = write_english(output, wikipedia=wikipedia, novels=novels, text=text)
    found = ", ".join(f"{count:,} of {name}" for name, count in counts.items())
    typer.echo(f"{output}: documents {found}")


data.command("iob", no_args_is_help=True)(iob)
data.command("squad", no_args_is_help=True)(squad)
data.command("babi", no_args_is_help=True)(babi)
data.command("hotpotqa", no_args_is_help=True)(hotpotqa)
data.command("choices", no_args_is_help=True)(choices)
data.command("conllu", no_args_is_help=True)(conllu)
data.command("gap", no_args_is_help=True)(gap)
data.command("dpr", no_args_is_help=True)(dpr)
data.command("semeval2010", no_args_is_help=True)(semeval2010)
data.command("trec", no_args_is_help=True)(trec)
data.command("edges", no_args_is_help=True)(edges)
