"""Cheap baselines of tasks about segments: how many words two of them share, weighed by tf-idf.

They are not trained on what is right; the training set only says which words are common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from spacy.tokens import Doc
from spacy.training import Example

from spacy_bert.models.segments import segments
from spacy_bert.pipeline.choice_scorer import score_choices
from spacy_bert.pipeline.chosen import require_choices, set_choice
from spacy_bert.pipeline.textcat_scores import score_cats

LIKENESS = "shared words (tf-idf)"

Scores = dict[str, Any]


def score_regression_baselines(
    train_docs: Sequence[Doc], test_docs: Sequence[Doc]
) -> dict[str, Scores]:
    """Take the likeness of two segments for each target, which correlations can judge.

    Returns:
        Name of the baseline to `cats_pearson`, `cats_spearman` and the mean of both, `cats_score`;
        nothing if the Docs are no pairs.
    """
    if not all(len(segments(doc)) == 2 for doc in (*train_docs, *test_docs)):
        return {}
    labels = sorted({label for doc in test_docs for label in doc.cats})
    examples = []
    for doc, (likeness,) in zip(test_docs, _likenesses(train_docs, test_docs), strict=True):
        prediction = Doc(doc.vocab, words=[token.text for token in doc])
        prediction.cats = dict.fromkeys(labels, float(likeness))
        examples.append(Example(prediction, doc))
    scores = score_cats(examples, labels=labels, regression=True)
    return {LIKENESS: {k: scores[k] for k in ("cats_pearson", "cats_spearman", "cats_score")}}


def score_choice_baselines(
    train_docs: Sequence[Doc], test_docs: Sequence[Doc]
) -> dict[str, Scores]:
    """Choose what is most like the context.

    Returns:
        Name of the baseline to `choice_acc`.

    Raises:
        ValueError: If a Doc has no choices, or its gold choice is not among them.
    """
    examples = []
    for doc, likenesses in zip(test_docs, _likenesses(train_docs, test_docs), strict=True):
        prediction = Doc(doc.vocab, words=[token.text for token in doc])
        set_choice(prediction, likenesses.tolist())
        examples.append(Example(prediction, doc))
    return {LIKENESS: score_choices(examples)}


def _likenesses(train_docs: Sequence[Doc], test_docs: Sequence[Doc]) -> list[np.ndarray]:
    """Of each Doc, how like each later segment is to the first, (segments - 1,)."""
    model = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
    model.fit([segment.text for doc in train_docs for segment in segments(doc)])
    found = []
    for doc in test_docs:
        require_choices(doc)
        rows = model.transform([segment.text for segment in segments(doc)])
        found.append(np.asarray((rows[1:] @ rows[0].T).todense()).ravel())
    return found
