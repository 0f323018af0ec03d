"""Segments: joined parts come back, whatever road the text takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from spacy.vocab import Vocab

import spacy_bert
from spacy_bert.models.segments import SEPARATOR

NLP = spacy.blank("en")
PARTS = st.lists(st.text().map(lambda text: text.replace(SEPARATOR, " ")), min_size=1, max_size=5)


@given(PARTS)
def test_joined_parts_come_back(parts: list[str]) -> None:
    doc = spacy_bert.join(NLP, *parts)
    assert doc.text == SEPARATOR.join(parts)
    found = doc._.segments
    if parts == [""]:
        assert [span.text for span in found] == [""]
        return
    # spaCy makes a run of white space one token: at the edges it belongs to the border.
    assert [span.text.strip() for span in found] == [part.strip() for part in parts]


def test_a_plain_doc_has_one_segment() -> None:
    doc = NLP("Just one sentence here.")
    assert [(span.start, span.end) for span in doc._.segments] == [(0, len(doc))]


def test_segments_survive_docbin_corpus_and_bytes(tmp_path: Path) -> None:
    parts = ["Who wrote it?", "Ada wrote it.", "(Bob did not.)"]
    doc = spacy_bert.join(NLP, *parts)
    DocBin(docs=[doc]).to_disk(tmp_path / "docs.spacy")
    (example,) = Corpus(tmp_path / "docs.spacy")(NLP)
    copies = [example.predicted, example.reference, doc.copy()]
    copies += [Doc(NLP.vocab).from_bytes(doc.to_bytes()), NLP(doc.text)]
    for copy in copies:
        assert [span.text for span in copy._.segments] == parts


def test_segments_of_a_vocab_without_lexical_attributes(tmp_path: Path) -> None:
    DocBin(docs=[spacy_bert.join(NLP, "Who?", "Ada.")]).to_disk(tmp_path / "docs.spacy")
    (doc,) = DocBin().from_disk(tmp_path / "docs.spacy").get_docs(Vocab())
    assert [span.text for span in doc._.segments] == ["Who?", "Ada."]


def test_wrong_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one text"):
        spacy_bert.join(NLP)
    with pytest.raises(ValueError, match=r"part 2 of join holds U\+001E"):
        spacy_bert.join(NLP, "a", f"b{SEPARATOR}c")
    with pytest.raises(TypeError, match="part 1 is a Doc"):
        spacy_bert.join(NLP, NLP("a"), "b")  # type: ignore[arg-type]


def test_a_border_inside_a_word_is_refused() -> None:
    doc = Doc(NLP.vocab, words=["one", f"two{SEPARATOR}three"])
    with pytest.raises(ValueError, match=r"U\+001E beside other text"):
        _ = doc._.segments
