"""The phases of answering as numbers: curves over the layers, and kinds of wrong answers.

Van Aken et al. 2019 tell the phases by eye, from projections: tokens cluster by topic, the question
is matched with the supporting fact, the answer parts from all else. The curves here, and the rules
that sort wrong answers, are this package's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

ROLES = ("answer", "question", "fact", "other")  # of what is several, the first
WRONG_MATCH, RIGHT_FACT, LOW_CONFIDENCE = KINDS = ("wrong match", "right fact", "low confidence")
MARGIN = 0.1  # difference of similarities from which two sentences count as told apart
CLUSTERS = 8  # at most


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Which tokens are what, each (tokens,) bool.

    Attributes:
        answer: The answer.
        question: The question.
        fact: The supporting facts, with what of the answer stands in them.
        sentences: For each other sentence of the context, its tokens: (sentences, tokens) bool.
    """

    answer: np.ndarray
    question: np.ndarray
    fact: np.ndarray
    sentences: np.ndarray

    @property
    def other(self) -> np.ndarray:
        """What is none of the three, (tokens,) bool."""
        return np.asarray(~(self.answer | self.question | self.fact))

    def take(self, tokens: np.ndarray) -> Parts:
        """The same of some tokens alone.

        Args:
            tokens: Their places.
        """
        return Parts(
            answer=self.answer[tokens],
            question=self.question[tokens],
            fact=self.fact[tokens],
            sentences=self.sentences[:, tokens],
        )

    @property
    def roles(self) -> tuple[str, ...]:
        """One of `ROLES` for each token."""
        masks = np.stack([self.answer, self.question, self.fact, self.other])
        return tuple(ROLES[role] for role in masks.argmax(axis=0))


@dataclass(frozen=True, kw_only=True, eq=False)
class PhaseCurves:
    """Numbers for the phases, (layers + 1,) each; 0 is the embeddings, NaN where a part is missing.

    All are this package's own.

    Attributes:
        cluster_separation: How well the tokens fall into clusters, of whatever kind: see
            `cluster_separation`.
        question_fact: Similarity of the question and the supporting facts: see
            `similarity_by_layer`.
        question_other: That of the question and each other sentence of the context, on average.
        answer_isolation: How far the answer stands from the other tokens: see `answer_isolation`.
    """

    cluster_separation: np.ndarray
    question_fact: np.ndarray
    question_other: np.ndarray
    answer_isolation: np.ndarray

    @property
    def fact_matching(self) -> np.ndarray:
        """By how much the question is nearer to the facts than to the rest, (layers + 1,)."""
        return np.asarray(self.question_fact - self.question_other)


@dataclass(frozen=True, kw_only=True, eq=False)
class WrongMatching:
    """How the question lies to the sentence of a wrong answer, and to the right fact.

    Attributes:
        predicted: Similarity of the question and the sentence of the answer, (layers + 1,).
        fact: That of the question and the supporting facts, (layers + 1,).
        kind: One of `KINDS`: see `match_wrong_answer`.
        parting: The layer from which on the two stay apart; None if they do not.
    """

    predicted: np.ndarray
    fact: np.ndarray
    kind: str
    parting: int | None


def phase_curves(hidden: np.ndarray, parts: Parts) -> PhaseCurves:
    """The curves of one question.

    Args:
        hidden: Hidden states of tokens, (layers + 1, tokens, hidden size).
        parts: Which tokens are what.
    """
    towards = directions(hidden)
    others = [
        _cosines(towards, parts.question, sentence)
        for sentence in parts.sentences
        if sentence.any()
    ]
    return PhaseCurves(
        cluster_separation=cluster_separation(hidden),
        question_fact=_cosines(towards, parts.question, parts.fact),
        question_other=np.mean(others, axis=0) if others else np.full(len(hidden), np.nan),
        answer_isolation=answer_isolation(hidden, parts.answer),
    )


def directions(hidden: np.ndarray) -> np.ndarray:
    """Unit vectors from the mean of a layer's tokens to each of them, (layers + 1, tokens, size).

    BERT's vectors fill a narrow cone (Ethayarajh 2019): cosines from the origin are all near 1. A
    token at the mean has no direction, and zeros.
    """
    centred = hidden.astype(np.float64) - hidden.mean(axis=1, keepdims=True, dtype=np.float64)
    norms = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.asarray(np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 1e-9))


def similarity_by_layer(hidden: np.ndarray, some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The cosine of the mean directions of some tokens and of others, (layers + 1,); -1 to 1.

    NaN if either are none.

    Args:
        hidden: (layers + 1, tokens, hidden size).
        some: (tokens,) bool.
        others: (tokens,) bool.
    """
    return _cosines(directions(hidden), some, others)


def _cosines(towards: np.ndarray, some: np.ndarray, others: np.ndarray) -> np.ndarray:
    if not some.any() or not others.any():
        return np.full(len(towards), np.nan)
    one, other = towards[:, some].mean(axis=1), towards[:, others].mean(axis=1)
    sizes = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.asarray((one * other).sum(axis=-1) / np.where(sizes > 0, sizes, 1.0))


def cluster_separation(hidden: np.ndarray) -> np.ndarray:
    """How well the tokens of each layer fall into clusters, (layers + 1,); 1 is perfectly, 0 not.

    The best mean silhouette coefficient (Rousseeuw 1987), by cosine distance of the tokens'
    directions, among cuts of Ward's clustering of them into 2 to 8 clusters. NaN of fewer than
    three tokens.

    Args:
        hidden: (layers + 1, tokens, hidden size).
    """
    layers, tokens, _ = hidden.shape
    if tokens < 3:
        return np.full(layers, np.nan)
    return np.array([_best_silhouette(towards) for towards in directions(hidden)])


def _best_silhouette(towards: np.ndarray) -> float:
    tree = linkage(towards, method="ward")
    distances = np.clip(1.0 - towards @ towards.T, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    best = 0.0
    for count in range(2, min(CLUSTERS, len(towards) - 1) + 1):
        labels = fcluster(tree, count, criterion="maxclust")
        if 1 < labels.max() < len(towards):  # tokens that coincide are never parted
            best = max(best, silhouette(distances, labels))
    return best


def silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    """The mean silhouette coefficient (Rousseeuw 1987), -1 to 1; of a cluster of one it is 0.

    Args:
        distances: (items, items).
        labels: The cluster of each item, (items,) int; at least two clusters.
    """
    _, own = np.unique(labels, return_inverse=True)
    sizes = np.bincount(own)
    sums = distances @ np.eye(len(sizes))[own]  # to all items of each cluster
    items = np.arange(len(own))
    within = sums[items, own] / np.maximum(sizes[own] - 1, 1)
    means = sums / sizes
    means[items, own] = np.inf
    nearest = means.min(axis=1)
    larger = np.maximum(within, nearest)
    values = np.divide(nearest - within, larger, out=np.zeros_like(within), where=larger > 0)
    return float(np.where(sizes[own] > 1, values, 0.0).mean())


def answer_isolation(hidden: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """How far the answer stands from the other tokens, (layers + 1,); -1 to 1, 0 if like any.

    With `b` the mean Euclidean distance between a token of the answer and another, and `a` that
    within each of the two groups (mean of both; of the others alone if the answer is one token):
    (b - a) / max(a, b), as in a silhouette. NaN if the answer is missing, or fewer than two others.

    Args:
        hidden: (layers + 1, tokens, hidden size).
        answer: (tokens,) bool.
    """
    if not answer.any() or np.count_nonzero(~answer) < 2:
        return np.full(len(hidden), np.nan)
    found = np.zeros(len(hidden))
    groups = [group for group in (answer, ~answer) if np.count_nonzero(group) > 1]
    for layer, states in enumerate(hidden.astype(np.float64)):
        distances = _distances(states)
        within = np.mean([_mean_between_two(distances[np.ix_(own, own)]) for own in groups])
        between = distances[np.ix_(answer, ~answer)].mean()
        larger = max(within, between)
        found[layer] = (between - within) / larger if larger else 0.0
    return found


def _distances(states: np.ndarray) -> np.ndarray:
    """Euclidean distances of the rows, (rows, rows)."""
    rows = states - states.mean(axis=0)
    squares = (rows**2).sum(axis=1)
    found = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * rows @ rows.T, 0.0))
    np.fill_diagonal(found, 0.0)
    return np.asarray(found)


def _mean_between_two(distances: np.ndarray) -> float:
    """The mean distance of two different items."""
    count = len(distances)
    return float(distances.sum() / (count * (count - 1)))


def match_wrong_answer(
    hidden: np.ndarray,
    question: np.ndarray,
    predicted: np.ndarray,
    fact: np.ndarray,
    *,
    margin: float = MARGIN,
) -> WrongMatching:
    """Sort a wrong answer by when the question was matched with which sentence.

    The layer at which two sentences part is the first from which on, to the last layer, the
    question is nearer to one of them by more than the margin.

    - *wrong match*: the question parts to the sentence of the answer, in the first half of the
      layers or before;
    - *right fact*: it parts to the supporting facts, or the answer stands in them: what went wrong
      is the choice of the span;
    - *low confidence*: the two never part, or to the wrong side in the second half alone.

    Args:
        hidden: (layers + 1, tokens, hidden size).
        question: The tokens of the question, (tokens,) bool.
        predicted: Those of the sentence of the wrong answer; none if it is "no answer".
        fact: Those of the supporting facts.
        margin: Difference of similarities, see `similarity_by_layer`.
    """
    toward_predicted = similarity_by_layer(hidden, question, predicted)
    toward_fact = similarity_by_layer(hidden, question, fact)
    kind, parting = LOW_CONFIDENCE, None
    if (predicted & fact).any():
        kind = RIGHT_FACT
    elif predicted.any():
        difference = toward_predicted - toward_fact
        parting = parting_layer(difference, margin)
        if parting is not None and difference[-1] < 0:
            kind = RIGHT_FACT
        elif parting is not None and parting <= (len(hidden) - 1) // 2:
            kind = WRONG_MATCH
    return WrongMatching(predicted=toward_predicted, fact=toward_fact, kind=kind, parting=parting)


def parting_layer(difference: np.ndarray, margin: float = MARGIN) -> int | None:
    """The first layer from which on a difference keeps its sign, by more than a margin.

    Args:
        difference: (layers + 1,).
        margin: At least 0.
    """
    parted = difference * np.sign(difference[-1]) > margin
    if not parted[-1]:
        return None
    return len(parted) - int(np.argmin(parted[::-1])) if not parted.all() else 0
