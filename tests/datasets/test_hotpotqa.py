"""HotpotQA: answers and supporting facts are where the file says; the file is read in pieces."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.datasets import hotpotqa
from spacy_bert.datasets.hotpotqa import Counts, read_array, write_hotpotqa
from spacy_bert.datasets.writing import BadRows

NLP = spacy.blank("en")

CONTEXT = [
    ["Rome", ["Rome is a city.", " Pisa is north of it."]],
    ["Pisa", ["Pisa is a city in Italy.", " It has a tower."]],
    ["Tower of Pisa", ["The tower of Pisa leans.", " It is in Italy.", " It is white."]],
    ["Oslo", ["Oslo is in Norway."]],
]
FACTS = [["Tower of Pisa", 1], ["Pisa", 1]]


def question(name: str, answer: str = "Italy", **changes: Any) -> dict[str, Any]:
    row = {
        "_id": name,
        "question": f"{name}? ",
        "answer": answer,
        "type": "bridge",
        "level": "hard",
        "supporting_facts": FACTS,
        "context": CONTEXT,
    }
    return {key: value for key, value in {**row, **changes}.items() if value is not None}


def write(path: Path, *questions: Any) -> Path:
    text = json.dumps(list(questions))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def run(
    source: Path, *, bad: BadRows | None = None, distractors: int | None = None
) -> tuple[list[Doc], Counts]:
    output = source.parent / "out.spacy"
    counts = write_hotpotqa(source, output, NLP, bad or BadRows(), distractors=distractors)
    return list(DocBin().from_disk(output).get_docs(NLP.vocab)), counts


def texts(doc: Doc, key: str) -> list[str]:
    return [span.text for span in doc.spans[key]]


@pytest.mark.parametrize("name", ["dev.json", "dev.json.gz"])
def test_paragraphs_answers_and_facts(tmp_path: Path, name: str) -> None:
    rows = [
        question("a"),
        question("b", "leans"),
        question("c", "Norway"),
        question("d", "yes"),
        question("e", "Bergen"),
        question("f", "A Tower", supporting_facts=[["Pisa", 7], ["Bergen", 0], ["Pisa", 1]]),
    ]
    docs, counts = run(write(tmp_path / name, *rows))
    assert counts == Counts(questions=4, unsupported=2, yes_no=1, elsewhere=1, lost_facts=2)
    assert {doc.text.split("\x1e")[1] for doc in docs} == {
        "Rome: Rome is a city. Pisa is north of it.\n"
        "Pisa: Pisa is a city in Italy. It has a tower.\n"
        "Tower of Pisa: The tower of Pisa leans. It is in Italy. It is white.\n"
        "Oslo: Oslo is in Norway."
    }
    assert docs[0].text.startswith("a?\x1e")
    assert texts(docs[0], "supporting_facts") == ["It has a tower.", "It is in Italy."]
    # Italy stands in two supporting paragraphs, but in one supporting fact.
    assert texts(docs[0], "answers") == ["Italy"]
    assert docs[0].spans["answers"][0].start_char == docs[0].text.rindex("Italy")
    assert texts(docs[1], "answers") == ["leans"]
    assert texts(docs[2], "answers") == ["Norway"]
    assert texts(docs[3], "supporting_facts") == ["It has a tower."]
    assert texts(docs[3], "answers") == ["a tower"]


def test_answers_outside_facts_are_looked_for_in_their_paragraphs_first(tmp_path: Path) -> None:
    (doc,), counts = run(
        write(tmp_path / "x.json", question("a", "Pisa", supporting_facts=[["Pisa", 1]]))
    )
    begin, end = doc.text.index("Pisa: Pisa"), doc.text.index("\nTower")
    assert counts.unsupported == 1
    assert [span.start_char for span in doc.spans["answers"]] == [begin, begin + len("Pisa: ")]
    assert all(begin <= span.start_char < end for span in doc.spans["answers"])


@pytest.mark.parametrize(
    ("distractors", "titles"),
    [
        (0, ["Pisa", "Tower of Pisa"]),
        (1, ["Rome", "Pisa", "Tower of Pisa"]),
        (9, ["Rome", "Pisa", "Tower of Pisa", "Oslo"]),
    ],
)
def test_distractors(tmp_path: Path, distractors: int, titles: list[str]) -> None:
    source = write(tmp_path / "x.json", question("a"))
    (doc,), _ = run(source, distractors=distractors)
    context = doc.text.split("\x1e")[1]
    assert [line.split(": ")[0] for line in context.split("\n")] == titles
    assert texts(doc, "supporting_facts") == ["It has a tower.", "It is in Italy."]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("Why?", 'a question without _id: expected an object with a text in "question"'),
        (question("q", answer=None), 'question q: expected an object with a text in "answer"'),  # type: ignore[arg-type]
        (question("q", question=" "), 'question q: expected an object with a text in "question"'),
        (question("q", context="x"), 'question q: expected a list in "context"'),
        (question("q", supporting_facts=None), 'question q: expected a list in "supporting_fact'),
        (question("q", supporting_facts=[["Pisa"]]), "question q: expected pairs that begin wi"),
        (question("q", supporting_facts=[["Pisa", "0"]]), "question q: expected a title and a n"),
        (question("q", context=[["Pisa", "x"]]), "question q: expected a title and a list of se"),
        (question("q", context=[["Pisa", [1]]]), "question q: expected a title and a list of se"),
        (question("q", question="a\x1eb"), "question q: part 1 of join holds U+001E"),
    ],
)
def test_malformed_questions(tmp_path: Path, row: Any, problem: str) -> None:
    source = write(tmp_path / "x.json", question("ok"), row)
    with pytest.raises(ValueError, match="question") as caught:
        run(source)
    assert str(caught.value).startswith(f"{source}, {problem}")
    bad = BadRows(skip=True)
    docs, _ = run(source, bad=bad)
    assert len(docs) == 1
    assert bad.problems == [str(caught.value)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(items=st.lists(JSON, max_size=5), indent=st.sampled_from([None, 1]), chunk=st.integers(1, 9))
def test_arrays_are_read_in_pieces_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, items: list[Any], indent: int | None, chunk: int
) -> None:
    file = tmp_path_factory.mktemp("json") / "x.json"
    file.write_text(
        json.dumps(items, indent=indent, ensure_ascii=False), encoding="utf8", newline=""
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hotpotqa, "CHUNK", chunk)
        assert list(read_array(file)) == items


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "expected a JSON array of questions"),
        ("", "expected a JSON array of questions"),
        ('[{"a": 1}, {"b": }]', "item 2: not valid JSON"),
        ('[{"a": 1} {"b": 2}]', r"item 1: not valid JSON \(expected ',' or ']' behind it\)"),
        ('[{"a": 1}, {"b"', "item 2: not valid JSON"),
        ("[", "item 1: not valid JSON"),
    ],
)
def test_files_of_another_form(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"^{file}(:|,) {problem}"):
        list(read_array(file))


def test_the_command(tmp_path: Path) -> None:
    source = write(tmp_path / "x.json", question("a"), question("b", "no"), {"_id": "c"})
    output = tmp_path / "out.spacy"
    arguments = ["data", "hotpotqa", str(source), str(output)]
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code == 1
    problem = f'{source}, question c: expected an object with a text in "question"\n'
    assert failed.stderr.endswith(f"Error: {problem}")
    assert not output.exists()
    done = CliRunner().invoke(app, [*arguments, "--skip-bad-rows", "--distractors", "0"])
    assert done.exit_code == 0, done.output
    assert done.stderr.endswith(f"Skipped {problem}")
    assert done.stdout == (
        f"{output}: 1 questions, 0 answers in no supporting fact, 0 facts that are not there; left "
        "out: 1 answered by yes or no, 0 by what is not in the paragraphs, 1 malformed\n"
    )
    failed = CliRunner().invoke(app, [*arguments, "--distractors", "-1"])
    assert failed.stderr.endswith("Error: --distractors must be 0 or more, got -1\n")
