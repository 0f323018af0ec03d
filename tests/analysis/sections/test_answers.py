"""Sections on answers: what they say is what was found, and the page draws it off-line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spacy.language import Language

import spacy_bert
from spacy_bert.analysis.answering import AnswerExplanation, AnswerStudy, explain_answers
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.sections.answers import add_answer, add_answers
from spacy_bert.datasets.questions import make_question
from tests.pipeline.questions import CONTEXT, finder

QUESTION = "Over what?"


@pytest.fixture(scope="module")
def energy(checkpoint: Path) -> Language:
    return finder(checkpoint, "light", "energy")


def explain(nlp: Language, **settings: Any) -> AnswerExplanation:
    return spacy_bert.explain_answer(nlp, QUESTION, CONTEXT, answer="lazy dog", **settings)


def test_one_question(energy: Language, nlp: Language, tmp_path: Path) -> None:
    found = explain(energy, before=nlp)
    report = Report("T")
    add_answer(report, found, source="somewhere")
    page = report.save(tmp_path)
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(record["charts"]) == ["answer-projections", "answer-phases", "answer-matching"]
    assert all(chart["source"] == "somewhere" for chart in record["charts"].values())
    rows = record["charts"]["answer-projections"]["rows"]
    assert len(rows) == 2 * 3 * len(found.tokens)  # networks and layers
    roles = [row["role"] for row in rows[: len(found.tokens)]]
    assert sorted(roles) == sorted(found.roles)
    labels = [row["label"] for row in rows if row["label"] is not None]
    assert labels == ["light energy"] * 2 * 3
    radius = np.mean([row["x"] ** 2 + row["y"] ** 2 for row in rows[: len(found.tokens)]])
    assert radius == pytest.approx(1.0, abs=0.01)
    curves = {
        (row["series"], row["curve"], row["layer"]): row["value"]
        for row in record["charts"]["answer-phases"]["rows"]
    }
    assert found.before is not None
    for series, inside in (("the pipeline", found.after), ("before", found.before)):
        for layer in range(3):
            value = curves[series, "fact matching", layer]
            assert value == pytest.approx(inside.phases.fact_matching[layer])
    html = page.read_text(encoding="utf-8")
    assert found.wrong is not None
    assert f"of the kind “{found.wrong.kind}”" in html
    assert "Answered: light energy (probability" in html


def test_the_slider_chooses_the_layer(nlp: Language) -> None:
    report = Report("T")
    add_answer(report, explain(nlp), source="s")
    spec = report._charts["answer-projections"]
    (slider,) = [one for one in spec["params"] if one["name"] == "layer"]
    assert slider["bind"] == {"input": "range", "max": 2, "min": 0, "name": "layer ", "step": 1}
    assert "datum.layer == layer" in json.dumps(spec)
    # Another layer, another picture.
    pictures = []
    for layer in (0, 2):
        slider["value"] = layer
        pictures.append(report.to_png("answer-projections"))
    assert pictures[0] != pictures[1]


def test_what_is_not_known_is_left_out(nlp: Language) -> None:
    report = Report("T")
    found = spacy_bert.explain_answer(nlp, QUESTION, "A list keeps values.")
    add_answer(report, found, source="s")
    rows = report._record["charts"]["answer-phases"]["rows"]
    assert {row["curve"] for row in rows} == {"cluster separation"}
    assert "answer-matching" not in report._record["charts"]
    assert "Answered" not in report.to_html()


def study(nlp: Language, *answers: str) -> AnswerStudy:
    docs = []
    for answer in answers:
        start = CONTEXT.index(answer)
        places = [(start, start + len(answer))]
        docs.append(make_question(nlp, QUESTION, CONTEXT, answers=places, facts=None))
    return explain_answers(nlp, docs, before=nlp)


def test_a_data_set(energy: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacy_bert.analysis.sections.answers.EXAMPLES", 2)
    found = study(energy, "light energy", "lazy dog", "keys", "converts")
    report = Report("T")
    add_answers(report, found, source="s")
    record = report._record
    assert list(record["charts"]) == ["answers-phases", "answers-right-and-wrong"]
    counts = {
        row["kind"]: row["wrong answers"] for row in record["tables"]["answers-kinds"]["rows"]
    }
    assert counts == dict(found.kinds)
    assert sum(counts.values()) == 3
    assert counts["right fact"] >= 1
    rows = record["tables"]["answers-wrong"]["rows"]
    assert [row["right"] for row in rows] == ["lazy dog", "keys"]
    assert record["tables"]["answers-wrong"]["caption"].startswith("The first 2 wrong answers")
    assert "4 questions: 1 right, 3 wrong." in report.to_html()
    series = {row["series"] for row in record["charts"]["answers-right-and-wrong"]["rows"]}
    assert series == {"right answers", "wrong answers"}


def test_nothing_wrong(energy: Language) -> None:
    report = Report("T")
    add_answers(report, study(energy, "light energy"), source="s")
    assert list(report._record["charts"]) == ["answers-phases"]
    assert not report._record["tables"]
