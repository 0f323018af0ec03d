"""Malformed rows and `.spacy` files."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

from spacy_bert.datasets.writing import BadRows, write_docs


def test_the_first_malformed_row_is_an_error():
    with pytest.raises(ValueError, match=r"dev\.tsv, line 7: no label"):
        BadRows().add(Path("dev.tsv"), 7, "no label")


def test_malformed_rows_are_skipped_and_noted():
    rows = BadRows(skip=True)
    rows.add(Path("dev.tsv"), 7, "no label")
    rows.add(Path("dev.json"), "question q3", "no answers")
    assert rows.problems == ["dev.tsv, line 7: no label", "dev.json, question q3: no answers"]


def test_docs_keep_their_annotations(tmp_path):
    nlp = spacy.blank("en")
    doc = nlp("what one two")
    doc.spans["answers"] = [doc[1:2]]
    doc.spans["answers"].attrs["texts"] = ["one"]
    doc.cats = {"a": 1.0}
    assert write_docs(tmp_path / "sub" / "out.spacy", iter([doc, nlp("x")])) == 2
    read, _ = DocBin().from_disk(tmp_path / "sub" / "out.spacy").get_docs(nlp.vocab)
    assert [span.text for span in read.spans["answers"]] == ["one"]
    assert read.spans["answers"].attrs["texts"] == ["one"]
    assert read.cats == {"a": 1.0}


def test_nothing_is_written_of_nothing_or_after_an_error(tmp_path):
    def failing():
        yield spacy.blank("en")("x")
        raise RuntimeError

    with pytest.raises(ValueError, match="no usable row"):
        write_docs(tmp_path / "out.spacy", [])
    with pytest.raises(ValueError, match=r"out.txt: spaCy reads files whose names end in .spacy"):
        write_docs(tmp_path / "out.txt", failing())
    with pytest.raises(RuntimeError):
        write_docs(tmp_path / "out.spacy", failing())
    assert not list(tmp_path.iterdir())
