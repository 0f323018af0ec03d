"""What next sentence prediction can be answered from without understanding.

Three answers on the very pairs that BERT is scored on: the majority; a classifier that sees the
segments' lengths and final punctuation alone; one that sees how many words they share. BERT has
learned about discourse only as far as it beats them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spacy_bert.pretraining.segment_pairs import Pairs
from spacy_bert.pretraining.shards import Split
from spacy_bert.wordpiece import CONTINUATION

_FINAL_PUNCTUATION = (".", "!", "?", ":", ";", ",", ")", '"')

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NspBaselines:
    """Accuracy of each baseline, a share.

    Attributes:
        majority: The more frequent label of the scored pairs.
        lengths_and_punctuation: Logistic regression on lengths and final punctuation, and on
            products of two of these.
        word_overlap: Logistic regression on the words that both segments share.
    """

    majority: float
    lengths_and_punctuation: float
    word_overlap: float


@dataclass(frozen=True, kw_only=True, eq=False)
class TextPairs:
    """Pairs as tokens: what the baselines look at.

    Attributes:
        a: Pieces of each A, as strings.
        b: Pieces of each B.
        is_random: Labels, (pairs,) bool.
    """

    a: list[list[str]]
    b: list[list[str]]
    is_random: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, split: Split, pairs: Pairs, tokens: Sequence[str]) -> TextPairs:
        """Look the pieces of some pairs up in the vocabulary."""

        def read(spans: npt.NDArray[np.int64]) -> list[list[str]]:
            return [
                [tokens[piece] for piece in split.pieces[start:end]]
                for start, end in spans.tolist()
            ]

        return cls(a=read(pairs.a), b=read(pairs.b), is_random=pairs.is_random)


def score_baselines(train: TextPairs, scored: TextPairs) -> NspBaselines:
    """Fit the classifiers on training pairs and score them.

    Args:
        train: Pairs of the training split.
        scored: The pairs BERT is scored on.
    """
    rarity = _inverse_document_frequency(train)
    return NspBaselines(
        majority=float(max(scored.is_random.mean(), 1.0 - scored.is_random.mean())),
        lengths_and_punctuation=_accuracy(
            _form_features(train), train.is_random, _form_features(scored), scored.is_random
        ),
        word_overlap=_accuracy(
            _overlap_features(train, rarity),
            train.is_random,
            _overlap_features(scored, rarity),
            scored.is_random,
        ),
    )


def _accuracy(
    train_features: FloatArray,
    train_labels: npt.NDArray[np.bool_],
    features: FloatArray,
    labels: npt.NDArray[np.bool_],
) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    classifier = make_pipeline(
        PolynomialFeatures(2, include_bias=False),
        StandardScaler(),
        LogisticRegression(max_iter=1000),
    )
    classifier.fit(train_features, train_labels)
    return float(classifier.score(features, labels))


def _form_features(pairs: TextPairs) -> FloatArray:
    """Logarithms of both lengths and one column for each final punctuation mark, (pairs, 18)."""
    return np.array(
        [
            [
                feature
                for segment in (a, b)
                for feature in (
                    math.log(len(segment)),
                    *(segment[-1] == mark for mark in _FINAL_PUNCTUATION),
                )
            ]
            for a, b in zip(pairs.a, pairs.b, strict=True)
        ],
        dtype=np.float64,
    )


def _overlap_features(pairs: TextPairs, rarity: dict[str, float]) -> FloatArray:
    """How much of each segment stands in the other too, plainly and by rarity, (pairs, 5)."""
    rows = []
    for a, b in zip(pairs.a, pairs.b, strict=True):
        words_a, words_b = _words(a), _words(b)
        shared = words_a & words_b
        weight_a, weight_b, weight_shared = (
            sum(rarity.get(word, rarity[""]) for word in words)
            for words in (words_a, words_b, shared)
        )
        rows.append(
            [
                len(shared) / max(1, len(words_a)),
                len(shared) / max(1, len(words_b)),
                weight_shared / max(1e-9, weight_a),
                weight_shared / max(1e-9, weight_b),
                math.log1p(weight_shared),
            ]
        )
    return np.array(rows)


def _inverse_document_frequency(pairs: TextPairs) -> dict[str, float]:
    """log(segments / segments with the word); "" stands for a word never seen."""
    segments = [*pairs.a, *pairs.b]
    counts = Counter(word for segment in segments for word in _words(segment))
    return {word: math.log(len(segments) / count) for word, count in counts.items()} | {
        "": math.log(len(segments))
    }


def _words(pieces: Sequence[str]) -> set[str]:
    """The words that pieces spell; punctuation is none, a cut word counts as it stands."""
    words: list[str] = []
    for piece in pieces:
        if piece.startswith(CONTINUATION) and words:
            words[-1] += piece.removeprefix(CONTINUATION)
        else:
            words.append(piece)
    return {word for word in words if any(map(str.isalnum, word))}
