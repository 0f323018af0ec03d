"""Commands that make sets for probing: `data gap`, `dpr`, `semeval2010`, `trec`, `edges`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.splits import echo_problems

if TYPE_CHECKING:
    from spacy_bert.datasets.coreference import Counts

Output = Annotated[Path, typer.Argument(help="File to write, .spacy.")]
Lang = Annotated[str, typer.Option(help="Code of the language.")]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave out malformed rows, and say which.")
]


def gap(
    source: Annotated[Path, typer.Argument(help="gap-development.tsv; also .gz.")],
    output: Output,
    lang: Lang = "en",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Turn GAP's pronouns into Docs: who is meant is in a cluster with the pronoun.

    Clusters stand in doc.spans["coref_clusters_1"] and so on, for analyze coreference and for
    analyze probe --task coreference.

    Example: python -m spacy bert data gap gap-development.tsv train.spacy
    """
    with one_line_errors():
        from spacy_bert.datasets.coreference import write_gap
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        bad = BadRows(skip=skip_bad_rows)
        counts = write_gap(source, output, blank_pipeline(lang), bad)
    _echo_pronouns(output, counts, bad.problems)


def dpr(
    source: Annotated[Path, typer.Argument(help="train.c.txt or test.c.txt; also .gz.")],
    output: Output,
    lang: Lang = "en",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Turn definite pronouns (Rahman and Ng) into Docs: who is meant is in the pronoun's cluster.

    The file does not say where a pronoun stands: it is taken to be the first one behind the
    candidates.

    Example: python -m spacy bert data dpr train.c.txt train.spacy
    """
    with one_line_errors():
        from spacy_bert.datasets.coreference import write_dpr
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        bad = BadRows(skip=skip_bad_rows)
        counts = write_dpr(source, output, blank_pipeline(lang), bad)
    _echo_pronouns(output, counts, bad.problems)


def semeval2010(
    source: Annotated[Path, typer.Argument(help="TRAIN_FILE.TXT; also .gz.")],
    output: Output,
    lang: Lang = "en",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Turn SemEval-2010 task 8 into Docs: nominals in doc.spans, their relation in doc.cats.

    Example: python -m spacy bert data semeval2010 TRAIN_FILE.TXT train.spacy
    """
    with one_line_errors():
        from spacy_bert.datasets.semeval2010 import write_semeval2010
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        bad = BadRows(skip=skip_bad_rows)
        counts = write_semeval2010(source, output, blank_pipeline(lang), bad)
    _echo_classes(output, "sentences", counts, bad.problems)


def trec(
    source: Annotated[Path, typer.Argument(help="A question a line, in Latin-1; also .gz.")],
    output: Output,
    coarse: Annotated[
        bool, typer.Option("--coarse", help="The six coarse types, not the fifty fine ones.")
    ] = False,
    lang: Lang = "en",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Turn TREC's questions into Docs with the type of the answer in doc.cats.

    Example: python -m spacy bert data trec train_5500.label train.spacy --coarse
    """
    with one_line_errors():
        from spacy_bert.datasets.trec import write_trec
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        bad = BadRows(skip=skip_bad_rows)
        counts = write_trec(source, output, blank_pipeline(lang), bad, coarse=coarse)
    _echo_classes(output, "questions", counts, bad.problems)


def edges(
    source: Annotated[Path, typer.Argument(help="JSON Lines, or an array; also .gz.")],
    output: Output,
    lang: Lang = "en",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Turn labelled spans in JSON (semantic roles, SPR, any edge probing data) into Docs.

    {"text": "The dog barks", "targets": [{"span1": [2, 3], "span2": [0, 2], "label": "ARG0"}]}
    on each line: words between spaces, spans of words, one label or a list.

    Example: python -m spacy bert data edges srl-train.json train.spacy
    """
    with one_line_errors():
        from spacy_bert.datasets.edges import write_edges
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        bad = BadRows(skip=skip_bad_rows)
        counts = write_edges(source, output, blank_pipeline(lang).vocab, bad)
    _echo_problems(bad.problems)
    typer.echo(
        f"{output}: {counts.texts:,} texts, {counts.targets:,} targets, {counts.pairs:,} of them "
        f"pairs, {len(counts.labels):,} labels; {len(bad.problems):,} malformed left out"
    )


def _echo_pronouns(output: Path, counts: Counts, problems: Sequence[str]) -> None:
    _echo_problems(problems)
    typer.echo(
        f"{output}: {counts.pronouns:,} pronouns: {counts.meant['1']:,} mean the first candidate, "
        f"{counts.meant['2']:,} the second, {counts.meant['neither']:,} neither; "
        f"{counts.repeated:,} stand in their sentence several times, {counts.inexact:,} mentions "
        f"begin or end in a token; {len(problems):,} malformed left out"
    )


def _echo_classes(
    output: Path, what: str, counts: Mapping[str, int], problems: Sequence[str]
) -> None:
    _echo_problems(problems)
    found = ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items()))
    typer.echo(
        f"{output}: {sum(counts.values()):,} {what} ({found}); {len(problems):,} malformed left out"
    )


def _echo_problems(problems: Sequence[str]) -> None:
    echo_problems(problems)
