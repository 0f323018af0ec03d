"""Segments: the parts of a Doc that BERT tells apart (sentence A and B, question and context).

The border is a character of the text, U+001E (RECORD SEPARATOR), which spaCy's tokenizer makes a
whitespace token of its own. So segments survive wherever spaCy makes a Doc anew from its text.
"""

from __future__ import annotations

from spacy.language import Language
from spacy.tokens import Doc, Span

SEPARATOR = "\x1e"
EXTENSION = "segments"


def join(nlp: Language, *parts: str) -> Doc:
    """One Doc whose segments are the parts, tokenized by the pipeline's tokenizer.

    To run the whole pipeline on it, pass the Doc on: `nlp(join(nlp, "question", "context"))`.

    Args:
        nlp: the pipeline; only its tokenizer is used.
        *parts: the texts, at least one.

    Raises:
        ValueError: if no part is given or a part holds U+001E itself.
        TypeError: if a part is not a string, or the pipeline is missing.
    """
    if not isinstance(nlp, Language):
        raise TypeError(
            'join takes the pipeline first: join(nlp, "first", "second"), got a '
            f"{type(nlp).__name__}"
        )
    if not parts:
        raise ValueError('join needs at least one text: join(nlp, "first", "second")')
    for number, part in enumerate(parts, start=1):
        if not isinstance(part, str):
            raise TypeError(f"join takes texts: part {number} is a {type(part).__name__}")
        if SEPARATOR in part:
            raise ValueError(
                f"part {number} of join holds U+001E, which marks the borders of segments: "
                "take it out of the text"
            )
    return nlp.make_doc(SEPARATOR.join(parts))


def segments(doc: Doc) -> list[Span]:
    """The segments of a Doc, as `doc._.segments`; a Doc without a border has one.

    White space next to a border belongs to the border. Segments may be empty.

    Raises:
        ValueError: if a tokenizer left U+001E inside a word.
    """
    if SEPARATOR not in doc.text:
        return [doc[:]]
    found, start = [], 0
    for token in doc:
        if SEPARATOR not in token.text:
            continue
        if not token.text.isspace():  # a bare Vocab has no is_space
            raise ValueError(
                f"token {token.text!r} holds U+001E beside other text: "
                "the tokenizer must make the border of two segments a token of its own"
            )
        found.append(doc[start : token.i])
        # A run of white space is one token: "\x1e\x1e" has an empty segment inside.
        found.extend(doc[token.i : token.i] for _ in range(token.text.count(SEPARATOR) - 1))
        start = token.i + 1
    found.append(doc[start : len(doc)])
    return found


def install_segments() -> None:
    """Register `doc._.segments` (a getter: it holds for Docs read from disk too)."""
    if not Doc.has_extension(EXTENSION):
        Doc.set_extension(EXTENSION, getter=segments)
