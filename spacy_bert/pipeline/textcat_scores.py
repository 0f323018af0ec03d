"""The scores of `doc.cats`: spaCy's own, and those of the tasks of GLUE (Wang et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Example

REGRESSION_SCORE = "mean of Pearson and Spearman"


def build_textcat_scorer() -> Callable[..., dict[str, Any]]:
    """The scorer `spacy_bert.textcat_scorer.v1`: of classes or real values in `doc.cats`.

    * Classes: spaCy's `cats_*`; `cats_acc`, the share of Docs of which all is right; `cats_mcc`,
      Matthews' correlation (for several classes that may hold, the mean of theirs).
    * Real values: `cats_pearson`, `cats_spearman`, `cats_mse`, each a mean over the targets, and
      `cats_score`, the mean of the first two.

    A correlation with what is always the same is 0.0; where no Doc is annotated, scores are None.
    """
    return score_cats


def score_cats(
    examples: Iterable[Example],
    *,
    labels: Sequence[str],
    multi_label: bool = False,
    regression: bool = False,
    threshold: float | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Score `doc.cats`; the component gives the options.

    Args:
        examples: predictions and references.
        labels: names of the classes or targets; others are not looked at.
        multi_label: whether several classes may hold for a Doc.
        regression: whether the values are real numbers instead of classes.
        threshold: from which probability on a class counts, if several may hold; None for 0.5.
        options: others of `Scorer.score_cats`.
    """
    examples = list(examples)
    golds = _values((example.reference for example in examples), labels)
    guesses = _values((example.predicted for example in examples), labels)
    if regression:
        return _score_regression(golds, guesses)
    if not multi_label:  # spaCy takes a Doc without a class for one whose guess is wrong
        annotated = (golds == 1.0).any(axis=1)
        examples = [eg for eg, known in zip(examples, annotated, strict=True) if known]
    scores: dict[str, Any] = Scorer.score_cats(
        examples,
        "cats",
        labels=labels,
        multi_label=multi_label,
        threshold=threshold,
        **options,
    )
    if multi_label:
        return scores | _score_several(golds, guesses >= (0.5 if threshold is None else threshold))
    return scores | _score_exclusive(golds, guesses)


def correlation(golds: np.ndarray, guesses: np.ndarray) -> float:
    """Pearson's correlation; 0.0 with what is always the same.

    Of classes, as (rows, classes) of zeros and ones, it is Matthews' (Gorodkin 2004).

    Args:
        golds: (rows,) or (rows, columns).
        guesses: of the same shape.
    """
    if (golds == golds[:1]).all() or (guesses == guesses[:1]).all():
        return 0.0
    golds, guesses = golds - golds.mean(axis=0), guesses - guesses.mean(axis=0)
    return float((golds * guesses).sum() / np.sqrt((golds**2).sum() * (guesses**2).sum()))


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value, counted from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: np.ndarray = (counts.cumsum() - (counts - 1) / 2)[places]
    return shared


def _values(docs: Iterable[Doc], labels: Sequence[str]) -> np.ndarray:
    """What stands in `doc.cats`, (Docs, labels); NaN where nothing does."""
    rows = [[doc.cats.get(label, np.nan) for label in labels] for doc in docs]
    return np.array(rows, dtype=float).reshape(len(rows), len(labels))


def _mean(values: Sequence[float] | np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _score_exclusive(golds: np.ndarray, guesses: np.ndarray) -> dict[str, float | None]:
    annotated = (golds == 1.0).any(axis=1)
    right, best = golds[annotated].argmax(axis=1), guesses[annotated].argmax(axis=1)
    classes = np.eye(golds.shape[1])
    return {
        "cats_acc": _mean(right == best),
        "cats_mcc": correlation(classes[right], classes[best]) if len(right) else None,
    }


def _score_several(golds: np.ndarray, guesses: np.ndarray) -> dict[str, float | None]:
    known = ~np.isnan(golds)
    exact = ((golds == guesses) | ~known).all(axis=1)
    columns = zip(golds.T, guesses.T.astype(float), known.T, strict=True)
    mcc = [correlation(gold[k], guess[k]) for gold, guess, k in columns if k.any()]
    return {"cats_acc": _mean(exact[known.any(axis=1)]), "cats_mcc": _mean(mcc)}


def _score_regression(golds: np.ndarray, guesses: np.ndarray) -> dict[str, Any]:
    known = ~np.isnan(golds)
    columns = zip(golds.T, guesses.T, known.T, strict=True)
    targets = [(gold[k], guess[k]) for gold, guess, k in columns if k.any()]
    pearson = _mean([correlation(gold, guess) for gold, guess in targets])
    spearman = _mean([correlation(ranks(gold), ranks(guess)) for gold, guess in targets])
    return {
        "cats_score": None if pearson is None or spearman is None else (pearson + spearman) / 2,
        "cats_score_desc": REGRESSION_SCORE,
        "cats_pearson": pearson,
        "cats_spearman": spearman,
        "cats_mse": _mean([float(((gold - guess) ** 2).mean()) for gold, guess in targets]),
    }
