"""Planted clusters are found, and random ones are not."""

from __future__ import annotations

import numpy as np
import pytest
from spacy.language import Language
from spacy.tokens import Doc, Span

import spacy_bert
from spacy_bert.analysis.phrases import cluster_nmi, phrase_clusters, span_vector
from tests.conftest import SENTENCES


def test_planted_clusters() -> None:
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.array(["NP", "VP", "PP"]), 100)
    centres = np.repeat(10.0 * np.eye(3, 20), 100, axis=0)
    assert cluster_nmi(centres + rng.normal(size=(300, 20)), kinds) == pytest.approx(1.0)
    assert cluster_nmi(rng.normal(size=(300, 20)), kinds) < 0.05


def test_span_vectors() -> None:
    first, last = np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]])
    assert span_vector(first, last).tolist() == [[1, 2, 3, 5, 3, 10, -2, -3]]


def chunked(nlp: Language) -> list[Doc]:
    docs = [nlp.make_doc(text) for text in SENTENCES]
    for doc in docs:
        doc.ents = [Span(doc, 0, 2, label="A"), Span(doc, 3, 6, label="B")]
    return docs


def test_phrases_of_an_encoder(nlp: Language) -> None:
    docs = chunked(nlp)
    found = phrase_clusters(nlp, docs, others=6)
    assert found.nmi.shape == (3,)
    assert found.vectors.shape == (3, 16, 4 * 128)
    assert sorted(found.kinds.tolist()) == ["A"] * 5 + ["B"] * 5 + ["O"] * 6
    assert 0 <= found.best_layer < 3
    place = next(i for i, text in enumerate(found.texts) if text == docs[1][3:6].text)
    hidden = spacy_bert.trace(nlp, docs[1]).tokens().hidden
    expected = span_vector(hidden[:, 3], hidden[:, 5])
    np.testing.assert_allclose(found.vectors[:, place], expected, atol=1e-5)
    few = phrase_clusters(nlp, docs, phrases=4, others=2)
    assert len(few.texts) == 6
    with pytest.raises(ValueError, match="0 phrases of 0 kinds"):
        phrase_clusters(nlp, [nlp.make_doc("A list.")])
