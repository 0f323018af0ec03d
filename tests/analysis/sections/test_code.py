"""Section on code: scores, chance and ceilings as they were found."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from spacy_bert.analysis.cat_probing import CatScores
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.sections.code import add_code


def scores(*values: float) -> CatScores:
    return CatScores(
        scores=np.array(values),
        ceilings=np.full(len(values), 0.8),
        neighbours=np.full(len(values), 0.25),
        chance=1 / 7,
        samples=np.array([0 if math.isnan(value) else 12 for value in values]),
        types=({"(": 0.4, "identifier": 0.3}, {")": 0.5}, {"=": 0.25}),
    )


def test_scores(tmp_path: Path) -> None:
    report = Report("T")
    add_code(report, scores(0.1, 0.3, math.nan), source="s")
    add_code(report, scores(0.1, 0.3, 0.2), source="s", prose=True)
    html = report.save(tmp_path).read_text(encoding="utf-8")
    assert (
        "best in layer 2, with a CAT-score of 0.300 where chance is 0.143, attention to neighbours"
        in html
    )
    assert "1 of 2 layers are above chance, 1 above neighbours; 12 samples were scored" in html
    assert "own extension" in report._record["charts"]["cat-prose"]["caption"]
    assert "own extension" not in report._record["charts"]["cat-code"]["caption"]
    rows = report._record["charts"]["cat-code"]["rows"]
    shown = [row["score"] for row in rows if row.get("series") == "CAT-score"]
    assert shown[: len(shown) // 2] == [0.1, 0.3]  # the line's; then those of the points
    assert {"score": pytest.approx(1 / 7)} in rows
    types = report._record["tables"]["cat-code-types"]["rows"]
    assert types[0]["types, with the share of strong weights"] == "( 0.400   identifier 0.300"


def test_nothing_scored() -> None:
    report = Report("T")
    add_code(report, scores(math.nan, math.nan), source="s")
    assert "No sample has tokens enough" in report.to_html()
