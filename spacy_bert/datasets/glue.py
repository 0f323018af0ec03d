"""The nine tasks of GLUE (Wang et al. 2018), its diagnostic set, and SICK (Marelli et al. 2014).

The files are the official ones: columns between tabs, in which quotes mean nothing. A pair becomes
a Doc of two segments; its class or score stands in `doc.cats`. GLUE's test files have no labels,
and so have their Docs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.datasets.lines import numbered_lines
from spacy_bert.datasets.splits import find_files, find_task
from spacy_bert.datasets.writing import BadRows, counted, write_docs
from spacy_bert.models.segments import join


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the files of a task hold.

    Attributes:
        files: Names that the file of each split goes by; each may also end in `.gz`.
        texts: Columns of the text, or of both.
        target: Column of the class or the score; files of test splits may lack it.
        labels: The class for each entry of that column; None if it holds scores, which then stand
            in `doc.cats` under the column's name.
        header: The columns, where only files of test splits begin with their names.
    """

    files: Mapping[str, Sequence[str]]
    texts: Sequence[str]
    target: str
    labels: Mapping[str, str] | None
    header: Sequence[str] | None = None


FILES = {split: [f"{split}.tsv"] for split in ("train", "dev", "test")}
MNLI_FILES = {
    split: [f"{split}.tsv"]
    for split in ("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched")
}
# As GLUE has them, or as Microsoft has: one file for two splits, which GLUE parts by a list of ids.
MRPC_FILES = {
    "train": ["train.tsv", "msr_paraphrase_train.txt"],
    "dev": ["dev.tsv", "msr_paraphrase_train.txt"],
    "test": ["test.tsv", "msr_paraphrase_test.txt"],
}
MRPC_IDS = ("#1 ID", "#2 ID")
MRPC_DEV_IDS = "dev_ids.tsv"
SICK_FILES = {
    "train": ["SICK_train.txt"],
    "dev": ["SICK_trial.txt"],
    "test": ["SICK_test_annotated.txt"],
}
PAIR = ("sentence1", "sentence2")
SICK_PAIR = ("sentence_A", "sentence_B")
TWO_WAY = {label: label for label in ("entailment", "not_entailment")}
THREE_WAY = {label: label for label in ("entailment", "neutral", "contradiction")}

TASKS: dict[str, Task] = {
    "cola": Task(
        files=FILES,
        texts=("sentence",),
        target="label",
        labels={"0": "unacceptable", "1": "acceptable"},
        header=("source", "label", "mark", "sentence"),
    ),
    "sst2": Task(
        files=FILES,
        texts=("sentence",),
        target="label",
        labels={"0": "negative", "1": "positive"},
    ),
    "mrpc": Task(
        files=MRPC_FILES,
        texts=("#1 String", "#2 String"),
        target="Quality",
        labels={"0": "not_equivalent", "1": "equivalent"},
    ),
    "stsb": Task(files=FILES, texts=PAIR, target="score", labels=None),
    "qqp": Task(
        files=FILES,
        texts=("question1", "question2"),
        target="is_duplicate",
        labels={"0": "not_duplicate", "1": "duplicate"},
    ),
    "mnli": Task(files=MNLI_FILES, texts=PAIR, target="gold_label", labels=THREE_WAY),
    "qnli": Task(files=FILES, texts=("question", "sentence"), target="label", labels=TWO_WAY),
    "rte": Task(files=FILES, texts=PAIR, target="label", labels=TWO_WAY),
    "wnli": Task(
        files=FILES, texts=PAIR, target="label", labels={"0": "not_entailment", "1": "entailment"}
    ),
    "ax": Task(files={"test": ["diagnostic.tsv"]}, texts=PAIR, target="label", labels=THREE_WAY),
    "sick-e": Task(
        files=SICK_FILES,
        texts=SICK_PAIR,
        target="entailment_judgment",
        labels={label.upper(): label for label in THREE_WAY},
    ),
    "sick-r": Task(files=SICK_FILES, texts=SICK_PAIR, target="relatedness_score", labels=None),
}


def read_split(nlp: Language, task: Task, split: str, file: Path, bad: BadRows) -> Iterator[Doc]:
    """The Docs of a file, one for each row.

    Args:
        nlp: The pipeline whose tokenizer is used.
        task: What the file holds.
        split: Which split it is; a test split may be without labels.
        file: The file.
        bad: What becomes of malformed rows.

    Raises:
        ValueError: If a column is missing, the file is not UTF-8, or a row is malformed and `bad`
            does not skip it.
    """
    test = split.startswith("test")
    rows = ((number, line.split("\t")) for number, line in numbered_lines(file))
    header = None if test else task.header
    if header is None:
        _, header = next(rows, (1, []))
    _require_columns(file, header, task.texts if test else (*task.texts, task.target))
    belongs = _part(file, split, header)
    for number, row in rows:
        if row == [""] or not belongs(row):
            continue
        try:
            doc = _make_doc(nlp, task, header, row)
        except ValueError as error:
            bad.add(file, number, str(error))
        else:
            yield doc


def write_glue(
    name: str, source: Path, output: Path, nlp: Language, bad: BadRows
) -> dict[str, Counter[str]]:
    """Write a `.spacy` file for each split of a task that a directory has.

    Args:
        name: One of `TASKS`.
        source: Directory of the official files.
        output: Directory for `train.spacy`, `dev.spacy`, ...; of MNLI, `dev_matched.spacy`, ...
        nlp: The pipeline whose tokenizer is used.
        bad: What becomes of malformed rows.

    Returns:
        For each split, the number of Docs of each class, of Docs with a score, or "unlabelled".

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


def _part(file: Path, split: str, header: Sequence[str]) -> Callable[[Sequence[str]], bool]:
    """Which rows of a file belong to a split: all, but of Microsoft's training file of MRPC.

    Raises:
        ValueError: If the list of ids that parts it is not there.
    """
    if not file.name.startswith("msr_paraphrase_train"):
        return lambda row: True
    ids_file = file.with_name(MRPC_DEV_IDS)
    if not ids_file.is_file():
        raise ValueError(f"{ids_file}: not found; GLUE's list of ids tells dev from train")
    dev_ids = {tuple(line.split("\t")) for _, line in numbered_lines(ids_file)}
    first, second = map(header.index, MRPC_IDS)

    def belongs(row: Sequence[str]) -> bool:
        is_whole = len(row) > max(first, second)  # of a malformed row, reading makes an error
        is_dev = is_whole and (row[first], row[second]) in dev_ids
        return is_dev == (split == "dev")

    return belongs


def _require_columns(file: Path, header: Sequence[str], wanted: Iterable[str]) -> None:
    missing = [column for column in wanted if column not in header]
    if missing:
        named = f"its first line names {', '.join(header)}" if any(header) else "it is empty"
        raise ValueError(f"{file} has no column {', '.join(missing)}; {named}")


def _make_doc(nlp: Language, task: Task, header: Sequence[str], row: Sequence[str]) -> Doc:
    if len(row) != len(header):
        raise ValueError(f"{len(row)} columns instead of {len(header)} ({', '.join(header)})")
    cells = dict(zip(header, row, strict=True))
    doc = join(nlp, *(cells[column] for column in task.texts))
    if task.target in cells:
        doc.cats = _cats(task, cells[task.target])
    return doc


def _cats(task: Task, target: str) -> dict[str, float]:
    if task.labels is None:
        try:
            score = float(target)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise ValueError(f"{task.target} {target!r} is not a number")
        return {task.target: score}
    if target not in task.labels:
        raise ValueError(f"{task.target} {target!r} is none of {', '.join(task.labels)}")
    return {label: float(label == task.labels[target]) for label in task.labels.values()}
