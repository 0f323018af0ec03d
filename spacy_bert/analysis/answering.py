"""How BERT answers questions: `spacy_bert.explain_answer`, and the same over a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch

from spacy_bert.analysis.answer_phases import (
    MARGIN,
    PhaseCurves,
    WrongMatching,
    match_wrong_answer,
    phase_curves,
)
from spacy_bert.analysis.asked import Asked, ask_docs, question_doc
from spacy_bert.analysis.projections import Projections, project_layers
from spacy_bert.analysis.trace import Trace
from spacy_bert.analysis.tracing import trace
from spacy_bert.pipeline.answers import Answer

DOCS = 64  # that are looked at together
RIGHT, WRONG, UNKNOWN = "right", "wrong", "unknown"


@dataclass(frozen=True, kw_only=True, eq=False)
class Inside:
    """What one network makes of a question.

    Attributes:
        projections: The tokens of each layer in a plane.
        phases: The curves.
    """

    projections: Projections
    phases: PhaseCurves


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerExplanation:
    """How a pipeline comes to an answer.

    Attributes:
        doc: The Doc of question and context.
        gold: The right answers, none if the context holds none; None if they are not known.
        predicted: The pipeline's answer, in characters of the Doc; None if it answers no questions.
        right: Whether it is right; None if that is not known.
        tokens: Which tokens of the Doc BERT reads, (tokens,) int: all but white space.
        roles: Of each of them, the first that holds: "answer" (the predicted one, or if there is
            no prediction the right one), "question", "fact" (or the sentence of the answer),
            "other".
        after: What the pipeline's network makes of it.
        before: What the other pipeline's network does; None if none was given.
        wrong: Why the answer is wrong, so far as the layers tell; None if it is right or that is
            not known.
    """

    doc: Doc
    gold: tuple[str, ...] | None
    predicted: Answer | None
    right: bool | None
    tokens: np.ndarray
    roles: tuple[str, ...]
    after: Inside
    before: Inside | None
    wrong: WrongMatching | None


@dataclass(frozen=True, kw_only=True)
class WrongAnswer:
    """One wrong answer.

    Attributes:
        question: The question.
        gold: The right answers; none if the context holds none.
        predicted: The pipeline's answer; "" if it found none.
        kind: Why, as `match_wrong_answer` sorts it; None if there are no facts to match.
        parting: The layer from which on the question is nearer to one of the two sentences.
    """

    question: str
    gold: tuple[str, ...]
    predicted: str
    kind: str | None
    parting: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerStudy:
    """How a pipeline answers a whole data set.

    Attributes:
        questions: How many.
        outcomes: How many are "right", "wrong" and "unknown" (no right answer given, or a pipeline
            that answers no questions).
        kinds: How many wrong answers are of which kind; of None, how many have no facts.
        wrong: The wrong answers.
        after: Mean curves of the pipeline's network: of all questions ("all"), and of each outcome
            that there is.
        before: Those of the other pipeline's network; None if none was given. Outcomes are the
            first pipeline's.
    """

    questions: int
    outcomes: Mapping[str, int]
    kinds: Mapping[str | None, int]
    wrong: Sequence[WrongAnswer]
    after: Mapping[str, PhaseCurves]
    before: Mapping[str, PhaseCurves] | None


def explain_answer(
    nlp: Language,
    question: str | Doc,
    context: str | None = None,
    *,
    answer: str | None = None,
    facts: Sequence[str] | None = None,
    method: str = "pca",
    before: Language | None = None,
    component: str | None = None,
    margin: float = MARGIN,
    seed: int = 0,
) -> AnswerExplanation:
    """How BERT comes to an answer, layer by layer (van Aken et al. 2019).

    The projections are the paper's; the curves of its phases, and the rules that sort a wrong
    answer, are this package's own (see `PhaseCurves`, `match_wrong_answer`).

    Args:
        nlp: A pipeline with an encoder; with the component "bert_span_qa", it answers.
        question: The question; or a Doc of question and context, as the readers of SQuAD, HotpotQA
            and bAbI make it, with what is known in `doc.spans`.
        context: The text that may hold the answer; None with a Doc.
        answer: The right answer, as it stands in the context; "" if the context holds none.
        facts: The supporting facts, as they stand in the context; by default the sentence that
            holds the right answer, or if that is not known the predicted one.
        method: Of projection: "pca", "ica" or "tsne".
        before: Another pipeline, such as one with the encoder before fine-tuning.
        component: Name of the component whose encoder is meant, if there are several.
        margin: See `match_wrong_answer`.
        seed: Of the projection.

    Raises:
        ValueError: If there is no question and context, or an answer or fact is not in the context,
            or the pipeline has no encoder.

    Example:
        >>> found = spacy_bert.explain_answer(nlp, "Who?", "Ada did it.")  # doctest: +SKIP
        >>> found.after.phases.fact_matching  # doctest: +SKIP
    """
    if isinstance(question, Doc):
        if context is not None or answer is not None or facts is not None:
            raise ValueError(
                "a Doc has the context in it, and answer and facts in doc.spans: give the Doc "
                "alone, or texts"
            )
        doc = question
    elif context is None:
        raise ValueError("no context: give the text that may hold the answer, or a Doc of both")
    else:
        doc = question_doc(nlp, question, context, answer=answer, facts=facts)
    (asked,) = ask_docs(nlp, [doc])
    traces = [trace(nlp, doc, component=component)]
    if before is not None:
        traces.append(trace(before, doc))
    read = np.flatnonzero(np.logical_and.reduce([_is_read(one) for one in traces]))
    parts = asked.parts.take(read)
    states = [one.tokens().hidden[:, read] for one in traces]
    inside = [
        Inside(
            projections=project_layers(hidden, method, seed=seed),
            phases=phase_curves(hidden, parts),
        )
        for hidden in states
    ]
    return AnswerExplanation(
        doc=doc,
        gold=asked.gold,
        predicted=asked.predicted,
        right=asked.right,
        tokens=read,
        roles=parts.roles,
        after=inside[0],
        before=inside[1] if before is not None else None,
        wrong=_why_wrong(asked, states[0], read, margin),
    )


def explain_answers(
    nlp: Language,
    examples: Iterable[Doc | Example],
    *,
    before: Language | None = None,
    component: str | None = None,
    margin: float = MARGIN,
    progress: Callable[[int], object] = lambda more: None,
) -> AnswerStudy:
    """The same over a data set: mean curves, and wrong answers by their kind.

    Args:
        nlp: See `explain_answer`.
        examples: Docs of question and context with what is known in `doc.spans`, or Examples with
            such references.
        before: See `explain_answer`.
        component: See `explain_answer`.
        margin: See `match_wrong_answer`.
        progress: Called with how many more questions are done.

    Raises:
        ValueError: If there are no questions, or one has no context, or the pipeline has no
            encoder.
    """
    after_means: dict[str, _Mean] = {}
    before_means: dict[str, _Mean] = {}
    outcomes: Counter[str] = Counter()
    wrong = []
    for batch in minibatch(examples, DOCS):
        docs = [one.reference if isinstance(one, Example) else one for one in batch]
        asked = ask_docs(nlp, docs)
        names = [_outcome(one) for one in asked]
        outcomes.update(names)
        for one, name, seen in zip(
            asked, names, trace(nlp, docs, component=component), strict=True
        ):
            hidden, read = _states(seen)
            curves = phase_curves(hidden, one.parts.take(read))
            _add(after_means, name, curves)
            if name == WRONG:
                wrong.append(_wrong_row(one, _why_wrong(one, hidden, read, margin)))
        if before is not None:
            for one, name, seen in zip(asked, names, trace(before, docs), strict=True):
                hidden, read = _states(seen)
                _add(before_means, name, phase_curves(hidden, one.parts.take(read)))
        progress(len(docs))
    if not outcomes:
        raise ValueError("there are no questions: give Docs of question and context")
    return AnswerStudy(
        questions=outcomes.total(),
        outcomes=dict(outcomes),
        kinds=dict(Counter(row.kind for row in wrong)),
        wrong=wrong,
        after={name: mean.get() for name, mean in after_means.items()},
        before=None
        if before is None
        else {name: mean.get() for name, mean in before_means.items()},
    )


def _is_read(seen: Trace) -> np.ndarray:
    """Which tokens have pieces, (tokens,) bool."""
    return np.asarray(seen.reading.align_lengths > 0)


def _states(seen: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states of the tokens that are read, and which these are."""
    read = np.flatnonzero(_is_read(seen))
    return seen.tokens().hidden[:, read], read


def _outcome(asked: Asked) -> str:
    if asked.right is None:
        return UNKNOWN
    return RIGHT if asked.right else WRONG


def _why_wrong(
    asked: Asked, hidden: np.ndarray, read: np.ndarray, margin: float
) -> WrongMatching | None:
    parts = asked.parts.take(read)
    if asked.right is not False or not parts.fact.any():
        return None
    return match_wrong_answer(
        hidden, parts.question, asked.predicted_sentence[read], parts.fact, margin=margin
    )


def _wrong_row(asked: Asked, why: WrongMatching | None) -> WrongAnswer:
    assert asked.predicted is not None
    return WrongAnswer(
        question=asked.question,
        gold=asked.gold or (),
        predicted=asked.predicted.text,
        kind=None if why is None else why.kind,
        parting=None if why is None else why.parting,
    )


class _Mean:
    """The mean of curves, each value over those that have one."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, np.ndarray] = {}

    def add(self, curves: PhaseCurves) -> None:
        for field in fields(curves):
            values = getattr(curves, field.name)
            known = np.isfinite(values)
            self._sums[field.name] = self._sums.get(field.name, 0.0) + np.where(known, values, 0.0)
            self._counts[field.name] = self._counts.get(field.name, 0) + known

    def get(self) -> PhaseCurves:
        means = {}
        for name, total in self._sums.items():
            count = self._counts[name]
            means[name] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return PhaseCurves(**means)


def _add(means: dict[str, _Mean], name: str, curves: PhaseCurves) -> None:
    for key in ("all", name):
        means.setdefault(key, _Mean()).add(curves)
