"""A pipeline whose encoder can be looked into."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.language import Language


@pytest.fixture(scope="session")
def nlp(checkpoint: Path) -> Language:
    """The component "bert" alone, of two layers with two heads."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    nlp.initialize()
    return nlp


@pytest.fixture(scope="session")
def narrow(checkpoint: Path) -> Language:
    """The same, that reads in windows of 40 pieces."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint), "window": 40, "stride": 20}})
    nlp.initialize()
    return nlp
