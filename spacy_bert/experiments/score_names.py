"""How people read scores: their names, percent of shares, tables of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spacy_bert.pipeline.textcat_scores import REGRESSION_SCORE

NAMES = {
    "token_acc": "words right",
    "tag_acc": "tags right",
    "pos_acc": "parts of speech right",
    "morph_acc": "morphology right",
    "lemma_acc": "lemmas right",
    "dep_uas": "heads right (UAS)",
    "dep_las": "heads and labels right (LAS)",
    "cats_score": "main score",
    "cats_acc": "accuracy",
    "cats_macro_auc": "macro AUC",
    "cats_mcc": "Matthews' correlation",
    "cats_pearson": "Pearson's correlation",
    "cats_spearman": "Spearman's correlation",
    "cats_mse": "mean squared error",
    "answers_em": "exact match",
    "answers_f1": "F1",
    "answers_has_em": "exact match, of questions with an answer",
    "answers_has_f1": "F1, of questions with an answer",
    "answers_no_em": "exact match, of questions without",
    "answers_best_f1": "F1 at the best null threshold",
    "answers_best_f1_threshold": "best null threshold",
    "choice_acc": "accuracy",
}
GROUPS = {
    "token": "words",
    "sents": "sentences",
    "ents": "entities",
    "cats_micro": "micro average",
    "cats_macro": "macro average",
    "morph_micro": "morphology",
}
PARTS = {"p": "precision", "r": "recall", "f": "F1"}
FIGURES = {  # that are no shares
    "cats_macro_auc",
    "cats_mcc",
    "cats_pearson",
    "cats_spearman",
    "cats_mse",
    "answers_best_f1_threshold",
}
FIGURE_SCORES = {REGRESSION_SCORE, "macro AUC"}


def name_score(key: str, scores: Mapping[str, Any]) -> str:
    """The name of a score; that of the scorer if it is not known here.

    Args:
        key: Its name in the scorer.
        scores: It and those beside it.
    """
    if key == "cats_score" and scores.get("cats_score_desc"):
        return f"{NAMES[key]}: {scores['cats_score_desc']}"
    group, _, part = key.rpartition("_")
    if key not in NAMES and group and part in PARTS:
        return f"{GROUPS.get(group, group)}, {PARTS[part]}"
    return NAMES.get(key, key)


def format_score(key: str, value: float, scores: Mapping[str, Any]) -> str:
    """Percent of a share; of correlations, errors and what is not known here, the figure."""
    if key == "cats_score":
        share = scores.get("cats_score_desc") not in FIGURE_SCORES
    else:
        part = key.rpartition("_")[2]
        share = key not in FIGURES and (key in NAMES or part in PARTS)
    return f"{100 * value:.2f} %" if share else f"{value:.4f}"


def label_tables(scores: Mapping[str, Any]) -> dict[str, dict[str, dict[str, str]]]:
    """The scores of single labels: group, label, column, figure."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for key, values in scores.items():
        if not isinstance(values, dict):
            continue
        group = key.partition("_")[0]
        for label, value in values.items():
            row = tables.setdefault(group, {}).setdefault(label, {})
            if isinstance(value, dict):
                shown = {PARTS[part]: value[part] for part in PARTS if value.get(part) is not None}
                row.update({part: f"{100 * share:.2f} %" for part, share in shown.items()})
            elif value is not None:
                row["AUC" if "auc" in key else key] = f"{value:.4f}"
    return tables
