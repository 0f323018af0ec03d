"""The geometry of an encoder's tokens."""

from __future__ import annotations

import numpy as np
import pytest
from spacy.language import Language

import spacy_bert
from spacy_bert.analysis import layer_choice
from spacy_bert.analysis.geometry import layer_geometry
from spacy_bert.analysis.layer_choice import suggest_layer, token_geometry
from tests.conftest import SENTENCES


def test_equal_to_the_geometry_of_the_traces(nlp: Language) -> None:
    docs = [nlp.make_doc(text) for text in SENTENCES]
    found = token_geometry(nlp, docs, label=lambda token: token.lower_[:1], k=5)
    states = np.concatenate([own.tokens().hidden for own in spacy_bert.trace(nlp, docs)], axis=1)
    expected = layer_geometry(
        list(states.astype(np.float16).astype(np.float32)),
        np.array([token.lower_[:1] for doc in docs for token in doc]),
        k=5,
    )
    np.testing.assert_allclose(found.overlap, expected.overlap, atol=0.02)
    np.testing.assert_allclose(found.profile, expected.profile, rtol=0.1)
    np.testing.assert_allclose(found.labels, expected.labels, atol=0.02)
    few = token_geometry(nlp, docs, points=20, k=5)
    assert few.labels is None
    assert few.dimensions[0].points <= 20
    with pytest.raises(ValueError, match="3 tokens: more than 30"):
        token_geometry(nlp, [nlp.make_doc("a b c")])
    with pytest.raises(ValueError, match="0 tokens with a label"):
        token_geometry(nlp, docs, label=lambda token: "")


def test_a_layer_is_suggested(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = [nlp.make_doc(text) for text in SENTENCES]
    suggestion = suggest_layer(nlp, docs)
    assert suggestion.layer is None  # two layers have no minimum after a peak
    assert "names no layer" in suggestion.reason
    assert suggestion.profile.shape == (3,)
    monkeypatch.setattr(layer_choice, "semantic_layer", lambda profile: 1)
    suggestion = suggest_layer(nlp, docs)
    assert suggestion.layer == 1
    assert f"{suggestion.profile[1]:.1f} in layer 1" in suggestion.reason
