"""Readers of multiple choice."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import Doc, DocBin

from spacy_bert.datasets.choices import TASKS, read_split, write_choices
from spacy_bert.datasets.splits import find_files
from spacy_bert.datasets.writing import BadRows
from tests.shared_data import SHARED, needs_shared

NLP = spacy.blank("en")
SWAG = ["", "video-id", "fold-ind", "startphrase", "sent1", "sent2", "gold-source"]
ENDINGS = ["ending0", "ending1", "ending2", "ending3"]


def table(*rows: list[str]) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(task: str, source: Path, split: str = "train", bad: BadRows | None = None) -> list[Doc]:
    file = find_files(TASKS[task], source)[split]
    return list(read_split(NLP, TASKS[task], split, file, bad or BadRows()))


def parts(doc: Doc) -> list[str]:
    return doc.text.split("\x1e")


def right(doc: Doc) -> int | None:
    """The index in `doc.cats`, whose keys must be those of all choices."""
    if not doc.cats:
        return None
    assert list(doc.cats) == [str(i) for i in range(len(doc._.segments) - 1)]
    assert sorted(doc.cats.values()) == [0.0] * (len(doc.cats) - 1) + [1.0]
    return int(max(doc.cats, key=doc.cats.__getitem__))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_swag(tmp_path: Path, suffix: str) -> None:
    row = ["3", "v", "1", 'A "dog". It', 'A "dog",\nbig.', "It", "gold", "runs", "sits.", "a", ""]
    write(tmp_path / f"train.csv{suffix}", table([*SWAG, *ENDINGS, "label"], [*row, "2"]))
    write(tmp_path / f"test.csv{suffix}", table([*SWAG, *ENDINGS], row))
    for split, label in (("train", 2), ("test", None)):
        (doc,) = read("swag", tmp_path, split)
        assert parts(doc) == ['A "dog",\nbig.', "It runs", "It sits.", "It a", "It"]
        assert right(doc) == label
    write(tmp_path / "val.csv", table([*SWAG, *ENDINGS], row))
    with pytest.raises(
        ValueError, match=r"val.csv has no column label; its first line names , video-id"
    ):
        read("swag", tmp_path, "dev")


def codah(number: int) -> str:
    return "\t".join(["o", f'The "{number}', "a", "b", "c\u2028", "d", str(number % 4)])


def test_codah_is_split_as_ever(tmp_path: Path) -> None:
    lines = [codah(number) for number in range(29)]
    write(tmp_path / "full_data.tsv", "\n".join(lines) + "\n")
    random.Random(0).shuffle(lines)
    train, dev = (read("codah", tmp_path, split) for split in ("train", "dev"))
    assert (len(train), len(dev)) == (23, 6)
    for doc, line in zip([*train, *dev], lines, strict=True):
        _, prompt, *choices, label = line.split("\t")
        assert parts(doc) == [prompt, *choices]
        assert right(doc) == int(label)


@pytest.mark.parametrize(
    ("data", "answers"),
    [
        ("train_subtask{}_data.csv.gz", "train_subtask{}_answers.csv.gz"),
        ("train_subtask{}_data.csv", "train_subtask{}_answers.csv"),
        ("Training  Data/subtask{}_data_all.csv", "Training  Data/subtask{}_answers_all.csv"),
        ("Dev Data/subtask{}_dev_data.csv", "Dev Data/subtask{}_gold_answers.csv"),
        ("Test Data/subtask{}_test_data.csv", "Test Data/subtask{}_gold_answers.csv"),
    ],
)
def test_comve_finds_its_answers_by_id(tmp_path: Path, data: str, answers: str) -> None:
    a = table(["id", "sent0", "sent1"], ["7", "He ate.", "It, ate"], ["5", "One", "Two"])
    b = table(["id", "FalseSent", "OptionA", "OptionB", "OptionC"], ["7", "S", "x", "y", ""])
    for subtask, rows, labels in (("A", a, "5,0\n7,1\n"), ("B", b, "7,C\n")):
        write(tmp_path / data.format(subtask), rows)
        write(tmp_path / answers.format(subtask), labels)
    (split,) = find_files(TASKS["comve-a"], tmp_path)
    assert split == data[:3].lower().replace("tra", "train").replace("tes", "test")
    first, second = read("comve-a", tmp_path, split)
    assert [parts(first), parts(second)] == [["", "He ate.", "It, ate"], ["", "One", "Two"]]
    assert [right(first), right(second)] == [1, 0]
    (reason,) = read("comve-b", tmp_path, split)
    assert parts(reason) == ["S", "x", "y", ""]
    assert right(reason) == 2
    write(tmp_path / answers.format("A"), "5,0\n")
    with pytest.raises(ValueError, match=r"csv(.gz)?, line 2: there is no answer for the id '7'$"):
        read("comve-a", tmp_path, split)


def openbookqa(*, key: Any = "B", flat: bool = False, texts: Any = ("one", "two")) -> str:
    if flat:
        record = {"question_stem": "Q", "choices": {"text": list(texts), "label": ["A", "B"]}}
    else:
        choices = [{"text": text, "label": "AB"[i]} for i, text in enumerate(texts)]
        record = {"question": {"stem": "Q", "choices": choices}}
    return json.dumps(record | ({} if key is None else {"answerKey": key}))


@pytest.mark.parametrize("flat", [False, True])
def test_openbookqa_in_both_forms(tmp_path: Path, flat: bool) -> None:
    write(tmp_path / "train.jsonl", openbookqa(flat=flat) + "\n\n")
    write(tmp_path / "test.jsonl", openbookqa(flat=flat, key=None))
    for split, label in (("train", 1), ("test", None)):
        (doc,) = read("openbookqa", tmp_path, split)
        assert parts(doc) == ["Q", "one", "two"]
        assert right(doc) == label


SWAG_ROW = ["0", "v", "1", "p", "One.", "It", "gold", "a", "b", "c", "d"]


def swag(row: list[str]) -> str:
    return table([*SWAG, *ENDINGS, "label"], [*SWAG_ROW, "0"], row, [*SWAG_ROW, "1"])


@pytest.mark.parametrize(
    ("task", "name", "text", "problem"),
    [
        ("swag", "train.csv", swag(SWAG_ROW), r"line 3: 11 columns instead of 12 \(, video-id"),
        ("swag", "train.csv", swag([*SWAG_ROW, "4"]), "line 3: label '4' is none of 0, 1, 2, 3"),
        ("swag", "train.csv", swag([*SWAG_ROW, "12"]), "line 3: label '12' is none of 0, 1, 2, 3"),
        (
            "swag",
            "train.csv",
            swag([*SWAG_ROW[:4], "a\x1eb", *SWAG_ROW[5:], "0"]),
            r"line 3: part 1 of join holds U\+001E",
        ),
        (
            "openbookqa",
            "train.jsonl",
            f"{openbookqa()}\n{{\n{openbookqa()}",
            r"line 2: not JSON \(Expect",
        ),
        *(
            ("openbookqa", "train.jsonl", f"{openbookqa()}\n{row}\n{openbookqa()}", problem)
            for row, problem in [
                ("[]", "line 2: not a question in the form of OpenBookQA"),
                ("{}", r"line 2: a question of OpenBookQA has a field 'question_stem', this one"),
                (openbookqa(key="C"), "line 2: label 'C' is none of A, B"),
                (openbookqa(key=None), "line 2: it is not said which choice is right"),
                (openbookqa(texts=("one",)), "line 2: expected two choices or more"),
                (openbookqa(texts=("one",), flat=True), "line 2: expected two choices or more"),
                (openbookqa(texts=("one", 2)), "line 2: the question, its choices and"),
            ]
        ),
    ],
)
def test_malformed_rows_are_fatal_or_skipped(
    task: str, name: str, text: str, problem: str, tmp_path: Path
) -> None:
    file = write(tmp_path / name, text)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}, {problem}") as caught:
        write_choices(task, tmp_path, tmp_path / "out", NLP, BadRows())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "train.spacy").exists()
    bad = BadRows(skip=True)
    counts = write_choices(task, tmp_path, tmp_path / "out", NLP, bad)
    docs = DocBin().from_disk(tmp_path / "out" / "train.spacy").get_docs(NLP.vocab)
    assert counts["train"].total() == len([right(doc) for doc in docs]) == 2
    assert bad.problems == [str(caught.value)]


def test_malformed_rows_of_codah_keep_their_lines(tmp_path: Path) -> None:
    lines = [codah(number) for number in range(10)]
    lines[6] = "o\tThe\ta\tb\tc\t3"
    file = write(tmp_path / "full_data.tsv", "\n".join(lines))
    bad = BadRows(skip=True)
    counts = write_choices("codah", tmp_path, tmp_path / "out", NLP, bad)
    assert counts["train"].total() + counts["dev"].total() == 9
    assert bad.problems == [
        f"{file}, line 7: 6 columns instead of 7 "
        "(category, prompt, ending0, ending1, ending2, ending3, label)"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (table(["id", "sent1", *ENDINGS]), r" has no column sent2, label; its first line names id"),
        (table([*SWAG, *ENDINGS, "label"]) + 'a,"b\nc', r", line 3: not CSV \(unexpected end"),
        (b"sent1,\xff\n", r", line 1: not UTF-8"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, text: str | bytes, problem: str) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}{problem}"):
        write_choices("swag", tmp_path, tmp_path / "out", NLP, BadRows(skip=True))


# Questions of each split, as counted in the files before there was a reader.
SIZES = {
    "codah": ("codah", {"train": 2220, "dev": 556}, 4),
    "comve-a": ("comve", {"train": 10000, "dev": 997, "test": 1000}, 2),
    "comve-b": ("comve", {"train": 10000, "dev": 997, "test": 1000}, 3),
    "openbookqa": ("openbookqa", {"train": 4957, "dev": 500, "test": 500}, 4),
}


@needs_shared
@pytest.mark.parametrize("task", SIZES)
def test_the_real_files(task: str) -> None:
    folder, sizes, choices = SIZES[task]
    for split, size in sizes.items():
        docs = read(task, SHARED / folder, split)
        assert len(docs) == size
        assert {len(doc._.segments) for doc in docs} == {choices + 1}
        assert {right(doc) for doc in docs} == set(range(choices))


@needs_shared
def test_what_real_questions_say() -> None:
    (statement,) = (
        doc for doc in read("comve-a", SHARED / "comve") if "He drinks apple." in parts(doc)
    )
    assert parts(statement)[1 + (right(statement) or 0)] == "He drinks apple."
    (reason,) = (
        doc for doc in read("comve-b", SHARED / "comve") if parts(doc)[0] == "He drinks apple."
    )
    assert parts(reason)[1 + (right(reason) or 0)] == "Apple can not be drunk"
    first = read("openbookqa", SHARED / "openbookqa", "dev")[0]
    assert parts(first)[1 + (right(first) or 0)] == "Deep sea animals"
    rows = gzip.decompress((SHARED / "codah" / "full_data.tsv.gz").read_bytes()).decode()
    lines = rows.rstrip("\n").split("\n")
    random.Random(0).shuffle(lines)
    dev = read("codah", SHARED / "codah", "dev")
    assert [parts(doc) for doc in dev] == [line.split("\t")[1:6] for line in lines[2220:]]
