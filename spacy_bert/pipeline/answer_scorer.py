"""The official scores of SQuAD 1.1 and 2.0: exact match, F1, and the best null threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from spacy.training import Example
from transformers.data.metrics.squad_metrics import (
    compute_exact,
    compute_f1,
    normalize_answer,
)

from spacy_bert.pipeline.answer_gold import gold_texts, require_question
from spacy_bert.pipeline.answers import Answer, answers


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What is true of a question, and what was said."""

    gold: list[str]  # alternatives; "" is right where the context holds no answer
    has_answer: bool
    said: list[Answer]  # best first

    @classmethod
    def build(cls, example: Example, spans_key: str) -> _Question:
        require_question(example.reference)
        group = example.reference.spans[spans_key]
        gold = [text for text in gold_texts(group) if normalize_answer(text)] or [""]
        return cls(gold=gold, has_answer=len(group) > 0, said=answers(example.predicted))

    @property
    def text(self) -> str:
        return self.said[0].text if self.said else ""

    def best(self, score: Callable[[str, str], float], text: str) -> float:
        """A score of a text, that of the alternative which suits it best."""
        if not text:
            return float(not self.has_answer)
        return float(max(score(gold, text) for gold in self.gold))


def build_span_qa_scorer() -> Callable[..., dict[str, Any]]:
    """The scorer `spacy_bert.span_qa_scorer.v1`: exact match and F1 of `doc._.answers`."""
    return score_answers


def score_answers(
    examples: Iterable[Example], *, spans_key: str = "answers", **_: Any
) -> dict[str, Any]:
    """Score the best answers by the rules of SQuAD's official script, from 0 to 1.

    Args:
        examples: predictions and gold standard; a Doc whose reference has no group `spans_key` is
            not annotated and does not count.
        spans_key: the group of gold answers; an empty one says that there is no answer.

    Returns:
        `answers_em` and `answers_f1`; if some questions have no answer, also those of the questions
        that have one (`answers_has_em`, `answers_has_f1`) and that have none (`answers_no_em`); and
        if null answers were looked for, the threshold at which F1 would be best
        (`answers_best_f1_threshold`, `answers_best_f1`).

    Raises:
        ValueError: if a Doc has gold answers, but no question.
    """
    questions = [
        _Question.build(example, spans_key)
        for example in examples
        if spans_key in example.reference.spans
    ]
    answered = [q for q in questions if q.has_answer]
    scores = {f"answers_{name}": value for name, value in _means(questions).items()}
    if len(answered) == len(questions):
        return scores
    scores |= {f"answers_has_{name}": value for name, value in _means(answered).items()}
    scores["answers_no_em"] = _means([q for q in questions if not q.has_answer])["em"]
    if any(answer.is_null for q in questions for answer in q.said):
        scores |= _best_threshold(questions)
    return scores


def _means(questions: Sequence[_Question]) -> dict[str, float | None]:
    if not questions:
        return {"em": None, "f1": None}
    return {
        name: sum(q.best(score, q.text) for q in questions) / len(questions)
        for name, score in (("em", compute_exact), ("f1", compute_f1))
    }


def _best_threshold(questions: Sequence[_Question]) -> dict[str, float]:
    """The null threshold with the best F1, and that F1.

    It lies in the middle between two questions, so that it can be rounded; the official script's
    lies on one, and is 0.0 where no answer at all would be best.
    """
    rows = []  # how far "no answer" is ahead, F1 of the best answer, F1 of none
    for question in questions:
        null = next((a.score for a in question.said if a.is_null), -math.inf)
        first = next((a for a in question.said if not a.is_null), None)
        ahead = math.inf if first is None else null - first.score
        answered = question.best(compute_f1, "" if first is None else first.text)
        rows.append((ahead, answered, question.best(compute_f1, "")))
    ahead, answered, silent = np.array(sorted(rows)).T
    # With a threshold behind the first k, these k are answered, and no other.
    totals = silent.sum() + np.concatenate([[0.0], (answered - silent).cumsum()])
    decided = ahead[np.isfinite(ahead)]  # the others have nothing that could be an answer
    if not len(decided):
        return {"answers_best_f1": float(silent.mean()), "answers_best_f1_threshold": 0.0}
    borders = np.concatenate([[decided[0] - 1.0], decided, [decided[-1] + 1.0]])
    places = np.flatnonzero(np.diff(borders) > 0.0)
    best = int(places[totals[places].argmax()])
    return {
        "answers_best_f1": float(totals[best] / len(questions)),
        "answers_best_f1_threshold": float(borders[best : best + 2].mean()),
    }
