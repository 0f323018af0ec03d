"""Texts with classes or values in any table: columns by name, one Doc for each row.

`.csv` has quotes as spreadsheets write them, `.tsv` has none that mean anything, `.jsonl` is an
object a line; each may be compressed (`.gz`).
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.datasets.lines import numbered_lines, open_rows
from spacy_bert.datasets.writing import BadRows, write_docs
from spacy_bert.models.segments import SEPARATOR, join

SUFFIXES = (".csv", ".tsv", ".jsonl")
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        line: The line that it begins in, counted from 1.
        cells: What stands in it, by column.
        surplus: By how many cells it is longer than the first line; below 0 if it is shorter.
    """

    line: int
    cells: Mapping[str, Any]
    surplus: int = 0


@dataclass(kw_only=True)
class Counts:
    """What was written to a file.

    Attributes:
        docs: Number of Docs.
        labels: How many of them hold each class, or have each value.
    """

    docs: int = 0
    labels: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What stands where.

    Attributes:
        texts: Columns of the texts: of one, or of several that become segments.
        label: Column of the class; None if there is none.
        divider: What stands between the classes of a cell; None where each has one class.
        values: Columns of real values, each a target of its own.
    """

    texts: Sequence[str]
    label: str | None = None
    divider: str | None = None
    values: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse what says nothing, or two things.

        Raises:
            ValueError: Names the option.
        """
        if not self.texts:
            raise ValueError("no column of texts: give --text COLUMN")
        if self.label is None and not self.values:
            raise ValueError("no column to learn: give --label COLUMN, or --value COLUMN")
        if self.label is not None and self.values:
            raise ValueError("--label is of classes and --value of real values: give one of them")
        if self.divider is not None and (self.label is None or not self.divider):
            raise ValueError("--divider stands between the classes of --label: give both")

    @property
    def all(self) -> list[str]:
        """All of them, in the order of the fields."""
        return [*self.texts, *([] if self.label is None else [self.label]), *self.values]


def write_table(
    source: Path,
    output: Path,
    nlp: Language,
    bad: BadRows,
    *,
    columns: Columns,
    dev: Path | None = None,
    dev_share: float = 0.1,
) -> dict[Path, Counts]:
    """Turn a table into training data for `bert_textcat`.

    Args:
        source: The table.
        output: The `.spacy` file.
        nlp: The pipeline whose tokenizer is used.
        bad: What becomes of malformed rows.
        columns: What stands where.
        dev: A second `.spacy` file, for a share of the rows; chosen at random, always the same.
        dev_share: The share.

    Returns:
        What was written to each file.

    Raises:
        ValueError: If the table cannot be read, a column is missing, a row is malformed (and not
            skipped), or nothing is left for a file.
    """
    if not 0.0 < dev_share < 1.0:
        raise ValueError(f"--dev-share must be above 0 and below 1, got {dev_share}")
    if dev is not None and dev.resolve() == output.resolve():
        raise ValueError(f"{dev}: --dev must be another file than that for training")
    classes = _classes(source, columns)
    outputs = [output] if dev is None else [output, dev]
    counts: dict[Path, Counts] = {}
    for path in outputs:
        chance = random.Random(SEED)
        counts[path] = Counts()
        rows = (
            row
            for row in read_rows(source, columns.all)
            if dev is None or (chance.random() < dev_share) == (path == dev)
        )
        of_file = bad if path == output else BadRows(skip=bad.skip)
        docs = _docs(source, rows, nlp, of_file, columns, classes)
        write_docs(path, _counted(docs, counts[path], values=bool(columns.values)), only_words=True)
        if of_file is not bad:
            bad.problems += of_file.problems
    return counts


def read_rows(source: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a table.

    Args:
        source: The table.
        columns: Those that it must have.

    Raises:
        ValueError: If it is of another kind or damaged, or lacks a column; names the file.
    """
    suffix = Path(source.stem).suffix if source.suffix == ".gz" else source.suffix
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{source}: expected a table, {', '.join(SUFFIXES)} (or .gz of one), got {suffix!r}"
        )
    if suffix == ".jsonl":
        yield from _objects(source, columns)
        return
    rows = _csv_rows(source) if suffix == ".csv" else _tsv_rows(source)
    _, header = next(rows, (1, []))
    missing = [column for column in columns if column not in header]
    if missing:
        named = ", ".join(header) if any(header) else "nothing"
        raise ValueError(f"{source} has no column {', '.join(missing)}; its first line: {named}")
    for number, row in rows:
        if any(row):
            cells = dict(zip(header, row, strict=False))
            yield Row(line=number, cells=cells, surplus=len(row) - len(header))


def _csv_rows(source: Path) -> Iterator[tuple[int, list[str]]]:
    with open_rows(source, newline="") as stream:
        reader = csv.reader(stream, strict=True)
        end = 0
        try:
            for row in reader:
                begin, end = end + 1, reader.line_num
                yield begin, row
        except csv.Error as error:
            raise ValueError(f"{source}, line {reader.line_num}: not CSV ({error})") from None


def _tsv_rows(source: Path) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split("\t")) for number, line in numbered_lines(source))


def _objects(source: Path, columns: Sequence[str]) -> Iterator[Row]:
    known: dict[str, None] = {}
    for number, line in numbered_lines(source):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: not JSON ({error})") from None
        if not isinstance(record, dict):
            raise ValueError(f"{source}, line {number}: expected an object")
        known.update(dict.fromkeys(record))
        yield Row(line=number, cells=record)
    missing = [column for column in columns if column not in known]
    if missing:
        raise ValueError(
            f"{source} has no field {', '.join(missing)}; its objects have {', '.join(known)}"
        )


def _classes(source: Path, columns: Columns) -> list[str]:
    """All classes, so that each Doc can say which of them do not hold."""
    found: dict[str, None] = {}
    for row in read_rows(source, columns.all):
        if columns.label is not None:
            found.update(dict.fromkeys(_split(row.cells.get(columns.label), columns.divider)))
    return sorted(found)


def _split(cell: Any, divider: str | None) -> list[str]:
    """The classes that a cell names."""
    if isinstance(cell, list):
        return [str(part) for part in cell]
    text = "" if cell is None else str(cell).strip()
    parts = [text] if divider is None else [part.strip() for part in text.split(divider)]
    return [part for part in parts if part]


def _docs(
    source: Path,
    rows: Iterator[Row],
    nlp: Language,
    bad: BadRows,
    columns: Columns,
    classes: Sequence[str],
) -> Iterator[Doc]:
    for row in rows:
        try:
            doc = _make_doc(nlp, row, columns, classes)
        except ValueError as error:
            bad.add(source, row.line, str(error))
        else:
            yield doc


def _make_doc(nlp: Language, row: Row, columns: Columns, classes: Sequence[str]) -> Doc:
    cells = row.cells
    if row.surplus:
        count, more = abs(row.surplus), "more" if row.surplus > 0 else "less"
        raise ValueError(f"{count} cell{'s' * (count > 1)} {more} than the first line has")
    doc = join(nlp, *(_text(column, cells.get(column)) for column in columns.texts))
    if columns.label is None:
        doc.cats = {column: _number(column, cells.get(column)) for column in columns.values}
        return doc
    cell = cells.get(columns.label)
    own = _split(cell, columns.divider)
    several = columns.divider is not None or isinstance(cell, list)
    if not own and not several:
        raise ValueError(f"{columns.label} is empty")
    doc.cats = {label: float(label in own) for label in classes}
    return doc


def _text(column: str, cell: Any) -> str:
    if not isinstance(cell, str) or not cell.strip():
        raise ValueError(f"{column} must be a text, got {cell!r}")
    if SEPARATOR in cell:
        raise ValueError(f"{column} holds U+001E, which marks the borders of segments")
    return cell


def _number(column: str, cell: Any) -> float:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{column} must be a number, got {cell!r}")
    return value


def _counted(docs: Iterator[Doc], counts: Counts, *, values: bool) -> Iterator[Doc]:
    for doc in docs:
        counts.docs += 1
        counts.labels.update(label for label, value in doc.cats.items() if values or value)
        yield doc
