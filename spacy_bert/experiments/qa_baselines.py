"""Cheap baselines of question answering, scored as `bert_span_qa` is.

A pipeline has learned to read only if it beats the one that never answers, where some questions
have no answer, and the one that gives the sentence most like the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from spacy.tokens import Doc
from spacy.training import Example

from spacy_bert.datasets.prose import split_sentences
from spacy_bert.datasets.questions import ANSWERS_KEY
from spacy_bert.models.segments import segments
from spacy_bert.pipeline.answer_gold import require_question
from spacy_bert.pipeline.answer_scorer import score_answers
from spacy_bert.pipeline.answers import Answer, set_answers

SILENCE = "no answer"
SENTENCE = "most similar sentence"

Scores = dict[str, Any]


class _Found(NamedTuple):
    """Characters of a Doc that may answer its question, and how alike sentence and question are."""

    start: int
    end: int
    similarity: float


def score_qa_baselines(train_docs: Sequence[Doc], test_docs: Sequence[Doc]) -> dict[str, Scores]:
    """Fit the baselines on questions with gold answers and score them on others.

    Returns:
        Name of the baseline to the scores of it that `spacy_bert.span_qa_scorer.v1` gives.

    Raises:
        ValueError: If a Doc has no question.
    """
    model = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
    model.fit([part for doc in train_docs for part in _question_and_sentences(doc)])
    threshold = _best_threshold(train_docs, [_most_similar(model, doc) for doc in train_docs])
    found = [_most_similar(model, doc) for doc in test_docs]
    return {
        SILENCE: score_characters(test_docs, [None] * len(test_docs)),
        SENTENCE: score_characters(test_docs, _above(found, threshold)),
    }


def score_characters(docs: Sequence[Doc], said: Sequence[tuple[int, int] | None]) -> Scores:
    """Score as `bert_span_qa` is one answer, or None, for each annotated Doc."""
    examples = []
    for doc, characters in zip(docs, said, strict=True):
        words, spaces = [t.text for t in doc], [bool(t.whitespace_) for t in doc]
        prediction = Doc(doc.vocab, words=words, spaces=spaces)
        start, end = characters or (-1, -1)
        text = doc.text[start:end] if characters else ""
        set_answers(prediction, [Answer(text, start, end, 0.0, 1.0)], ANSWERS_KEY)
        examples.append(Example(prediction, doc))
    scores = score_answers(examples)
    return {name: value for name, value in scores.items() if "best" not in name}


def _question_and_sentences(doc: Doc) -> list[str]:
    require_question(doc)
    question, *contexts = segments(doc)
    sentences = (sentence for part in contexts for sentence in split_sentences(part.text))
    return [question.text, *sentences]


def _most_similar(model: TfidfVectorizer, doc: Doc) -> _Found | None:
    """The sentence most like the question, without its first word and its full stop."""
    rows = model.transform(_question_and_sentences(doc))
    similarity = np.asarray((rows[1:] @ rows[0].T).todense()).ravel()
    if not len(similarity):
        return None
    best = int(similarity.argmax())
    sentence = _question_and_sentences(doc)[1 + best]
    start = doc.text.index(sentence, segments(doc)[1].start_char)
    head, _, rest = sentence.partition(" ")
    begin = start + len(head) + 1 if rest else start
    return _Found(begin, start + len(sentence.rstrip(".")), float(similarity[best]))


def _best_threshold(docs: Sequence[Doc], found: Sequence[_Found | None]) -> float:
    """The similarity from which on it is best to answer, by the F1 of the training set."""
    similarities = [answer.similarity for answer in found if answer is not None]
    if not similarities:
        return 0.0
    candidates = [0.0, *map(float, np.quantile(similarities, np.linspace(0.05, 1.0, 20)))]

    def f1(bound: float) -> float:
        return float(score_characters(docs, _above(found, bound))["answers_f1"])

    return max(candidates, key=f1)


def _above(found: Sequence[_Found | None], threshold: float) -> list[tuple[int, int] | None]:
    return [
        (answer.start, answer.end) if answer and answer.similarity >= threshold else None
        for answer in found
    ]
