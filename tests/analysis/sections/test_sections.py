"""Sections: what they say is what was found, every chart is drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spacy_bert.analysis.cls_attention import AdversarialAttention, PermutedAttention
from spacy_bert.analysis.decisions import Quality
from spacy_bert.analysis.erasure import DimensionErasure, WordErasure
from spacy_bert.analysis.gates import HeadImportance
from spacy_bert.analysis.head_pruning import HeadAblation, PruningCurve
from spacy_bert.analysis.head_study import HeadStudy
from spacy_bert.analysis.pruned_pipeline import Condition, Pruned
from spacy_bert.analysis.ranking import MarkerRemoval, SegmentAttention
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.sections.erasure import add_dimension_erasure, add_word_erasure
from spacy_bert.analysis.sections.heads import add_heads
from spacy_bert.analysis.sections.ranking import (
    add_adversarial_attention,
    add_marker_removal,
    add_permuted_attention,
    add_segment_attention,
)


@pytest.fixture
def report() -> Report:
    return Report("Looking inside")


def saved(report: Report, directory: Path) -> tuple[str, dict[str, Any]]:
    """The page and the record; every chart has been drawn as a picture."""
    html = report.save(directory).read_text(encoding="utf8")
    record = json.loads((directory / "report.json").read_text(encoding="utf8"))
    for kind in ("tables", "charts"):
        for each in record[kind].values():
            assert each["source"] == "dev.spacy"
            assert each["caption"].count(".") >= 1
    for name in record["charts"]:
        assert (directory / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    return html, record


def study() -> HeadStudy:
    raw = np.array([[0.3, 0.4, 0.0], [0.02, 0.01, 0.03]])
    quality = Quality(metric="cats_score", score=0.9, log_likelihood=-0.2)
    after = Quality(metric="cats_score", score=0.8, log_likelihood=-0.3)
    return HeadStudy(
        importance=HeadImportance(
            component="bert_textcat", raw=raw, examples=1200, pruned=raw == 0.0
        ),
        left_out=HeadAblation(
            component="bert_textcat", original=quality, scores=raw, log_likelihoods=-0.2 - raw
        ),
        curve=PruningCurve(
            component="bert_textcat",
            original=quality,
            shares=np.array([0.3, 0.5]),
            by_importance=np.array([0.89, 0.85]),
            random=np.array([[0.7, 0.6], [0.8, 0.5]]),
        ),
        pruned=Pruned(
            component="bert_textcat",
            heads={1: [0, 1]},
            before=Condition(heads=5, parameters=1000, quality=quality, docs_per_second=20.0),
            after=Condition(heads=3, parameters=750, quality=after, docs_per_second=30.0),
        ),
    )


def test_heads(report: Report, tmp_path: Path) -> None:
    add_heads(report, study(), source="dev.spacy")
    html, record = saved(report, tmp_path)
    assert "1,200 examples" in html
    assert "head 1 of layer 0" in html
    assert "3 of 5 heads have less than a tenth of that" in html
    assert "Spearman correlation of 1.00" in html
    assert "closed it is 0.890 by importance and 0.750 at random" in html
    assert "closed it is 0.850 by importance and 0.550 at random" in html
    assert "25.0% of the encoder" in html
    assert "1.50 times as many" in html
    assert len(record["charts"]["heads-importance"]["rows"]) == 5  # one is pruned
    assert [row["heads"] for row in record["tables"]["heads-pruned"]["rows"]] == [5, 3]


def test_two_components_in_one_report(report: Report, tmp_path: Path) -> None:
    add_heads(report, study(), source="dev.spacy", key="sst2")
    add_heads(report, study(), source="dev.spacy", key="mrpc")
    _, record = saved(report, tmp_path)
    assert len(record["charts"]) == 6


def test_words(report: Report, tmp_path: Path) -> None:
    found = [
        WordErasure(
            words=("the", 'a "good" film', "\n", "the", "if"),
            decision="positive",
            log_likelihood=-0.1,
            drops=np.array([-0.5, 2.0, np.nan, 0.1, 0.0]),
        ),
        WordErasure(
            words=("\n",), decision="negative", log_likelihood=-0.1, drops=np.array([np.nan])
        ),
    ]
    add_word_erasure(report, found, source="dev.spacy")
    html, record = saved(report, tmp_path)
    assert "Of 4 words in 2 Docs, 25% speak against the decision" in html
    assert "2 nats" in html
    assert list(record["charts"]) == ["words-1"]
    assert "(“positive”, -0.100 nats)" in html
    heaviest = record["tables"]["words-heaviest"]["rows"]
    assert [(row["word"], row["drop (nats)"]) for row in heaviest] == [
        ('a "good" film', 2.0),
        ("the", 0.1),
        ("if", 0.0),
        ("the", -0.5),
    ]
    assert {(row["Doc"], row["decision"]) for row in heaviest} == {(1, "positive")}
    drawn = record["charts"]["words-1"]["rows"]
    assert [row["word"] for row in drawn] == ["the", 'a "good" film', "the", "if"]
    assert report.to_png("words-1")  # Vega takes words in its expressions for its own
    with pytest.raises(ValueError, match="no word could be erased"):
        add_word_erasure(report, [], source="dev.spacy")


def test_dimensions(report: Report, tmp_path: Path) -> None:
    found = DimensionErasure(
        layer=2,
        dimensions=np.array([5, 6, 7, 8]),
        log_likelihoods=np.full(10, -0.5),
        drops=np.array([0.1, 0.6, -0.2, 0.1]),
        relative=np.array([0.2, 1.2, -0.4, np.nan]),
    )
    add_dimension_erasure(report, found, source="dev.spacy")
    html, record = saved(report, tmp_path)
    assert "dimension 6 weighs most" in html
    assert "1 of 4 dimensions make up half of all drops" in html
    table = record["tables"]["dimensions-best"]["rows"]
    assert [row["dimension"] for row in table] == [6, 5, 8, 7]
    assert table[2]["drop by |S|"] is None


def test_pairs(report: Report, tmp_path: Path) -> None:
    mass = np.full((3, 4, 4), 0.25)
    mass[1, 1] = [0.1, 0.2, 0.6, 0.1]
    found = SegmentAttention(mass=mass, even=np.array([0.1, 0.3, 0.5, 0.1]), windows=7)
    add_segment_attention(report, found, source="dev.spacy")
    removed = [
        MarkerRemoval(
            marker=marker,
            log_likelihoods=np.array([-0.1, -0.3]),
            drops=np.array([0.5, np.nan]),
            changed=np.array([True, False]),
        )
        for marker in ("[CLS]", "[SEP]")
    ]
    add_marker_removal(report, removed, source="dev.spacy")
    html, record = saved(report, tmp_path)
    assert "most to the passage in layer 1 (60% of its attention; 50% if it were even)" in html
    assert "25% of the attention of query and passage goes to [SEP]" in html
    assert "Without [SEP], 50% of 2 decisions change." in html
    assert record["tables"]["markers-removed"]["rows"][0]["mean drop (nats)"] == 0.5
    with pytest.raises(ValueError, match="no marker was removed"):
        add_marker_removal(report, [], source="dev.spacy")


def test_attention_of_cls(report: Report, tmp_path: Path) -> None:
    permuted = PermutedAttention(
        peaks=np.array([0.2, 0.9]), changes=np.array([0.05, 0.25]), count=100
    )
    add_permuted_attention(report, permuted, source="dev.spacy")
    attacked = AdversarialAttention(
        distances=np.array([math.log(2), 0.1]), changes=np.array([0.01, 0.0]), epsilon=0.01
    )
    add_adversarial_attention(report, attacked, source="dev.spacy")
    html, record = saved(report, tmp_path)
    assert "moves by 0.150" in html
    assert "50% of the Docs stay under 0.1" in html
    assert "0.397 nats from the original" in html
    assert "moves by 0.01 at most" in html
    assert len(record["charts"]["permuted-changes"]["rows"]) == 2
