"""The scores of `doc.cats`, beside those of scikit-learn and scipy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import spacy
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, mean_squared_error
from spacy.training import Example

from spacy_bert.pipeline.textcat_scores import correlation, ranks, score_cats

NLP = spacy.blank("en")
LABELS = ("A", "B", "C")
RANDOM = np.random.default_rng(0)


def examples(golds: list[dict[str, Any]], guesses: list[dict[str, float]]) -> list[Example]:
    made = []
    for gold, guess in zip(golds, guesses, strict=True):
        example = Example.from_dict(NLP.make_doc("text"), {"cats": gold})
        example.predicted.cats = guess
        made.append(example)
    return made


def one_of(label: str, labels: tuple[str, ...] = LABELS) -> dict[str, float]:
    return {name: float(name == label) for name in labels}


def test_correlation_is_pearsons_with_ranks_spearmans_with_classes_matthews() -> None:
    golds, guesses = RANDOM.integers(0, 5, (2, 60)).astype(float)
    guesses += golds
    assert correlation(golds, guesses) == pytest.approx(stats.pearsonr(golds, guesses)[0])
    assert np.array_equal(ranks(guesses), stats.rankdata(guesses))
    spearman = stats.spearmanr(golds, guesses)[0]
    assert correlation(ranks(golds), ranks(guesses)) == pytest.approx(spearman)
    right = RANDOM.integers(0, 3, 60)
    found = np.where(RANDOM.random(60) < 0.5, right, RANDOM.integers(0, 3, 60))
    assert 0.2 < matthews_corrcoef(right, found) < 0.9
    ours = correlation(np.eye(3)[right], np.eye(3)[found])
    assert ours == pytest.approx(matthews_corrcoef(right, found))


def test_what_is_always_the_same_correlates_with_nothing_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same, varied = np.full(7, 0.1), RANDOM.random(7)
        assert correlation(same, varied) == correlation(varied, same) == 0.0
        assert correlation(varied[:1], varied[:1]) == 0.0
        scores = score_cats(
            examples([{"score": 1.0}, {"score": 2.5}], [{"score": 3.1}] * 2),
            labels=("score",),
            regression=True,
        )
    assert scores["cats_pearson"] == scores["cats_spearman"] == scores["cats_score"] == 0.0
    assert scores["cats_mse"] == pytest.approx((2.1**2 + 0.6**2) / 2)


def test_exclusive_classes() -> None:
    right, found = RANDOM.choice(LABELS, (2, 50))
    found = np.where(RANDOM.random(50) < 0.6, right, found)
    golds = [one_of(label) for label in right]
    guesses = [{name: 0.6 * held + 0.1 for name, held in one_of(x).items()} for x in found]
    unknown = examples([{}, one_of("none")], [one_of("A")] * 2)
    scores = score_cats([*examples(golds, guesses), *unknown], labels=LABELS)
    assert scores["cats_acc"] == pytest.approx(accuracy_score(right, found))
    assert scores["cats_mcc"] == pytest.approx(matthews_corrcoef(right, found))
    scores = score_cats(examples(golds, guesses), labels=LABELS)
    assert scores["cats_macro_f"] == pytest.approx(f1_score(right, found, average="macro"))
    assert scores["cats_score_desc"] == "macro F"
    assert "cats_pearson" not in scores


def test_the_score_of_a_positive_label_is_its_f1() -> None:
    right, found = RANDOM.choice(["yes", "no"], (2, 40))
    pairs = examples(*([one_of(x, ("yes", "no")) for x in column] for column in (right, found)))
    scores = score_cats(pairs, labels=("yes", "no"), positive_label="yes")
    assert scores["cats_score"] == pytest.approx(f1_score(right, found, pos_label="yes"))
    assert scores["cats_score_desc"] == "F (yes)"
    assert scores["cats_score"] != pytest.approx(scores["cats_macro_f"])


def test_several_classes_are_right_together_or_not_at_all() -> None:
    golds = [
        {"A": 1.0, "B": 0.0},
        {"A": 0.0, "B": 0.0},
        {"A": 1.0, "B": 1.0},
        {"A": 0.0},  # B is unknown
        {},
    ]
    guesses = [
        {"A": 0.9, "B": 0.2},
        {"A": 0.1, "B": 0.6},
        {"A": 0.7, "B": 0.9},
        {"A": 0.3, "B": 0.9},
        {"A": 0.9, "B": 0.9},
    ]
    scores = score_cats(examples(golds, guesses), labels=("A", "B"), multi_label=True)
    assert scores["cats_acc"] == 3 / 4
    of_each = matthews_corrcoef([1, 0, 1, 0], [1, 0, 1, 0]), matthews_corrcoef([0, 0, 1], [0, 1, 1])
    assert scores["cats_mcc"] == pytest.approx(np.mean(of_each))
    scores = score_cats(
        examples(golds, guesses), labels=("A", "B"), multi_label=True, threshold=0.65
    )
    assert scores["cats_acc"] == 1.0


def test_real_values_of_several_targets() -> None:
    golds, guesses = RANDOM.normal(size=(2, 30, 2))
    guesses += golds
    some = [dict(zip("AB", map(float, row), strict=True)) for row in golds]
    del some[3]["A"], some[9]["B"]
    said = [dict(zip("AB", map(float, row), strict=True)) for row in guesses]
    scores = score_cats(examples(some, said), labels=("A", "B"), regression=True)
    columns = [
        (np.delete(golds[:, column], missing), np.delete(guesses[:, column], missing))
        for column, missing in enumerate((3, 9))
    ]
    pearson = np.mean([stats.pearsonr(*column)[0] for column in columns])
    spearman = np.mean([stats.spearmanr(*column)[0] for column in columns])
    assert scores == {
        "cats_pearson": pytest.approx(pearson),
        "cats_spearman": pytest.approx(spearman),
        "cats_mse": pytest.approx(np.mean([mean_squared_error(*column) for column in columns])),
        "cats_score": pytest.approx((pearson + spearman) / 2),
        "cats_score_desc": "mean of Pearson and Spearman",
    }


def test_without_gold_there_is_no_score() -> None:
    nothing = examples([{}], [{"A": 0.3, "B": 0.7}])
    scores = score_cats(nothing, labels=("A", "B"), regression=True)
    assert all(scores[f"cats_{key}"] is None for key in ("score", "pearson", "spearman", "mse"))
    for several in (False, True):
        scores = score_cats(nothing, labels=("A", "B"), multi_label=several)
        assert scores["cats_acc"] is scores["cats_mcc"] is None


def test_docs_without_a_class_do_not_count_in_any_score() -> None:
    nlp = spacy.blank("en")

    def example(cats: dict[str, float]) -> Example:
        predicted, reference = nlp.make_doc("text"), nlp.make_doc("text")
        predicted.cats, reference.cats = {"A": 0.9, "B": 0.1}, cats
        return Example(predicted, reference)

    known = [example({"A": 1.0, "B": 0.0}), example({"A": 0.0, "B": 1.0})]
    unknown = [example({}) for _ in range(5)]
    scores = score_cats([*known, *unknown], labels=["A", "B"])
    assert scores == score_cats(known, labels=["A", "B"])
    assert scores["cats_f_per_type"]["A"]["p"] == 0.5
