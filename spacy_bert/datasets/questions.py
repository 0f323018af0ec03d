"""What readers of questions share: where an answer stands, and exact texts marked on a Doc."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from spacy.language import Language
from spacy.tokens import Doc, SpanGroup

from spacy_bert.models.segments import join

ANSWERS_KEY = "answers"
FACTS_KEY = "supporting_facts"

Characters = tuple[int, int]


def make_question(
    nlp: Language,
    question: str,
    context: str,
    *,
    answers: Iterable[Characters],
    facts: Iterable[Characters] | None,
) -> Doc:
    """A Doc of question and context, with answers and supporting facts in `doc.spans`.

    Args:
        nlp: Its tokenizer is used.
        question: The first segment.
        context: The second one.
        answers: Characters of the context, of the answer that is learned first.
        facts: Characters of the context; None if it is not known what supports the answer.

    Raises:
        ValueError: If a text holds the border of segments.
    """
    doc = join(nlp, question, context)
    begin = len(question) + 1
    mark(doc, ANSWERS_KEY, [(begin + start, begin + end) for start, end in answers])
    if facts is not None:
        mark(doc, FACTS_KEY, [(begin + start, begin + end) for start, end in facts])
    return doc


def mark(doc: Doc, key: str, found: Sequence[Characters]) -> None:
    """Mark texts in `doc.spans[key]`: the tokens that cover each, its very text in `attrs`.

    Args:
        doc: The Doc.
        key: Name of the group.
        found: Where the texts stand, in characters of the Doc.
    """
    spans = [doc.char_span(start, end, alignment_mode="expand") for start, end in found]
    doc.spans[key] = SpanGroup(
        doc,
        name=key,
        spans=[span for span in spans if span is not None],
        attrs={"texts": [doc.text[start:end] for start, end in found]},
    )


def find_word(text: str, word: str) -> list[Characters]:
    """Where a word or phrase stands in a text, not as part of longer words.

    As it is written; if it is nowhere so, in any case.
    """
    before, after = (r"(?<!\w)" * word[:1].isalnum(), r"(?!\w)" * word[-1:].isalnum())
    pattern = f"{before}{re.escape(word)}{after}"
    for flags in (0, re.IGNORECASE):
        found = [match.span() for match in re.finditer(pattern, text, flags)]
        if found:
            return found
    return []


def inside(found: Iterable[Characters], parts: Iterable[Characters]) -> list[Characters]:
    """Those places that lie in one of the parts."""
    parts = list(parts)
    return [(a, b) for a, b in found if any(start <= a and b <= end for start, end in parts)]
