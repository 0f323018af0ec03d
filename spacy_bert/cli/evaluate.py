"""The command `evaluate`: all scores of a pipeline, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spacy_bert.cli.errors import one_line_errors

if TYPE_CHECKING:
    from spacy_bert.experiments.evaluation import Component


def evaluate(
    pipeline: Annotated[str, typer.Argument(help="Directory or name of a pipeline.")],
    data: Annotated[Path, typer.Argument(help="Annotated Docs: .spacy, or a directory of them.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file for all of it.")
    ] = None,
    gpu_id: Annotated[int, typer.Option("--gpu-id", "-g", help="-1 for the CPU.")] = -1,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Docs taken at once.  [that of the pipeline]")
    ] = None,
    code: Annotated[
        Path | None, typer.Option("--code", "-c", help="Python file to import before.")
    ] = None,
) -> None:
    """Score a pipeline: every score that its components give, beside cheap baselines, and speed.

    A component whose task has no gold standard in the data is named and not scored. The speed
    counts the tokenizer, and the first batch too.

    Example: python -m spacy bert evaluate model/model-best dev.spacy --output scores.json
    """
    with one_line_errors():
        import spacy
        import srsly
        from spacy.cli._util import import_code
        from thinc.api import require_gpu
        from tqdm import tqdm

        from spacy_bert.experiments.evaluation import evaluate as run
        from spacy_bert.files import replacing
        from spacy_bert.mistaken import refuse_runs

        import_code(code)
        if gpu_id >= 0:
            require_gpu(gpu_id)
        refuse_runs(Path(pipeline))
        nlp = spacy.load(pipeline)
        with tqdm(unit="Doc", disable=None, dynamic_ncols=True) as bar:
            result = run(nlp, data, batch_size=batch_size, progress=bar.update)
        if output is not None:
            with replacing(output) as temporary:
                srsly.write_json(temporary, result.to_dict())
    typer.echo(f"{pipeline} on {data}: {result.docs:,} Docs, {result.words:,} words")
    for component in result.components:
        if component.not_scored:
            typer.echo(f"\n{component.name}: not scored, {component.not_scored} in {data}")
        else:
            _echo(component)
    typer.echo(
        f"\nSpeed on {'the CPU' if gpu_id < 0 else f'GPU {gpu_id}'}: "
        f"{result.docs / result.seconds:,.1f} docs/s, {result.words / result.seconds:,.0f} words/s"
    )
    if output is not None:
        typer.echo(f"Scores: {output}")


def _echo(component: Component) -> None:
    from spacy_bert.experiments.score_names import format_score, label_tables, name_score

    scores, rows = component.scores, []
    for key, value in scores.items():
        if not isinstance(value, (int, float)):
            continue
        baseline = component.baselines.get(key)
        beside = ""
        if baseline is not None:
            beside = f"{format_score(key, baseline.value, scores)} ({baseline.name})"
        rows.append([name_score(key, scores), format_score(key, value, scores), beside])
    width = 3 if component.baselines else 2
    header = [component.name, "score", "baseline"]
    _echo_table(header[:width], [row[:width] for row in rows])
    for labels in label_tables(scores).values():
        columns = list(dict.fromkeys(column for row in labels.values() for column in row))
        cells = [[label, *(row.get(c, "") for c in columns)] for label, row in labels.items()]
        _echo_table(["label", *columns], cells)


def _echo_table(header: list[str], rows: list[list[str]]) -> None:
    from wasabi.tables import table

    text = table(
        rows,
        header=header,
        divider=True,
        aligns=["l" if name in (header[0], "baseline") else "r" for name in header],
        max_col=80,
    )
    typer.echo("\n" + "\n".join(line.rstrip() for line in text.strip("\n").split("\n")))
