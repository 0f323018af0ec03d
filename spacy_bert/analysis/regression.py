"""Diagnostic regressors: which numbers are linear in the vectors of a layer.

Hupkes et al. 2018 (arXiv 1711.10203) read counts off the states of a network by linear regression;
here they are numbers that tokens have in a tree or a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Token

from spacy_bert.analysis.token_vectors import TokenVectors

RIDGE = 1.0  # on standardized vectors, beside as many as there are tokens
_BLOCK = 8192  # tokens at once
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number that tokens have.

    Attributes:
        name: What it is called in tables.
        values: Of the tokens of a Doc, (tokens,) float64; NaN of those that have none.
    """

    name: str
    values: Callable[[Doc], np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Regression:
    """How well a number is predicted from each layer, on the development set.

    Attributes:
        quantity: Name of the number.
        determination: R^2 of each layer, (layers,); 0 is the embeddings. 1 is perfect, 0 no better
            than always the mean; below 0 is worse than that.
        correlation: Pearson's r of prediction and number, (layers,).
        control: R^2 of the same numbers shuffled among all tokens, (layers,).
        tokens: Tokens of the training and of the development set.
    """

    quantity: str
    determination: np.ndarray
    correlation: np.ndarray
    control: np.ndarray
    tokens: tuple[int, int]

    @property
    def best_layer(self) -> int:
        """The layer with the greatest R^2."""
        return int(self.determination.argmax())


def depth() -> Quantity:
    """Steps from a token to the root of its tree; 0 of the root."""

    def values(doc: Doc) -> np.ndarray:
        if not doc.has_annotation("DEP"):
            return np.full(len(doc), np.nan)
        found = [float(sum(1 for _ in token.ancestors)) for token in doc]
        return _without_space(doc, found)

    return Quantity(name="depth in the tree", values=values)


def position() -> Quantity:
    """The place of a token in its sentence, from 0; in its Doc, if sentences are not marked."""

    def values(doc: Doc) -> np.ndarray:
        parts = doc.sents if doc.has_annotation("SENT_START") else [doc[:]]
        found = [float(place) for part in parts for place in range(len(part))]
        return _without_space(doc, found)

    return Quantity(name="position in the sentence", values=values)


def head_distance() -> Quantity:
    """How many tokens a token stands from its head, in either direction; none of the root."""

    def distance(token: Token) -> float:
        return float(abs(token.head.i - token.i)) or np.nan

    def values(doc: Doc) -> np.ndarray:
        if not doc.has_annotation("DEP"):
            return np.full(len(doc), np.nan)
        return _without_space(doc, [distance(token) for token in doc])

    return Quantity(name="distance to the head", values=values)


def _without_space(doc: Doc, values: Sequence[float]) -> np.ndarray:
    found = np.array(values, dtype=np.float64)
    found[[token.i for token in doc if token.is_space]] = np.nan
    return found


QUANTITIES: dict[str, Callable[[], Quantity]] = {
    "depth": depth,
    "position": position,
    "head-distance": head_distance,
}


def regress(
    nlp: Language,
    train: Sequence[Doc],
    dev: Sequence[Doc],
    quantity: Quantity,
    *,
    component: str | None = None,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> Regression:
    """Predict a number of tokens from their vectors in each layer, by ridge regression.

    Args:
        nlp: A pipeline with an encoder, which is not changed.
        train: Docs to learn from.
        dev: Docs to score on.
        quantity: The number.
        component: Name of the component whose encoder is meant, if there are several.
        seed: Of the control's shuffling.
        progress: Called with 1 for each Doc that was encoded.

    Raises:
        ValueError: If fewer than two tokens of a set have the number, or all have the same.
    """
    values = [quantity.values(doc) for doc in (*train, *dev)]
    border = sum(map(len, values[: len(train)]))
    numbers = np.concatenate([*values, np.zeros(0)])
    known = np.flatnonzero(np.isfinite(numbers))
    learned, scored = known[known < border], known[known >= border]
    for name, places in (("training", learned), ("development", scored)):
        if len(places) < 2 or np.ptp(numbers[places]) == 0.0:
            raise ValueError(
                f"the tokens of the {name} Docs do not differ in {quantity.name}: are they "
                "annotated?"
            )
    rng = np.random.default_rng(seed)
    targets = np.stack([numbers, numbers], axis=1)
    for places in (learned, scored):
        targets[places, 1] = rng.permutation(numbers[places])
    with TokenVectors(nlp, [*train, *dev], component=component, progress=progress) as vectors:
        found = [
            fit(vectors.rows[:, layer], targets, learned, scored) for layer in range(vectors.layers)
        ]
    return Regression(
        quantity=quantity.name,
        determination=np.array([determination[0] for determination, _ in found]),
        correlation=np.array([correlation[0] for _, correlation in found]),
        control=np.array([determination[1] for determination, _ in found]),
        tokens=(len(learned), len(scored)),
    )


def fit(
    rows: np.ndarray,
    targets: np.ndarray,
    train: np.ndarray,
    dev: np.ndarray,
    *,
    ridge: float = RIDGE,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a ridge regression in closed form, in blocks of rows, and score it.

    Args:
        rows: Vectors, (tokens, width), of any precision; they may wait on disk.
        targets: Numbers to predict, (tokens, numbers).
        train: Rows to learn from.
        dev: Rows to score on.
        ridge: Strength of the penalty on the weights of standardized vectors.

    Returns:
        R^2 and Pearson's r of each number, (numbers,) float64 both.
    """
    width, count = rows.shape[1], len(train)
    gram, cross, total = (
        np.zeros((width, width)), np.zeros((width, targets.shape[1])), np.zeros(width)
    )  # fmt: skip
    centre = targets[train].mean(axis=0)
    # Near the mean, the sums of squares lose no digits.
    guess = rows[train[:_BLOCK]].astype(np.float64).mean(axis=0)
    for start in range(0, count, _BLOCK):
        index = train[start : start + _BLOCK]
        block = rows[index].astype(np.float64) - guess
        gram += block.T @ block
        cross += block.T @ (targets[index] - centre)
        total += block.sum(axis=0)
    mean = total / count
    gram -= count * np.outer(mean, mean)
    scale = np.sqrt(np.maximum(np.diag(gram) / count, _TINY))
    standard = gram / np.outer(scale, scale) + ridge * np.eye(width)
    weights = np.linalg.solve(standard, cross / scale[:, None]) / scale[:, None]
    predicted = np.concatenate(
        [
            (rows[dev[start : start + _BLOCK]].astype(np.float64) - guess - mean) @ weights
            for start in range(0, len(dev), _BLOCK)
        ]
    )
    return _scores(predicted + centre, targets[dev])


def _scores(predicted: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rest, spread = gold - predicted, gold - gold.mean(axis=0)
    own = predicted - predicted.mean(axis=0)
    squares = (spread**2).sum(axis=0)
    determination = 1.0 - (rest**2).sum(axis=0) / np.maximum(squares, _TINY)
    norms = np.sqrt(squares * (own**2).sum(axis=0))
    return determination, (spread * own).sum(axis=0) / np.maximum(norms, _TINY)
