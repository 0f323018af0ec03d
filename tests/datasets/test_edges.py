"""Labelled spans in JSON: what is written is what was read, and bad targets are told of."""

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
from spacy_bert.datasets.edges import Counts, write_edges
from spacy_bert.datasets.writing import BadRows

VOCAB = spacy.blank("en").vocab
ROWS = [
    {
        "text": "The dog didn't bark .",
        "targets": [
            {"span1": [3, 4], "span2": [0, 2], "label": "ARG0"},
            {"span1": [3, 4], "span2": [2, 3], "label": ["ARGM-NEG", "ARGM-MOD"]},
            {"span1": [3, 4], "span2": [4, 5], "label": []},
        ],
        "info": {"source": "made up"},
    },
    {"text": "Nothing here", "targets": []},
]


def write(path: Path, rows: list[Any], *, array: bool = False) -> Path:
    lines = json.dumps(rows) if array else "\n".join([*map(json.dumps, rows), ""])
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


def run(source: Path, bad: BadRows | None = None) -> tuple[list[Doc], Counts]:
    output = source.parent / "out.spacy"
    counts = write_edges(source, output, VOCAB, bad or BadRows())
    return list(DocBin().from_disk(output).get_docs(VOCAB)), counts


def as_row(doc: Doc) -> dict[str, Any]:
    """What the Doc says, in the form of the file."""
    first, second = doc.spans["span1"], doc.spans.get("span2", [None] * len(doc.spans["span1"]))
    targets = []
    for one, other, labels in zip(first, second, first.attrs["labels"], strict=True):
        target: dict[str, Any] = {"span1": [one.start, one.end]}
        if other is not None:
            target["span2"] = [other.start, other.end]
        targets.append({**target, "label": labels})
    return {"text": " ".join(token.text for token in doc), "targets": targets}


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("name", ["srl.json", "srl.jsonl.gz"])
def test_pairs(tmp_path: Path, name: str, array: bool) -> None:
    docs, counts = run(write(tmp_path / name, ROWS, array=array))
    assert counts == Counts(
        texts=2, targets=3, pairs=3, labels={"ARG0": 1, "ARGM-NEG": 1, "ARGM-MOD": 1}  # type: ignore[arg-type]
    )  # fmt: skip
    assert docs[0].text == "The dog didn't bark ."
    assert [token.text for token in docs[0]] == ["The", "dog", "didn't", "bark", "."]
    labels = [["ARG0"], ["ARGM-NEG", "ARGM-MOD"], []]
    assert [target["label"] for target in as_row(docs[0])["targets"]] == labels
    assert [span.text for span in docs[0].spans["span2"]] == ["The dog", "didn't", "."]
    assert as_row(docs[1])["targets"] == []


SPANS = st.tuples(st.integers(0, 4), st.integers(1, 5)).filter(lambda s: s[0] < s[1]).map(list)
LABELS = st.lists(st.text(min_size=1), max_size=3)


@given(
    rows=st.lists(st.lists(st.tuples(SPANS, SPANS, LABELS), max_size=4), min_size=1, max_size=3),
    pairs=st.booleans(),
)
def test_what_is_written_is_what_was_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], pairs: bool
) -> None:
    given_rows = [
        {
            "text": "a b c d e",
            "targets": [
                {"span1": first, **({"span2": second} if pairs else {}), "label": labels}
                for first, second, labels in targets
            ],
        }
        for targets in rows
    ]
    docs, _ = run(write(tmp_path_factory.mktemp("edges") / "x.jsonl", given_rows))
    assert [as_row(doc) for doc in docs] == given_rows


def edge(**changes: Any) -> dict[str, Any]:
    target = {"span1": [0, 1], "span2": [1, 2], "label": "x", **changes}
    return {"text": "a b", "targets": [{k: v for k, v in target.items() if v is not None}]}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([], 'expected an object with words in "text", without U+001E'),
        ({"text": " ", "targets": []}, 'expected an object with words in "text"'),
        ({"text": "a \x1e b", "targets": []}, 'expected an object with words in "text"'),
        ({"text": "a b"}, 'expected a list in "targets"'),
        (edge(label=None), 'a target needs "span1" and "label"'),
        (edge(label=[1]), '"label" must be a name or a list of names, got [1]'),
        (edge(span1=[0, 3]), "[0, 3] is no span: expected the first word and the one behind"),
        (edge(span2=[1, 1]), "[1, 1] is no span"),
        (edge(span2=[-1, 1]), "[-1, 1] is no span"),
        (edge(span2=[0.0, 1]), "[0.0, 1] is no span"),
        (edge(span2=None), '"span2" is given in some targets of the file, but not in others'),
    ],
)
def test_malformed_texts(tmp_path: Path, row: Any, problem: str) -> None:
    source = write(tmp_path / "x.jsonl", [edge(), row, edge()])
    with pytest.raises(ValueError, match="line 2") as caught:
        run(source)
    assert str(caught.value).startswith(f"{source}, line 2: {problem}")
    bad = BadRows(skip=True)
    docs, _ = run(source, bad)
    assert len(docs) == 2
    assert bad.problems == [str(caught.value)]


def test_other_files(tmp_path: Path) -> None:
    source = tmp_path / "x.json"
    source.write_text('{"text": "a",\n')
    with pytest.raises(ValueError, match=r"x.json, line 1: not valid JSON \(.*an object a line"):
        run(source)
    source = write(source, [edge(), {"text": ""}], array=True)
    with pytest.raises(ValueError, match=r"x\.json, item 2: expected an object with words"):
        run(source)


def test_the_command(tmp_path: Path) -> None:
    source, output = write(tmp_path / "x.jsonl", [*ROWS, edge(label=3)]), tmp_path / "out.spacy"
    args = ["data", "edges", str(source), str(output), "--skip-bad-rows"]
    done = CliRunner().invoke(app, args)
    problem = '"label" must be a name or a list of names, got 3'
    assert done.stderr.endswith(f"Skipped {source}, line 3: {problem}\n")
    assert done.stdout == (
        f"{output}: 2 texts, 3 targets, 3 of them pairs, 3 labels; 1 malformed left out\n"
    )
