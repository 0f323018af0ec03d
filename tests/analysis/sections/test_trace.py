"""The attention of a Doc in a report: the figures of its sentences, and every picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from spacy.language import Language

import spacy_bert
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.sections.trace import add_trace
from spacy_bert.analysis.trace import Trace
from tests.conftest import SENTENCES


def test_what_is_said_and_shown(nlp: Language, tmp_path: Path) -> None:
    """Planted: layer 0 looks at [CLS], layer 1 at the own piece and, its last head, at all."""
    whole = spacy_bert.trace(nlp, spacy_bert.join(nlp, SENTENCES[0], SENTENCES[4]))
    size = len(whole.pieces)
    attention = np.zeros((2, 2, size, size), dtype=np.float32)
    attention[0, :, :, 0] = 1.0
    attention[1, 0] = np.eye(size)
    attention[1, 1] = 1 / size
    trace = Trace(whole.doc, whole.reading, lambda wanted: (whole.hidden, [attention]))
    report = Report("T")
    add_trace(report, trace, source="planted")
    html = report.to_html()
    assert "goes to [CLS] and [SEP]: most in layer 0 (100%), least in layer 1 (" in html
    assert "The most pointed head is layer 0, head 0," in html
    assert "the broadest is layer 1, head 1," in html

    add_trace(report, trace[:6], source="planted", name="part")  # without [CLS] and [SEP]
    report.save(tmp_path)
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(record["pictures"]) == ["trace-heads", "part-heads"]
    heads = [item["label"] for item in record["galleries"]["trace-head"]["items"]]
    assert heads == [f"layer {layer}, head {head}" for layer in range(2) for head in range(2)]
    tokens = [item["label"] for item in record["galleries"]["trace-token"]["items"]]
    assert tokens[:3] == ["0 [CLS]", "1 The", "2 quick"]
    assert len(set(tokens)) == len(tokens)
    assert len(record["galleries"]["part-token"]["items"]) == 6


def test_pruned_heads_do_not_count(nlp: Language) -> None:
    whole = spacy_bert.trace(nlp, SENTENCES[0])
    attention = np.zeros_like(whole.attention)
    attention[1, 1, :, 0] = 1.0  # the only head that is left
    trace = Trace(whole.doc, whole.reading, lambda wanted: (whole.hidden, [attention]))
    report = Report("T")
    add_trace(report, trace, source="planted")
    html = report.to_html()
    assert "100% of the attention goes to [CLS] and [SEP]: most in layer 1 (100%)" in html
    assert "the broadest is layer 1, head 1," in html


def test_too_long(nlp: Language) -> None:
    report = Report("T")
    with pytest.raises(ValueError, match="up to 60 tokens"):
        add_trace(report, spacy_bert.trace(nlp, "a " * 60), source="here")
    assert "Attention of one Doc" not in report.to_html()
