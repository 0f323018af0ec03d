"""The command `data hotpotqa`: HotpotQA -> training data for `bert_span_qa`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.splits import echo_problems


def hotpotqa(
    source: Annotated[Path, typer.Argument(help="hotpot_train_v1.1.json; also .gz.")],
    output: Annotated[Path, typer.Argument(help="File to write, .spacy.")],
    distractors: Annotated[
        int | None,
        typer.Option(help="Paragraphs without supporting facts to keep, the first ones.  [all]"),
    ] = None,
    lang: Annotated[str, typer.Option(help="Code of the language.")] = "en",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out malformed questions, and say which.")
    ] = False,
) -> None:
    """Turn HotpotQA into a Doc each, of the question and its paragraphs.

    Questions that are answered by yes or no, or by what is not in the paragraphs, are left out and
    counted. The supporting facts stand in doc.spans["supporting_facts"].

    Example: python -m spacy bert data hotpotqa hotpot_dev_distractor_v1.json dev.spacy
    --distractors 2
    """
    with one_line_errors():
        from tqdm import tqdm

        from spacy_bert.datasets.hotpotqa import write_hotpotqa
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        bad = BadRows(skip=skip_bad_rows)
        nlp = blank_pipeline(lang)
        with tqdm(unit="question", disable=None, dynamic_ncols=True) as bar:
            counts = write_hotpotqa(
                source, output, nlp, bad, distractors=distractors, progress=bar.update
            )
    echo_problems(bad.problems)
    typer.echo(
        f"{output}: {counts.questions:,} questions, {counts.unsupported:,} answers in no "
        f"supporting fact, {counts.lost_facts:,} facts that are not there; left out: "
        f"{counts.yes_no:,} answered by yes or no, {counts.elsewhere:,} by what is not in the "
        f"paragraphs, {len(bad.problems):,} malformed"
    )
