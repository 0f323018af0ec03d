"""Layers of encoders against each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language

import spacy_bert
from spacy_bert.analysis.layer_similarity import layer_similarity
from spacy_bert.analysis.similarity import cka
from tests.conftest import SENTENCES


def test_equal_to_the_batches_by_hand(nlp: Language, checkpoint: Path) -> None:
    docs = [nlp.make_doc(text) for text in SENTENCES * 3]
    seen: list[int] = []
    found = layer_similarity(nlp, docs, tokens=50, progress=seen.append)
    assert sum(seen) == len(docs)
    hidden = np.concatenate([own.tokens().hidden for own in spacy_bert.trace(nlp, docs)], axis=1)
    parts = [list(hidden[:, i : i + 50]) for i in range(0, hidden.shape[1] - 49, 50)]
    np.testing.assert_allclose(found, cka((part, None) for part in parts), atol=1e-5)
    np.testing.assert_allclose(np.diag(found), 1.0, atol=1e-9)

    fresh = spacy.blank("en")
    model = {"name": str(checkpoint), "pretrained": False}
    fresh.add_pipe("bert", config={"model": model})
    fresh.initialize()
    between = layer_similarity(nlp, docs, fresh, tokens=50)
    assert between.shape == (3, 3)
    assert np.abs(between).max() < 0.999
    with pytest.raises(ValueError, match="a batch 1,024: take more"):
        layer_similarity(nlp, docs[:2])
