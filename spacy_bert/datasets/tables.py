"""Texts with classes or values in any table: columns by name, one Doc for each row.

`.csv` has quotes as spreadsheets write them, `.tsv` has none that mean anything (with a delimiter
given, both have quotes), `.jsonl` is an object a line; each may be compressed (`.gz`).
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
from spacy.tokens import Doc, DocBin

from spacy_bert.characters import is_whole, require_whole
from spacy_bert.datasets.lines import numbered_lines, open_rows
from spacy_bert.datasets.writing import BadRows, require_suffix, save_docs
from spacy_bert.models.segments import SEPARATOR, join

SUFFIXES = (".csv", ".tsv", ".jsonl")
SEED = 0
LONGEST = 2**31 - 1  # characters of a cell of CSV


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        line: The line that it begins in, counted from 1.
        cells: What stands in it, by column.
        problem: Why it cannot be read; None if it can.
    """

    line: int
    cells: Mapping[str, Any]
    problem: str | None = None


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
        values: Columns of real values, each a target of its own; an empty cell is not known.
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
        if self.divider is not None and self.label is None:
            raise ValueError("--divider stands between the classes of --label: give both")
        if self.divider == "":
            raise ValueError("--divider must not be empty")
        twice = [name for name, count in Counter(self.all).items() if count > 1]
        if twice:
            raise ValueError(f"column {twice[0]!r} cannot be two things: name another")

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
    delimiter: str | None = None,
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
        delimiter: Of cells, in which quotes then mean something; None for what the name says.
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
    if delimiter is not None and len(delimiter) != 1:
        raise ValueError(f'--delimiter must be one character, or "tab", got {delimiter!r}')
    if dev is not None and dev.resolve() == output.resolve():
        raise ValueError(f"{dev}: --dev must be another file than that for training")
    outputs = [output] if dev is None else [output, dev]
    for path in outputs:
        require_suffix(path)
    classes = _classes(source, columns, delimiter)
    counts = {path: Counts() for path in outputs}
    docbins = {path: DocBin(attrs=[], store_user_data=False) for path in outputs}
    chance = random.Random(SEED)
    rows = read_rows(source, columns.all, delimiter)
    for doc in _docs(source, rows, nlp, bad, columns, classes):
        path = outputs[-1] if chance.random() < dev_share else output
        docbins[path].add(doc)
        counts[path].docs += 1
        counts[path].labels.update(
            label for label, value in doc.cats.items() if columns.values or value
        )
    if counts[output].docs and not counts[outputs[-1]].docs:
        raise ValueError(
            f"of {counts[output].docs} rows none falls to {dev} by chance: raise --dev-share"
        )
    for path, docbin in docbins.items():
        save_docs(path, docbin)
    return counts


def read_rows(source: Path, columns: Sequence[str], delimiter: str | None = None) -> Iterator[Row]:
    """The rows of a table.

    Args:
        source: The table.
        columns: Those that it must have.
        delimiter: Of cells, with quotes; None for what the name says.

    Raises:
        ValueError: If it is of another kind or damaged, or lacks a column; names the file.
    """
    suffix = Path(source.stem).suffix if source.suffix == ".gz" else source.suffix
    if suffix not in SUFFIXES and delimiter is None:
        raise ValueError(
            f"{source}: expected a table, {', '.join(SUFFIXES)} (or .gz of one), got {suffix!r}"
        )
    if suffix == ".jsonl":
        yield from _objects(source, columns)
        return
    if delimiter is None and suffix == ".tsv":
        rows = _tsv_rows(source)
    else:
        rows = _csv_rows(source, delimiter or ",")
    _, header = next(rows, (1, []))
    _require_columns(source, header, columns)
    for number, row in rows:
        if any(row):
            cells = dict(zip(header, row, strict=False))
            yield Row(line=number, cells=cells, problem=_surplus(len(row) - len(header)))


def _require_columns(source: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        named = (
            f"its first line: {', '.join(header)}"
            if any(header)
            else "it is empty, or its first line is"
        )
        other = any(mark in cell for cell in header for mark in ';\t|"')
        hint = "; if its cells are divided by something else, give --delimiter" if other else ""
        raise ValueError(f"{source} has no column {', '.join(missing)}; {named}{hint}")
    twice = [column for column in columns if list(header).count(column) > 1]
    if twice:
        raise ValueError(f"{source} has the column {twice[0]} twice; rename one of them")


def _surplus(count: int) -> str | None:
    """What is wrong with a row that has so many cells more than the first line."""
    if not count:
        return None
    cells = f"{abs(count)} cell{'s' * (abs(count) > 1)}"
    return f"{cells} {'more' if count > 0 else 'less'} than the first line has"


def _csv_rows(source: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(LONGEST)
    with open_rows(source, newline="") as stream:
        reader = csv.reader(stream, strict=True, delimiter=delimiter)
        end = 0
        try:
            for row in reader:
                begin, end = end + 1, reader.line_num
                yield begin, row
        except csv.Error as error:
            begin, last = end + 1, reader.line_num
            hint = (
                f"; this row goes on to line {last}: is a quote not closed?" if last > begin else ""
            )
            raise ValueError(f"{source}, line {begin}: not CSV ({error}){hint}") from None


def _tsv_rows(source: Path) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split("\t")) for number, line in numbered_lines(source))


def _objects(source: Path, columns: Sequence[str]) -> Iterator[Row]:
    known: dict[str, None] = {}
    for number, line in numbered_lines(source):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(line=number, cells={}, problem=f"not JSON ({error})")
            continue
        if not isinstance(record, dict):
            yield Row(line=number, cells={}, problem="expected an object")
            continue
        known.update(dict.fromkeys(record))
        yield Row(line=number, cells=record)
    missing = [column for column in columns if column not in known]
    if known and missing:
        raise ValueError(
            f"{source} has no field {', '.join(missing)}; its objects have {', '.join(known)}"
        )


def _classes(source: Path, columns: Columns, delimiter: str | None) -> list[str]:
    """All classes, so that each Doc can say which of them do not hold."""
    found: dict[str, None] = {}
    for row in read_rows(source, columns.all, delimiter):
        if columns.label is not None and row.problem is None:
            labels = _split(row.cells.get(columns.label), columns.divider)
            found.update(dict.fromkeys(filter(is_whole, labels)))
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
    if row.problem is not None:
        raise ValueError(row.problem)
    doc = join(nlp, *(_text(column, cells.get(column)) for column in columns.texts))
    if columns.label is None:
        known = {column: cells.get(column) for column in columns.values}
        known = {column: cell for column, cell in known.items() if cell not in (None, "")}
        if not known:
            raise ValueError(f"{' and '.join(columns.values)}: no value")
        doc.cats = {column: _number(column, cell) for column, cell in known.items()}
        return doc
    cell = cells.get(columns.label)
    if isinstance(cell, dict):
        raise ValueError(f"{columns.label} must be a class or a list of them, got an object")
    own = _split(cell, columns.divider)
    for label in own:
        require_whole(label, columns.label)
    several = columns.divider is not None or isinstance(cell, list)
    if not own and not several:
        raise ValueError(f"{columns.label} is empty")
    doc.cats = {label: float(label in own) for label in classes}
    return doc


def _text(column: str, cell: Any) -> str:
    if not isinstance(cell, str) or not cell.strip():
        raise ValueError(f"{column} must be a text, got {cell!r}")
    require_whole(cell, column)
    if SEPARATOR in cell:
        raise ValueError(f"{column} holds U+001E, which marks the borders of segments")
    return cell


def _number(column: str, cell: Any) -> float:
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{column} must be a number, got {cell!r}")
    return value
