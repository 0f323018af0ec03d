"""Text in Google's form -> documents."""

from __future__ import annotations

import pytest

from spacy_bert.pretraining.corpus import TextCorpus


def test_documents_end_at_blank_lines_and_with_the_file(tmp_path):
    (tmp_path / "b.txt").write_text("\n\nc1\n  \n\n d1 \nd2", "utf8")
    (tmp_path / "a.txt").write_bytes("\ufeffa1\r\na2\r\n\r\nb1\r\n".encode())
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "e.txt").write_text("é1\u2028still é1\n", "utf8")
    (tmp_path / "notes.md").write_text("not text", "utf8")
    corpus = TextCorpus(tmp_path)
    documents = [["a1", "a2"], ["b1"], ["c1"], ["d1", "d2"], ["é1\u2028still é1"]]
    assert list(corpus) == documents
    assert list(corpus) == documents  # it can be read again
    assert list(corpus.sentences()) == [sentence for one in documents for sentence in one]
    assert list(TextCorpus(tmp_path / "b.txt")) == [["c1"], ["d1", "d2"]]


def test_a_missing_or_empty_corpus_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such file or directory"):
        TextCorpus(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no \.txt file"):
        TextCorpus(tmp_path)


def test_text_in_another_encoding_is_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes("caf\xe9\n".encode("latin1"))
    with pytest.raises(ValueError, match=r"latin\.txt: not UTF-8"):
        list(TextCorpus(tmp_path))
