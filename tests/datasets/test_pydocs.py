from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spacy_bert.datasets.pydocs import (
    MAX_PER_MODULE,
    Document,
    documents,
    read_docstrings,
    read_topics,
    topic_documents,
    write_corpus,
)


def test_the_corpus_is_large_enough(docs: list[Document]) -> None:
    assert len(docs) > 4000
    assert sum(len(doc.text.split()) for doc in docs) > 120_000
    assert len({doc.source for doc in docs}) > 250


def test_a_known_docstring_is_found(docs: list[Document]) -> None:
    wrap = next(doc for doc in docs if doc.source == "textwrap" and "Wrap a single" in doc.text)
    assert (
        wrap.sentences[0] == "Wrap a single paragraph of text, returning a list of wrapped lines."
    )


def test_documents_are_clean(docs: list[Document]) -> None:
    for doc in docs:
        assert doc.sentences
        assert ">>>" not in doc.text
        assert "\n" not in doc.text


def test_what_is_left_out(docs: list[Document]) -> None:
    sources = [doc.source for doc in docs]
    left_out = {"tkinter", "distutils", "idlelib", "_pydecimal", "test", "tests"}
    assert not left_out & {part for source in sources for part in source.split(".")}
    assert max(map(sources.count, set(sources))) <= MAX_PER_MODULE


def test_repeats_are_left_out(docs: list[Document]) -> None:
    assert len({doc.sentences for doc in docs}) == len(docs)


def test_topics_share_no_section() -> None:
    topics = {
        "a": "Title\n*****\n\nThe shared sentence stands here.\n",
        "b": "Title\n*****\n\nThe shared sentence stands here.\n\nMore\n====\n\nIt is all new.\n",
    }
    assert list(topic_documents(topics)) == [
        Document("topic:a", ("The shared sentence stands here.",)),
        Document("topic:b", ("It is all new.",)),
    ]


def test_reading_imports_nothing() -> None:
    code = (
        "import sys; from spacy_bert.datasets.pydocs import read_docstrings, read_topics\n"
        "before = set(sys.modules); list(read_docstrings()); read_topics()\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_a_library_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text('"""The package of packs."""')
    (tmp_path / "pack" / "part.py").write_text(
        'class A:\n    def f(self):\n        """Return the part of it."""\n'
        "    async def g(self): ...\n"
    )
    (tmp_path / "broken.py").write_text("def :")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "other.py").write_text('"""Somebody else wrote this."""')
    found = list(read_docstrings(tmp_path))
    assert [(doc.module, doc.name) for doc in found] == [("pack", ""), ("pack.part", "A.f")]
    assert read_topics(tmp_path) == {}

    write_corpus(documents(found), tmp_path / "corpus.txt")
    corpus = (tmp_path / "corpus.txt").read_text(encoding="utf-8")
    assert corpus == "The package of packs.\n\nReturn the part of it.\n\n"


def test_no_sources(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no Python source files"):
        list(read_docstrings(tmp_path))
