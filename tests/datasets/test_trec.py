"""TREC: questions and their types, coarse and fine, in Latin-1."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.datasets.trec import COARSE_LABELS, FINE_LABELS, write_trec
from spacy_bert.datasets.writing import BadRows
from tests.shared_data import SHARED, needs_shared

NLP = spacy.blank("en")
LINES = "LOC:city Where is the Caf\xe9 Noir ?\n\nHUM:ind  Who ran ?\nHUM:gr Who sang ?\n"


def write(path: Path, text: str = LINES) -> Path:
    path.write_bytes(text.encode("latin-1"))
    return path


def run(
    source: Path, *, coarse: bool = False, bad: BadRows | None = None
) -> tuple[list[Doc], Counter[str]]:
    output = source.parent / "out.spacy"
    counts = write_trec(source, output, NLP, bad or BadRows(), coarse=coarse)
    return list(DocBin().from_disk(output).get_docs(NLP.vocab)), counts


def test_types(tmp_path: Path) -> None:
    source = write(tmp_path / "train.txt")
    docs, counts = run(source)
    assert [doc.text for doc in docs] == ["Where is the Caf\xe9 Noir ?", "Who ran ?", "Who sang ?"]
    assert counts == {"LOC:city": 1, "HUM:ind": 1, "HUM:gr": 1}
    assert tuple(docs[0].cats) == FINE_LABELS
    assert [label for label, value in docs[1].cats.items() if value] == ["HUM:ind"]
    docs, counts = run(source, coarse=True)
    assert counts == {"LOC": 1, "HUM": 2}
    assert tuple(docs[0].cats) == COARSE_LABELS
    assert [label for label, value in docs[2].cats.items() if value] == ["HUM"]
    assert (len(FINE_LABELS), len(COARSE_LABELS)) == (50, 6)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("LOC:town Where ?", "'LOC:town' is no type: expected one such as LOC:city, and a quest"),
        ("Where is it ?", "'Where' is no type: "),
        ("LOC:city", "expected a question behind its type, without U+001E"),
        ("LOC:city a \x1e b", "expected a question behind its type, without U+001E"),
    ],
)
def test_malformed_lines(tmp_path: Path, line: str, problem: str) -> None:
    source = write(tmp_path / "x.txt", f"{LINES}{line}\n")
    with pytest.raises(ValueError, match="line 5") as caught:
        run(source)
    assert str(caught.value).startswith(f"{source}, line 5: {problem}")
    bad = BadRows(skip=True)
    docs, _ = run(source, bad=bad)
    assert len(docs) == 3
    assert bad.problems == [str(caught.value)]


def test_the_command(tmp_path: Path) -> None:
    source, output = write(tmp_path / "x.txt"), tmp_path / "out.spacy"
    done = CliRunner().invoke(app, ["data", "trec", str(source), str(output), "--coarse"])
    assert done.stdout == f"{output}: 3 questions (HUM 2, LOC 1); 0 malformed left out\n"


@needs_shared
@pytest.mark.parametrize(("name", "size", "kinds"), [("train", 5452, 50), ("test", 500, 42)])
def test_official_files(tmp_path: Path, name: str, size: int, kinds: int) -> None:
    source = SHARED / "trec" / f"{name}.txt"
    counts = write_trec(source, tmp_path / "out.spacy", NLP, BadRows())
    assert (counts.total(), len(counts)) == (size, kinds)
