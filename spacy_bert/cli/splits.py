"""What the commands say of the data sets that they have written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import typer


def echo_splits(
    files: Mapping[str, str],
    counts: Mapping[str, Counter[str]],
    source: Path,
    problems: Iterable[str],
) -> None:
    """Say what each split holds, which are left out, and which rows were skipped.

    Args:
        files: The name of the file of each split.
        counts: The Docs of each class, of the splits that were written.
        source: The directory of the files.
        problems: A line for each skipped row.
    """
    echo_problems(problems)
    for split, file in files.items():
        if split not in counts:
            typer.echo(f"{split}: left out, {source} has no {file}")
            continue
        classes = sorted(counts[split].items())
        found = ", ".join(f"{label} {count:,}" for label, count in classes)
        typer.echo(f"{split}: {counts[split].total():,} Docs ({found})")


def echo_problems(problems: Iterable[str]) -> None:
    """Say which rows were skipped, on stderr.

    Args:
        problems: A line for each skipped row.
    """
    for problem in problems:
        typer.echo(f"Skipped {problem}", err=True)
