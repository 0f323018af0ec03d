"""Attention that a test has chosen, in the place of the network's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

import spacy_bert
from spacy_bert.analysis import head_maps
from spacy_bert.analysis.inside import find_shim
from spacy_bert.analysis.trace import Trace
from spacy_bert.bert.pruning import prune_heads


def plant(monkeypatch: pytest.MonkeyPatch, make: Callable[[Trace], np.ndarray]) -> None:
    """Let analyses of heads see the attention, (layers, heads, pieces, pieces), that `make` gives.

    The Docs must be read in one window.
    """

    def traces(nlp: Language, docs: Iterable[Doc], *, component: str | None) -> list[Trace]:
        return [planted(found) for found in spacy_bert.trace(nlp, docs, component=component)]

    def planted(found: Trace) -> Trace:
        maps = np.float32(make(found))
        return Trace(found.doc, found.reading, lambda _: (np.zeros((1, 1, 1)), [maps]))

    monkeypatch.setattr(head_maps, "trace", traces)


def pruned(checkpoint: Path, heads: dict[int, list[int]]) -> Language:
    """A pipeline whose encoder lacks some heads."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    nlp.initialize()
    shim = find_shim(nlp)
    shim.take(prune_heads(shim.network, heads), shim.wordpiece)
    return nlp
