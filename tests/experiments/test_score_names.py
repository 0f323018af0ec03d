"""How scores are shown."""

from __future__ import annotations

from typing import Any

import pytest

from spacy_bert.experiments.score_names import format_score, label_tables, name_score
from spacy_bert.pipeline.textcat_scores import REGRESSION_SCORE


@pytest.mark.parametrize(
    ("key", "scores", "name", "shown"),
    [
        ("answers_em", {"answers_em": 0.5}, "exact match", "50.00 %"),
        ("ents_f", {"ents_f": 0.12345}, "entities, F1", "12.35 %"),
        ("spans_sc_r", {"spans_sc_r": 1.0}, "spans_sc, recall", "100.00 %"),
        ("cats_macro_p", {"cats_macro_p": 0.0}, "macro average, precision", "0.00 %"),
        ("cats_mse", {"cats_mse": 1.25}, "mean squared error", "1.2500"),
        ("cats_mcc", {"cats_mcc": -0.25}, "Matthews' correlation", "-0.2500"),
        (
            "cats_score",
            {"cats_score": 0.5, "cats_score_desc": REGRESSION_SCORE},
            f"main score: {REGRESSION_SCORE}",
            "0.5000",
        ),
        (
            "cats_score",
            {"cats_score": 0.5, "cats_score_desc": "macro F"},
            "main score: macro F",
            "50.00 %",
        ),
        ("mine", {"mine": 12.0}, "mine", "12.0000"),
        ("my_r2", {"my_r2": 0.5}, "my_r2", "0.5000"),
    ],
)
def test_names_and_figures(key: str, scores: dict[str, Any], name: str, shown: str) -> None:
    assert name_score(key, scores) == name
    assert format_score(key, scores[key], scores) == shown


def test_labels() -> None:
    tables = label_tables(
        {
            "cats_f_per_type": {
                "A": {"p": 1.0, "r": 0.5, "f": 2 / 3},
                "B": {"p": 0, "r": 0, "f": 0},
            },
            "cats_auc_per_type": {"A": 0.75, "B": None},
            "ents_per_type": {"X": {"p": 0.1, "r": None}},
            "ents_f": 0.5,
            "dep_las_per_type": None,
        }
    )
    assert tables == {
        "cats": {
            "A": {"precision": "100.00 %", "recall": "50.00 %", "F1": "66.67 %", "AUC": "0.7500"},
            "B": {"precision": "0.00 %", "recall": "0.00 %", "F1": "0.00 %"},
        },
        "ents": {"X": {"precision": "10.00 %"}},
    }
