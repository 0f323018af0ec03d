"""Reading SQuAD's files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.datasets.squad import read_squad, write_squad
from spacy_bert.datasets.writing import BadRows
from tests.shared_data import SHARED, needs_shared

CONTEXT = "It can't cost $5. The mid-1980s saw 3.5km of road near Zürich; Zürich paid."


def answer(text: str, start: int | None = None) -> dict[str, Any]:
    return {"text": text, "answer_start": CONTEXT.index(text) if start is None else start}


def question(name: str, *answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": name, "question": f"{name}? ", "answers": list(answers), **more}


def write(path: Path, *questions: Any, context: Any = CONTEXT) -> Path:
    paragraphs = [{"context": context, "qas": list(questions)}]
    text = json.dumps({"version": "v2.0", "data": [{"title": "x", "paragraphs": paragraphs}]})
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf8")
    return path


def read(path: Path, nlp: Language | None = None, *, skip: bool = False) -> list[Doc]:
    return list(read_squad(path, nlp or spacy.blank("en"), BadRows(skip=skip)))


@pytest.mark.parametrize("name", ["dev.json", "dev.json.gz"])
def test_answers_keep_their_exact_texts(tmp_path: Path, name: str) -> None:
    second = CONTEXT.rindex("Zürich")
    rows = [
        question("a", answer("mid-1980"), answer("1980")),
        question("b", answer("Zürich", second), answer("Zürich", second)),
        question("c", answer(" cost ")),
        question("d", is_impossible=True, plausible_answers=[answer("$5")]),
    ]
    docs = read(write(tmp_path / name, *rows))
    assert [doc._.segments[0].text for doc in docs] == ["a?", "b?", "c?", "d?"]
    assert {doc._.segments[1].text for doc in docs} == {CONTEXT}
    groups = [doc.spans["answers"] for doc in docs]
    texts = [["mid-1980", "1980"], ["Zürich"], ["cost"], []]
    assert [group.attrs["texts"] for group in groups] == texts
    for group in groups:
        assert all(t in span.text for span, t in zip(group, group.attrs["texts"], strict=True))
        assert len(group) == len(group.attrs["texts"])
    assert groups[1][0].start_char == 3 + second


def test_the_command_writes_a_docbin_and_counts(tmp_path: Path) -> None:
    rows = [
        question("a", answer("mid-1980"), answer("mid-1980s")),
        question("q7", answer("nowhere", 3)),
        question("d", is_impossible=True),
    ]
    source, output = write(tmp_path / "dev.json", *rows), tmp_path / "out" / "dev.spacy"
    failed = CliRunner().invoke(app, ["data", "squad", str(source), str(output)])
    assert failed.exit_code == 1
    expected = '"answer_start" is 3, where the context has "can\'t c", not \'nowhere\''
    assert failed.stderr == f"Error: {source}, question q7: {expected}\n"
    assert not output.exists()
    done = CliRunner().invoke(app, ["data", "squad", str(source), str(output), "--skip-bad-rows"])
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        f"{output}: 2 questions, 1 without answer, 2 answers, of which 1 begin or end in a token; "
        "1 malformed questions left out\n"
    )
    assert done.stderr == f"Skipped {source}, question q7: {expected}\n"
    first, second = DocBin().from_disk(output).get_docs(spacy.blank("en").vocab)
    assert first.spans["answers"].attrs["texts"] == ["mid-1980", "mid-1980s"]
    assert "answers" in second.spans
    assert not second.spans["answers"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            question("q", answer("cost", -4)),
            r'question q: "answer_start" is -4, where .* not ',
        ),
        (question("q", answer("cost", 9999)), r"question q: .* where the context has '', not"),
        (question("q", answer("", 0)), r'question q: an answer needs a "text" and a number in'),
        (question("q", {"text": "cost"}), r'question q: an answer needs a "text" and a number in'),
        (question("q", "cost"), r'question q: an answer needs a "text" and a number in'),
        (question("q"), r'question q: there is no answer: .* "is_impossible" is true'),
        (question("q", answer("cost"), is_impossible=True), r"question q: .* but there are answer"),
        ({"id": "q", "question": "Why?"}, r'question q: expected a list in "answers"'),
        ({"id": "q", "answers": []}, r'question q: expected an object with a text in "question"'),
        ({"id": "q", "question": " ", "answers": []}, r'question q: its "question" is empty$'),
        ("Why?", r"a question without id: expected an object with a text in .question."),
        (
            {**question("q", answer("cost")), "question": "a\x1eb"},
            r"question q: part 1 of join holds U\+001E",
        ),
    ],
)
def test_malformed_questions(tmp_path: Path, row: Any, message: str) -> None:
    source = write(tmp_path / "dev.json", question("ok", answer("cost")), row)
    with pytest.raises(ValueError, match=message) as caught:
        read(source)
    assert str(caught.value).startswith(f"{source}, ")
    assert len(read(source, skip=True)) == 1


def test_a_paragraph_without_text(tmp_path: Path) -> None:
    source = write(tmp_path / "dev.json", question("q", answer("cost")), context=None)
    with pytest.raises(ValueError, match=r'question q: its paragraph has no text in "context"'):
        read(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [\n{"paragraphs": [}', r"x.json, line 2, column 17: not valid JSON"),
        ("[]", r'x.json: the file has no list in "data"; expected the form of SQuAD'),
        ('{"data": [{}]}', r'x.json: an article has no list in "paragraphs"'),
        ('{"data": [{"paragraphs": [{}]}]}', r'x.json: a paragraph has no list in "qas"'),
        ('{"data": []}', r"there is no Doc to write to .*: the source has no usable row"),
        (b"\xff\xfe", r"x.json: not UTF-8"),
    ],
)
def test_files_of_another_form(tmp_path: Path, text: str | bytes, message: str) -> None:
    source = tmp_path / "x.json"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as caught:
        write_squad(source, tmp_path / "x.spacy", rows=BadRows())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.spacy").exists()


def test_a_truncated_file_and_an_unknown_language(tmp_path: Path) -> None:
    source = write(tmp_path / "x.json.gz", question("q", answer("cost")))
    with pytest.raises(ValueError, match=r"^language 'klingon': "):
        write_squad(source, tmp_path / "x.spacy", lang="klingon", rows=BadRows())
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"x.json.gz: damaged or truncated gzip file"):
        write_squad(source, tmp_path / "x.spacy", rows=BadRows())


@needs_shared
def test_real_questions(tmp_path: Path) -> None:
    source = SHARED / "squad" / "squad11_dev_subset_1062.json.gz"
    counts = write_squad(source, tmp_path / "dev.spacy", rows=BadRows())
    data = json.loads(gzip.decompress(source.read_bytes()))["data"]
    rows = [
        (row, paragraph["context"])
        for article in data
        for paragraph in article["paragraphs"]
        for row in paragraph["qas"]
    ]
    assert counts["questions"] == len(rows) == 1062
    docs = list(DocBin().from_disk(tmp_path / "dev.spacy").get_docs(spacy.blank("en").vocab))
    for doc, (row, context) in zip(docs, rows, strict=True):
        assert doc.text == f"{row['question'].strip()}\x1e{context}"
        group = doc.spans["answers"]
        assert set(group.attrs["texts"]) == {found["text"] for found in row["answers"]}
        begin = len(row["question"].strip()) + 1
        starts = {(begin + a["answer_start"], a["text"]) for a in row["answers"]}
        for span, text in zip(group, group.attrs["texts"], strict=True):
            assert any(
                span.start_char <= start and start + len(text) <= span.end_char
                for start, other in starts
                if other == text
            )
    assert 0 < counts["inexact"] < 0.05 * counts["answers"]
