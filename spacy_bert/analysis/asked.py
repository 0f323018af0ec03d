"""A question asked of a pipeline: what is right, what was answered, and which tokens are what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from spacy.language import Language
from spacy.pipeline import Sentencizer
from spacy.tokens import Doc, Span
from transformers.data.metrics.squad_metrics import compute_exact

from spacy_bert.analysis.answer_phases import Parts
from spacy_bert.datasets.questions import ANSWERS_KEY, FACTS_KEY, find_word, make_question
from spacy_bert.models.segments import join, segments
from spacy_bert.pipeline.answer_gold import gold_texts, require_question
from spacy_bert.pipeline.answers import Answer, answers
from spacy_bert.pipeline.span_qa import BertSpanQA


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A question, its context, and the answers to it.

    Attributes:
        doc: The Doc, as it was given.
        gold: The right answers, none if the context holds none; None if they are not known.
        predicted: The pipeline's answer; None if it answers no questions.
        parts: Which tokens are what, of all tokens of the Doc. The answer is the predicted one, or
            else the right ones; if no facts are given, they are the sentences that hold the right
            answers, or where these are not known, the predicted one.
        predicted_sentence: The sentence of the predicted answer, (tokens,) bool.
    """

    doc: Doc
    gold: tuple[str, ...] | None
    predicted: Answer | None
    parts: Parts
    predicted_sentence: np.ndarray

    @property
    def question(self) -> str:
        """The question's text."""
        return segments(self.doc)[0].text

    @property
    def right(self) -> bool | None:
        """Whether the answer is an exact match by SQuAD's rules; None if that is not known."""
        if self.gold is None or self.predicted is None:
            return None
        return any(compute_exact(text, self.predicted.text) for text in self.gold or ("",))


def question_doc(
    nlp: Language,
    question: str,
    context: str,
    *,
    answer: str | None = None,
    facts: Sequence[str] | None = None,
) -> Doc:
    """A Doc of question and context, as the readers of data sets make it.

    Args:
        nlp: Its tokenizer is used.
        question: The question.
        context: The text that may hold the answer.
        answer: The right answer, as it stands in the context; "" if the context holds none.
        facts: The supporting facts, as they stand in the context.

    Raises:
        ValueError: If the answer or a fact is not in the context, or a text holds the border of
            segments.
    """
    places = []
    for fact in facts or ():
        start = context.find(fact)
        if start < 0 or not fact:
            raise ValueError(f"the fact {fact!r} is not in the context: give it word for word")
        places.append((start, start + len(fact)))
    found = find_word(context, answer) if answer else []
    if answer and not found:
        raise ValueError(f"the answer {answer!r} is not in the context: give it word for word")
    within = [place for place in found if any(a <= place[0] and place[1] <= b for a, b in places)]
    if answer is None and facts is None:
        return join(nlp, question, context)
    doc = make_question(
        nlp,
        question,
        context,
        answers=(within or found)[:1],
        facts=places if facts is not None else None,
    )
    if answer is None:
        del doc.spans[ANSWERS_KEY]
    return doc


def ask_docs(nlp: Language, docs: Sequence[Doc]) -> list[Asked]:
    """Let a pipeline answer, if it can; the Docs stay as they are.

    Args:
        nlp: A pipeline, with or without "bert_span_qa".
        docs: Of question and context, with what is known in `doc.spans["answers"]` (or the
            component's own key) and `doc.spans["supporting_facts"]`.

    Raises:
        ValueError: If a Doc has no question and context.
    """
    for doc in docs:
        require_question(doc)
    readers = (pipe for _, pipe in nlp.pipeline if isinstance(pipe, BertSpanQA))
    reader = next(readers, None)
    key = ANSWERS_KEY if reader is None else reader.spans_key
    if reader is None:
        return [_asked(doc, None, key) for doc in docs]
    # Copies: the component writes its answer where the right one stands.
    copies = [
        Doc(nlp.vocab, words=[t.text for t in doc], spaces=[bool(t.whitespace_) for t in doc])
        for doc in docs
    ]
    said = (answers(doc)[0] for doc in nlp.pipe(copies))
    return [_asked(doc, answer, key) for doc, answer in zip(docs, said, strict=True)]


def context_sentences(doc: Doc) -> list[Span]:
    """The sentences of all segments but the first, by the rules of spaCy's `sentencizer`."""
    found = []
    for segment in segments(doc)[1:]:
        (begins,) = Sentencizer().predict([segment.as_doc()])
        bounds = [segment.start + i for i, begin in enumerate(begins) if begin]
        found += [doc[start:end] for start, end in pairwise([*bounds, segment.end])]
    return found


def _asked(doc: Doc, predicted: Answer | None, key: str) -> Asked:
    # What a pipeline has answered before is no gold.
    known = key in doc.spans and not answers(doc)
    gold = list(doc.spans[key]) if known else []
    said = []
    if predicted is not None and not predicted.is_null:
        span = doc.char_span(predicted.start_char, predicted.end_char, alignment_mode="expand")
        said = [span] if span is not None else []
    sentences = context_sentences(doc)
    facts = list(doc.spans[FACTS_KEY]) if FACTS_KEY in doc.spans else []
    facts = facts or _touching(sentences, gold if known else said)
    return Asked(
        doc=doc,
        gold=tuple(gold_texts(doc.spans[key])) if known else None,
        predicted=predicted,
        parts=Parts(
            answer=_mask(doc, said if predicted is not None else gold),
            question=_mask(doc, segments(doc)[:1]),
            fact=_mask(doc, facts),
            sentences=np.array(
                [
                    _mask(doc, [sentence])
                    for sentence in sentences
                    if not _touching([sentence], facts)
                ],
                dtype=bool,
            ).reshape(-1, len(doc)),
        ),
        predicted_sentence=_mask(doc, _touching(sentences, said)),
    )


def _touching(sentences: Iterable[Span], spans: Sequence[Span]) -> list[Span]:
    """The sentences that share tokens with one of the spans."""
    return [
        sentence
        for sentence in sentences
        if any(span.start < sentence.end and span.end > sentence.start for span in spans)
    ]


def _mask(doc: Doc, spans: Iterable[Span]) -> np.ndarray:
    """Which tokens are in one of the spans, (tokens,) bool."""
    mask = np.zeros(len(doc), dtype=bool)
    for span in spans:
        mask[span.start : span.end] = True
    return mask
