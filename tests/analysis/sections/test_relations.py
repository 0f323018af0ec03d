"""Sections on heads as parsers: rows and sentences are those of the results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spacy_bert.analysis.attention_parser import AttentionParsing
from spacy_bert.analysis.head_relations import Coreference, HeadRelations, RelationScore
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.sections.relations import (
    add_attention_parser,
    add_coreference,
    add_relations,
)
from tests.analysis.sections.test_attention import SOURCE, saved


def score(relation: str, accuracy: float, offset_accuracy: float) -> RelationScore:
    return RelationScore(
        relation=relation,
        count=60,
        layer=1,
        head=0,
        direction="head to dependent",
        accuracy=accuracy,
        offset=-2,
        offset_accuracy=offset_accuracy,
    )


def test_relations(tmp_path: Path) -> None:
    scores = [score("all", 0.4, 0.3), score("obj", 0.8, 0.5), score("det", 0.6, 0.7)]
    found = HeadRelations(
        scores=scores,
        accuracy=np.zeros((3, 2, 2, 2)),
        annotation="gold",
        held_out=True,
        docs=1200,
        left_out={"iobj": 7, "vocative": 1},
    )
    report = Report("Relations")
    add_relations(report, found, source=SOURCE)
    html = report.to_html()
    assert "For 1 of 2 relations the best head beats the best offset; by most for obj" in html
    assert "counted in &#x27;all&#x27;: iobj (7), vocative (1)." in html
    assert "1,200 Docs. The heads and offsets were chosen on one half" in html
    record = saved(report, tmp_path)
    assert record["tables"]["relations"]["rows"][1] == {
        "relation": "obj",
        "count": 60,
        "head": "1-0",
        "direction": "head to dependent",
        "accuracy": 0.8,
        "offset": "-2",
        "by offset": 0.5,
        "gain": pytest.approx(0.3),
    }
    bars = record["charts"]["relations-gain"]["rows"]
    assert [(row["relation"], row["score"]) for row in bars] == [
        ("obj", 0.8),
        ("obj", 0.5),
        ("det", 0.6),
        ("det", 0.7),
    ]


def test_a_parser_is_no_gold_standard() -> None:
    found = HeadRelations(
        scores=[score("all", 0.4, 0.3)],
        accuracy=np.zeros((1, 2, 2, 2)),
        annotation="spaCy",
        held_out=False,
        docs=3,
        left_out={},
    )
    report = Report("Relations")
    add_relations(report, found, source=SOURCE)
    html = report.to_html()
    assert "agreement with spaCy" in html
    assert "which are no gold standard" in html
    assert "Too rare" not in html
    assert "accuracy" not in html.partition("<body")[2].partition("<script")[0]
    assert "which flatters them" in html
    assert "No relation is frequent enough" in html


def test_coreference(tmp_path: Path) -> None:
    accuracy = np.array([[np.nan, 0.2], [0.6, 0.4]])
    found = Coreference(
        accuracy=accuracy,
        layer=1,
        head=0,
        best=0.6,
        nearest=0.5,
        first=0.3,
        mentions=40,
        held_out=True,
    )
    report = Report("Coreference")
    add_coreference(report, found, source=SOURCE)
    assert "40 mentions with an antecedent, head 1-0" in report.to_html()
    assert "for 60.0%, 10.0% more than the better" in report.to_html()
    rows = saved(report, tmp_path)["tables"]["coreference"]["rows"]
    assert [row["accuracy"] for row in rows] == pytest.approx([0.6, 0.5, 0.3, 0.4])


@pytest.mark.parametrize("with_words", [False, True])
def test_attention_parser(tmp_path: Path, with_words: bool) -> None:
    weights = np.arange(8.0).reshape(2, 2, 2)
    weights[0, 1] = np.nan
    found = AttentionParsing(
        uas=0.58,
        next_word=0.32,
        previous_word=0.1,
        offset=1,
        offset_uas=0.32,
        weights=-weights,
        losses=[1.0],
        with_words=with_words,
        annotation="gold",
        learned=80,
        sentences=20,
        words=200,
    )
    report = Report("Parser")
    add_attention_parser(report, found, source=SOURCE)
    assert "of 58.0% of 200 words in 20 sentences" in report.to_html()
    record = saved(report, tmp_path)
    rows = record["tables"]["attention-parser"]["rows"]
    assert rows[0]["parser"] == ("attention and words" if with_words else "attention alone")
    assert [row["UAS"] for row in rows] == [0.58, 0.32, 0.32, 0.1]
    marks = record["charts"]["attention-parser-weights"]["rows"]
    assert [row["weight"] for row in marks] == [1.0, 5.0, 7.0]
