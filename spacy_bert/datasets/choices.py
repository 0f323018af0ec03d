"""Multiple choice: SWAG (Zellers et al. 2018), CODAH, ComVE (SemEval-2020, task 4), OpenBookQA.

A question becomes a Doc whose first segment is the context and whose others are the choices. The
right one stands in `doc.cats`, under its index: 1.0, the others 0.0.
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.datasets.lines import numbered_lines, open_rows
from spacy_bert.datasets.splits import find_files, find_task
from spacy_bert.datasets.writing import BadRows, counted, write_docs
from spacy_bert.models.segments import join

Rows = Iterator[tuple[int, Any]]  # the line that a row begins in, and what stands there


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question.

    Attributes:
        context: What the choices go on with, or answer; may be empty.
        choices: The texts to choose from.
        right: Index of the right one; None if it is not said.
    """

    context: str
    choices: Sequence[str]
    right: int | None


@dataclass(frozen=True, kw_only=True)
class Task:
    """How the files of a task are read.

    Attributes:
        files: Names that the file of each split goes by; each may also end in `.gz`.
        rows: The rows of a file, of those that belong to a split.
        question: What a row says; a `ValueError` says what is wrong with it.
    """

    files: Mapping[str, Sequence[str]]
    rows: Callable[[Path, str], Rows]
    question: Callable[[Any], Question]


def write_choices(
    name: str, source: Path, output: Path, nlp: Language, bad: BadRows
) -> dict[str, Counter[str]]:
    """Write a `.spacy` file for each split of a task that a directory has.

    Args:
        name: One of `TASKS`.
        source: Directory of the official files.
        output: Directory for `train.spacy`, `dev.spacy`, `test.spacy`.
        nlp: The pipeline whose tokenizer is used.
        bad: What becomes of malformed rows.

    Returns:
        For each split, how often each index is right, or "unlabelled".

    Raises:
        ValueError: If the task is unknown, the directory has no file of it, or one cannot be read.
    """
    task = find_task(TASKS, name)
    counts: dict[str, Counter[str]] = {}
    for split, file in find_files(task, source).items():
        counts[split] = Counter()
        docs = read_split(nlp, task, split, file, bad)
        write_docs(output / f"{split}.spacy", counted(docs, counts[split]))
    return counts


def read_split(nlp: Language, task: Task, split: str, file: Path, bad: BadRows) -> Iterator[Doc]:
    """The Docs of a file that belong to a split, one for each question.

    Args:
        nlp: The pipeline whose tokenizer is used.
        task: How the file is read.
        split: Which split it is; that called "test" may be without labels.
        file: The file.
        bad: What becomes of malformed rows.

    Raises:
        ValueError: If the file cannot be read, or a row is malformed and `bad` does not skip it.
    """
    for number, row in task.rows(file, split):
        try:
            doc = _make_doc(nlp, task.question(row), split)
        except ValueError as error:
            bad.add(file, number, str(error))
        else:
            yield doc


def _make_doc(nlp: Language, question: Question, split: str) -> Doc:
    if question.right is None and split != "test":
        raise ValueError("it is not said which choice is right")
    doc = join(nlp, question.context, *question.choices)
    if question.right is not None:
        doc.cats = {str(i): float(i == question.right) for i in range(len(question.choices))}
    return doc


def _index(label: str, labels: Sequence[str]) -> int:
    if label not in list(labels):  # in "0123" there is "12" too
        raise ValueError(f"label {label!r} is none of {', '.join(labels)}")
    return list(labels).index(label)


# Files


def _lines(file: Path, split: str) -> Rows:
    return ((number, line) for number, line in numbered_lines(file) if line.strip())


def _csv_rows(file: Path, columns: Sequence[str]) -> Rows:
    """Rows as pairs of the header, in which all columns are, and the cells."""
    with open_rows(file, newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = next(reader, [])
            missing = [column for column in columns if column not in header]
            if missing:
                raise ValueError(
                    f"{file} has no column {', '.join(missing)}; its first line names "
                    f"{', '.join(header)}"
                )
            end = reader.line_num
            for row in reader:
                begin, end = end + 1, reader.line_num
                if row:
                    yield begin, (header, row)
        except csv.Error as error:
            raise ValueError(f"{file}, line {reader.line_num}: not CSV ({error})") from None


def _cells(header: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    if len(row) != len(header):
        raise ValueError(f"{len(row)} columns instead of {len(header)} ({', '.join(header)})")
    return dict(zip(header, row, strict=True))


# SWAG: four ways to go on. The context is the first sentence; a choice is the beginning of the
# second one with an ending (Devlin et al. 2018, section 4.4).

SWAG_ENDINGS = ("ending0", "ending1", "ending2", "ending3")


def _swag_rows(file: Path, split: str) -> Rows:
    label = () if split == "test" else ("label",)
    return _csv_rows(file, ("sent1", "sent2", *SWAG_ENDINGS, *label))


def _swag_question(row: tuple[list[str], list[str]]) -> Question:
    cells = _cells(*row)
    choices = [f"{cells['sent2']} {cells[ending]}".strip() for ending in SWAG_ENDINGS]
    label = cells.get("label")
    right = None if label is None else _index(label, "0123")
    return Question(context=cells["sent1"], choices=choices, right=right)


# CODAH: SWAG's form, in one file without splits.

CODAH_COLUMNS = ("category", "prompt", "ending0", "ending1", "ending2", "ending3", "label")
CODAH_SEED = 0
CODAH_TRAIN_SHARE = 0.8


def _codah_rows(file: Path, split: str) -> Rows:
    """The first 80 % of the shuffled rows for training, the others for dev."""
    rows = list(_lines(file, split))
    random.Random(CODAH_SEED).shuffle(rows)
    border = int(CODAH_TRAIN_SHARE * len(rows))
    yield from rows[:border] if split == "train" else rows[border:]


def _codah_question(line: str) -> Question:
    _, prompt, *choices, label = _cells(CODAH_COLUMNS, line.split("\t")).values()
    return Question(context=prompt, choices=choices, right=_index(label, "0123"))


# ComVE. A: which of two statements is against common sense? They have no context. B: why is a
# statement against common sense? The answers stand in a file of their own.

COMVE_FILES = {
    "train": ("Training  Data/subtask{}_data_all.csv", "train_subtask{}_data.csv"),
    "dev": ("Dev Data/subtask{}_dev_data.csv", "dev_subtask{}_data.csv"),
    "test": ("Test Data/subtask{}_test_data.csv", "test_subtask{}_data.csv"),
}
COMVE_STATEMENTS = ("sent0", "sent1")
COMVE_REASONS = ("OptionA", "OptionB", "OptionC")


def _comve_rows(file: Path, columns: Sequence[str]) -> Rows:
    """Rows as the header, the cells and all answers by id."""
    name = re.sub("(?:dev|test)_data", "gold_answers", file.name).replace("data", "answers")
    answers: dict[str, str] = {}
    with open_rows(file.with_name(name), newline="") as stream:
        for row in filter(None, csv.reader(stream)):
            answers[row[0]] = row[-1]
    for number, (header, cells) in _csv_rows(file, ("id", *columns)):
        yield number, (header, cells, answers)


def _comve_question(
    row: tuple[list[str], list[str], dict[str, str]],
    context: str | None,
    choices: Sequence[str],
    labels: str,
) -> Question:
    header, row_cells, answers = row
    cells = _cells(header, row_cells)
    if cells["id"] not in answers:
        raise ValueError(f"there is no answer for the id {cells['id']!r}")
    return Question(
        context="" if context is None else cells[context],
        choices=[cells[choice] for choice in choices],
        right=_index(answers[cells["id"]], labels),
    )


def _comve(subtask: str, context: str | None, choices: Sequence[str], labels: str) -> Task:
    columns = choices if context is None else (context, *choices)
    return Task(
        files={
            split: [name.format(subtask) for name in names] for split, names in COMVE_FILES.items()
        },
        rows=lambda file, split: _comve_rows(file, columns),
        question=lambda row: _comve_question(row, context, choices, labels),
    )


# OpenBookQA, in the form of its authors (`question` holds `stem` and a list of `choices`) or that
# of the Hugging Face hub (`question_stem`, and `choices` holds two lists).


def _openbookqa_question(line: str) -> Question:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    try:
        if "question" in record:
            stem, choices = record["question"]["stem"], record["question"]["choices"]
            texts, labels = ([choice[key] for choice in choices] for key in ("text", "label"))
        else:
            stem, choices = record["question_stem"], record["choices"]
            texts, labels = choices["text"], choices["label"]
    except KeyError as error:
        raise ValueError(
            f"a question of OpenBookQA has a field {error}, this one has not"
        ) from None
    except TypeError:
        raise ValueError(
            "not a question in the form of OpenBookQA: an object with question_stem, choices "
            "(text, label) and answerKey, or with question (stem, choices) and answerKey"
        ) from None
    if not (isinstance(texts, list) and isinstance(labels, list) and len(texts) == len(labels) > 1):
        raise ValueError("expected two choices or more, each with a text and a label")
    if not all(isinstance(text, str) for text in (stem, *texts, *labels)):
        raise ValueError("the question, its choices and their labels must be texts")
    right = None if record.get("answerKey") is None else _index(record["answerKey"], labels)
    return Question(context=stem, choices=texts, right=right)


TASKS: dict[str, Task] = {
    "swag": Task(
        files={"train": ["train.csv"], "dev": ["val.csv"], "test": ["test.csv"]},
        rows=_swag_rows,
        question=_swag_question,
    ),
    "codah": Task(
        files={"train": ["full_data.tsv"], "dev": ["full_data.tsv"]},
        rows=_codah_rows,
        question=_codah_question,
    ),
    "comve-a": _comve("A", None, COMVE_STATEMENTS, "01"),
    "comve-b": _comve("B", "FalseSent", COMVE_REASONS, "ABC"),
    "openbookqa": Task(
        files={split: [f"{split}.jsonl"] for split in ("train", "dev", "test")},
        rows=_lines,
        question=_openbookqa_question,
    ),
}
