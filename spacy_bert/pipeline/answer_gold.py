"""Gold answers: from `doc.spans` to the pieces at which they start and end in each window."""

from __future__ import annotations

import numpy as np
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example

from spacy_bert.models.segments import SEPARATOR
from spacy_bert.models.windows import Windows

Characters = tuple[int, int]

MISSING = -1


def gold_texts(group: SpanGroup) -> list[str]:
    """The exact text of each gold answer; that of its tokens, if the group has no `texts`.

    Raises:
        ValueError: if there is not one text for each span.
    """
    texts = group.attrs.get("texts")
    if texts is None:
        return [span.text for span in group]
    if len(texts) != len(group):
        raise ValueError(
            f"doc.spans[{group.name!r}] has {len(group)} answers, but its attrs have "
            f"{len(texts)} texts: give one text for each span"
        )
    return list(texts)


def gold_characters(example: Example, spans_key: str) -> Characters | None:
    """Where the first gold answer stands in the predicted Doc's text; None if there is none.

    Raises:
        ValueError: if the annotation cannot be an answer to a question; says why.
    """
    reference = example.reference
    group = reference.spans[spans_key]
    texts = gold_texts(group)
    require_question(reference)
    border = reference.text.index(SEPARATOR)
    for span, text in zip(group, texts, strict=True):
        if span.start_char < border:
            raise ValueError(
                f"the gold answer {text!r} stands in the first segment, which is the question: "
                f"doc.spans[{spans_key!r}] marks tokens of the context"
            )
        if SEPARATOR in text:
            raise ValueError(f"the gold answer {text!r} runs over the border of two segments")
    if not len(group):
        return None
    start, end = locate(group[0], texts[0])
    if reference.text == example.predicted.text:
        return start, end
    # spaCy lets the two differ in white space alone.
    before, inside = _solid(reference.text[:start]), _solid(reference.text[start:end])
    places = [i for i, char in enumerate(example.predicted.text) if not char.isspace()]
    return places[before], places[before + inside - 1] + 1


def locate(span: Span, text: str) -> Characters:
    """Where an exact text stands in the tokens that cover it.

    Raises:
        ValueError: if it does not touch both the first and the last of them.
    """
    found = span.text.find(text) if text.strip() else -1
    while found >= 0:
        start, end = span.start_char + found, span.start_char + found + len(text)
        if start < span[0].idx + len(span[0]) and end > span[-1].idx:
            return start, end
        found = span.text.find(text, found + 1)
    raise ValueError(
        f"the gold text {text!r} is not in its span {span.text!r}: give the tokens that cover the "
        'text in doc.spans, and the text as it stands in the Doc in the group\'s attrs["texts"]'
    )


def require_question(doc: Doc) -> None:
    """Refuse a Doc that has no question and context.

    Raises:
        ValueError: if it has fewer than two segments.
    """
    if SEPARATOR not in doc.text:
        raise ValueError(
            f"no question: the Doc {doc.text[:40]!r} has one segment; join question and context "
            "with spacy_bert.join(nlp, question, context)"
        )


def find_targets(windows: Windows, gold: Characters | None) -> np.ndarray:
    """Positions of start and end in each window, (windows, 2) int64.

    A window that does not show the whole answer has [CLS], 0, for both. If no piece at all shows a
    character of it, there is nothing to learn: `MISSING`.
    """
    found = np.zeros((len(windows.lengths), 2), np.int64)
    if gold is None:
        return found
    start, end = gold
    begins, ends = windows.offsets.T
    rows = np.flatnonzero(windows.is_second & (ends > start) & (begins < end))
    if not len(rows):
        return np.full_like(found, MISSING)
    shown, first = np.unique(windows.window_of[rows], return_index=True)
    last = np.append(first[1:], len(rows)) - 1
    first, last = rows[first], rows[last]
    whole = (begins[first] == begins[rows].min()) & (ends[last] == ends[rows].max())
    found[shown[whole], 0] = windows.position_of[first[whole]]
    found[shown[whole], 1] = windows.position_of[last[whole]]
    return found


def _solid(text: str) -> int:
    """How many characters are not white space."""
    return sum(not char.isspace() for char in text)
