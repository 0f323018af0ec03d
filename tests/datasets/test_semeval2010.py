"""SemEval-2010 task 8: nominals and relations, with and without labels."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.datasets.semeval2010 import LABELS, write_semeval2010
from spacy_bert.datasets.writing import BadRows
from tests.shared_data import SHARED, needs_shared

NLP = spacy.blank("en")
ITEMS = (
    '1\t"The <e1>rain</e1> was the cause of a long <e2>flood plain</e2>."\r\n'
    "Cause-Effect(e1,e2)\r\nComment: plain\r\n\r\n"
    '2\t""Oh," said the <e1>boy</e1> near the<e2> desk</e2>."\r\nOther\r\nComment:\r\n\r\n'
)


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def run(source: Path, bad: BadRows | None = None) -> tuple[list[Doc], Counter[str]]:
    output = source.parent / "out.spacy"
    counts = write_semeval2010(source, output, NLP, bad or BadRows())
    return list(DocBin().from_disk(output).get_docs(NLP.vocab)), counts


@pytest.mark.parametrize("name", ["x.TXT", "x.TXT.gz"])
def test_nominals_and_relations(tmp_path: Path, name: str) -> None:
    docs, counts = run(write(tmp_path / name, ITEMS))
    assert counts == {"Cause-Effect(e1,e2)": 1, "Other": 1}
    assert docs[0].text == "The rain was the cause of a long flood plain."
    assert docs[1].text == '"Oh," said the boy near the desk.'
    found = [[span.text for key in ("e1", "e2") for span in doc.spans[key]] for doc in docs]
    assert found == [["rain", "flood plain"], ["boy", "desk"]]
    assert {label for label, value in docs[0].cats.items() if value} == {"Cause-Effect(e1,e2)"}
    assert tuple(docs[1].cats) == LABELS
    assert len(LABELS) == 19


def test_a_test_file_without_relations(tmp_path: Path) -> None:
    text = '1\t"A <e1>b</e1> <e2>c</e2>."\n2\t"<e1>D</e1> e <e2>f</e2>."\n'
    docs, counts = run(write(tmp_path / "x.txt", text))
    assert counts == {"unlabelled": 2}
    assert [doc.cats for doc in docs] == [{}, {}]
    assert docs[1].spans["e1"][0].text == "D"


MARKS = "expected <e1>, </e1>, <e2> and </e2> in the sentence, once each"


@pytest.mark.parametrize(
    ("item", "line", "problem"),
    [
        ('3\t"A <e1>b</e1> c."\nOther\n', 9, MARKS),
        ('3\t"A <e1>b</e1> <e2>c</e1>."\nOther\n', 9, MARKS),
        ('3\t"A <e1> </e1> <e2>c</e2>."\nOther\n', 9, "<e1> marks nothing"),
        ('3\t"A <e1>b</e1> <e2>c</e2>."\nCause\n', 9, "relation 'Cause' is none of the task's: "),
        ('3\t"\x1e <e1>b</e1> <e2>c</e2>."\nOther\n', 9, "the sentence holds U+001E, which marks"),
        (
            '3\t"A <e1>b</e1> <e2>c</e2>."\nOther\nx\n',
            11,
            "expected a number, a tab and a sentence",
        ),
    ],
)
def test_malformed_items(tmp_path: Path, item: str, line: int, problem: str) -> None:
    source = write(tmp_path / "x.TXT", ITEMS + item)
    with pytest.raises(ValueError, match=f"line {line}: ") as caught:
        run(source)
    assert str(caught.value).startswith(f"{source}, line {line}: {problem}")
    bad = BadRows(skip=True)
    docs, _ = run(source, bad)
    assert len(docs) == (2 if line == 9 else 3)
    assert bad.problems == [str(caught.value)]


def test_the_command(tmp_path: Path) -> None:
    source = write(tmp_path / "x.TXT", ITEMS + "3\t?\n")
    output = tmp_path / "out.spacy"
    args = ["data", "semeval2010", str(source), str(output), "--skip-bad-rows"]
    done = CliRunner().invoke(app, args)
    assert done.stderr.endswith(f"Skipped {source}, line 9: {MARKS}\n")
    assert done.stdout == (
        f"{output}: 2 sentences (Cause-Effect(e1,e2) 1, Other 1); 1 malformed left out\n"
    )


@needs_shared
@pytest.mark.parametrize(
    ("name", "size", "other"), [("TRAIN_FILE", 8000, 1410), ("TEST_FILE_FULL", 2717, 454)]
)
def test_official_files(tmp_path: Path, name: str, size: int, other: int) -> None:
    source = SHARED / "semeval2010_task8" / f"{name}.TXT.gz"
    counts = write_semeval2010(source, tmp_path / "out.spacy", NLP, BadRows())
    assert (counts.total(), counts["Other"], len(counts)) == (size, other, 19)
