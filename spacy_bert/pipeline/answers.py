"""Answers as they stand on a Doc: `doc._.answers`.

The Doc keeps plain numbers in `doc.user_data`, so that they survive bytes, DocBins with user data,
copies and processes; the texts are read off the Doc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spacy.tokens import Doc, SpanGroup

EXTENSION = "answers"
KEY = "spacy_bert.answers"
NOWHERE = -1


@dataclass(frozen=True)
class Answer:
    """One answer to the question that a Doc asks.

    Attributes:
        text: as it stands in the Doc; "" says that the context holds no answer.
        start_char: where the text begins in `doc.text`; -1 if there is no answer.
        end_char: where it ends, likewise.
        score: start logit + end logit.
        probability: softmax of the scores over the answers of the Doc.
    """

    text: str
    start_char: int
    end_char: int
    score: float
    probability: float

    @property
    def is_null(self) -> bool:
        """Whether it says that the context holds no answer."""
        return not self.text


def answers(doc: Doc) -> list[Answer]:
    """The answers, best first, as `doc._.answers`; none if no component has looked for them."""
    text = doc.text
    return [
        Answer(text[start:end] if start != NOWHERE else "", start, end, score, probability)
        for start, end, score, probability in doc.user_data.get(KEY, ())
    ]


def install_answers() -> None:
    """Register `doc._.answers` (a getter: it holds for Docs read from disk too)."""
    if not Doc.has_extension(EXTENSION):
        Doc.set_extension(EXTENSION, getter=answers)


def forget_answers(doc: Doc) -> None:
    """Leave no answers on the Doc; `doc.spans` stays as it is."""
    doc.user_data.pop(KEY, None)


def set_answers(doc: Doc, found: Sequence[Answer], spans_key: str) -> None:
    """Keep the answers on the Doc, and the tokens of the best one in `doc.spans`."""
    doc.user_data[KEY] = [[a.start_char, a.end_char, a.score, a.probability] for a in found]
    best = [answer for answer in found[:1] if not answer.is_null]
    spans = [doc.char_span(a.start_char, a.end_char, alignment_mode="expand") for a in best]
    doc.spans[spans_key] = SpanGroup(
        doc,
        name=spans_key,
        spans=[span for span in spans if span is not None],
        attrs={"texts": [a.text for a in best], "scores": [a.score for a in best]},
    )
