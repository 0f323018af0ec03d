"""What the commands that look inside share: arguments, a report, what is printed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.report import print_table

if TYPE_CHECKING:
    from spacy_bert.analysis.look_inside import Look
    from spacy_bert.analysis.report import Report

Model = Annotated[str, typer.Argument(help="A pipeline, or the checkpoint of a BERT.")]
Data = Annotated[Path, typer.Argument(help=".spacy, .conllu, .json (SQuAD) or .txt.")]
Gold = Annotated[Path, typer.Argument(help="Annotated Docs, .spacy; or questions, .json (SQuAD).")]
Trees = Annotated[Path, typer.Argument(help="Docs with dependency trees: .conllu or .spacy.")]
Clusters = Annotated[Path, typer.Argument(help="Docs with clusters in doc.spans: .spacy.")]
Questions = Annotated[Path, typer.Argument(help="Questions with answers: .json (SQuAD) or .spacy.")]
Component = Annotated[
    str | None, typer.Option(help="The component that is meant, if there are several.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Docs at most, from the first.  [all]")]
Few = Annotated[int, typer.Option(min=1, help="Docs at most, from the first.")]
Page = Annotated[Path | None, typer.Option("--report", help="HTML file to write.")]
Gpu = Annotated[int, typer.Option(help="GPU; -1: CPU.")]


@contextmanager
def looking(
    model: str,
    data: Path | str,
    page: Path | None,
    component: str | None,
    gpu_id: int,
    title: str,
    *,
    learned: Path | None = None,
) -> Iterator[Look]:
    """What every command does before and after."""
    from thinc.api import require_gpu
    from tqdm import tqdm

    from spacy_bert.analysis.inputs import load_pipeline
    from spacy_bert.analysis.look_inside import Look
    from spacy_bert.analysis.report import Report

    with one_line_errors():
        if page is not None:
            require_page(page)
        if gpu_id >= 0:
            require_gpu(gpu_id)
        report = Report(f"spacy_bert: {title}", f"{model} on {data}")
        with tqdm(unit="step", disable=None, dynamic_ncols=True) as bar:
            yield Look(
                report=report,
                nlp=load_pipeline(model),
                source=f"{model} on {data}",
                learned=None if learned is None else str(learned),
                component=component,
                progress=bar.update,
            )
        echo(report)
        if page is not None:
            report.save_page(page)
            typer.echo(f"\nReport: {page}")


def require_page(page: Path) -> None:
    """Refuse a report that is no page.

    Raises:
        ValueError: If its name does not end in `.html`.
    """
    if page.suffix != ".html":
        raise ValueError(f"{page}: the report is a page; let its name end in .html")


def echo(report: Report) -> None:
    """Print what a report says without pictures."""
    for said in report.said:
        if isinstance(said, str):
            typer.echo(said)
        else:
            print_table("", said)
