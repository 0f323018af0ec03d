"""Finding the encoder of a component."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
import torch
from spacy.language import Language

import spacy_bert
from spacy_bert.analysis.inside import find_shim
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.optimizer import build_adamw
from tests.pipeline.lifecycle import examples


@pytest.fixture
def under_way(checkpoint: Path) -> Language:
    """A pipeline after a bare `nlp.update`, whose step the optimizer has not taken yet."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    nlp.add_pipe("bert_textcat")
    given = examples(nlp)
    optimizer = nlp.initialize(lambda: given, sgd=build_adamw(1e-3))
    nlp.update(given, sgd=optimizer)
    return nlp


def weights(nlp: Language) -> torch.Tensor:
    """Some weights of the encoder, as they stand, copied."""
    network = encoder_shim(nlp.get_pipe("bert").model).network
    return network.layers[0].attention.output.weight.detach().clone()


@pytest.mark.parametrize("component", [None, "bert_textcat"])
def test_an_update_under_way_ends(component: str | None, under_way: Language) -> None:
    before = weights(under_way)
    network = find_shim(under_way, component).network
    found = network.layers[0].attention.output.weight.detach().clone()
    assert not torch.equal(found, before)
    under_way.to_bytes()  # asks the optimizer too
    assert torch.equal(found, weights(under_way))


def test_an_update_under_way_reaches_hugging_face(under_way: Language, tmp_path: Path) -> None:
    before = weights(under_way)
    spacy_bert.to_hf(under_way, tmp_path / "out")
    found = weights(spacy_bert.from_hf(tmp_path / "out"))
    assert not torch.equal(found, before)
    under_way.to_bytes()
    assert torch.equal(found, weights(under_way))
