"""The corpus of the English BERT."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from spacy_bert.datasets.english import write_english
from spacy_bert.pretraining.corpus import TextCorpus


def test_articles_chapters_and_texts_are_documents(tmp_path: Path) -> None:
    (tmp_path / "wiki.jsonl").write_text(json.dumps({"title": "A", "text": "A is\nfirst."}))
    with gzip.open(tmp_path / "novels.jsonl.gz", "wt") as stream:
        stream.write(json.dumps({"title": "N", "chapters": ["One.", "Two."]}) + "\n")
    (tmp_path / "text.txt").write_text("x\ny\n\nz")
    counts = write_english(
        tmp_path / "out.jsonl.gz",
        wikipedia=tmp_path / "wiki.jsonl",
        novels=tmp_path / "novels.jsonl.gz",
        text=tmp_path / "text.txt",
    )
    assert counts == {"wikipedia": 1, "novels": 2, "text": 2}
    expected = [["A is", "first."], ["One."], ["Two."], ["x", "y"], ["z"]]
    assert list(TextCorpus(tmp_path / "out.jsonl.gz")) == expected


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no source is given"):
        write_english(tmp_path / "out.jsonl.gz")
    (tmp_path / "novels.jsonl").write_text('{"chapters": ["One."]}\n{"text": "x"}\n')
    with pytest.raises(ValueError, match=r"novels.jsonl, line 2: not an object with a list"):
        write_english(tmp_path / "out.jsonl.gz", novels=tmp_path / "novels.jsonl")
    assert not (tmp_path / "out.jsonl.gz").exists()
