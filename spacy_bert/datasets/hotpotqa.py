"""HotpotQA (Yang et al. 2018): questions that need facts from several paragraphs of Wikipedia.

The files are those of the distractor setting: each question has ten paragraphs, of which two hold
its supporting facts, or (full wiki) those that a search has found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.datasets.lines import open_rows
from spacy_bert.datasets.questions import Characters, find_word, inside, make_question
from spacy_bert.datasets.writing import BadRows, write_docs

YES_NO = ("yes", "no")
CHUNK = 1 << 20  # characters read at once


@dataclass(kw_only=True)
class Counts:
    """What was written.

    Attributes:
        questions: Those that were written.
        unsupported: How many of their answers stand in no supporting fact.
        yes_no: Questions left out, because they are answered by yes or no.
        elsewhere: Questions left out, because the answer is not in the paragraphs.
        lost_facts: Supporting facts that name a sentence that is not there.
    """

    questions: int = 0
    unsupported: int = 0
    yes_no: int = 0
    elsewhere: int = 0
    lost_facts: int = 0


@dataclass(frozen=True, kw_only=True)
class _Context:
    """The paragraphs as one text, and where their parts stand.

    Attributes:
        text: A line for each paragraph: its title, a colon, its sentences.
        paragraphs: Those that hold supporting facts.
        facts: The supporting facts, in the order of the text.
        lost: How many others were named.
    """

    text: str
    paragraphs: list[Characters]
    facts: list[Characters]
    lost: int


def write_hotpotqa(
    source: Path,
    output: Path,
    nlp: Language,
    bad: BadRows,
    *,
    distractors: int | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Counts:
    """Turn an official file into training data for `bert_span_qa`.

    A Doc is a question and its paragraphs, in one segment. Answers are marked where they stand in
    supporting facts; if in none, in the paragraphs of these, or else anywhere. All supporting facts
    are in `doc.spans["supporting_facts"]`. Questions are read one by one, whatever the size of the
    file; what is written is gathered in memory.

    Args:
        source: The file, `.json`, also `.gz`.
        output: The `.spacy` file.
        nlp: The pipeline whose tokenizer is used.
        bad: What becomes of malformed questions.
        distractors: How many paragraphs without a supporting fact to keep, the first ones; None for
            all.
        progress: Called after each question.

    Raises:
        ValueError: If the file cannot be read, or a question is malformed and `bad` does not skip
            it; names the place.
    """
    if distractors is not None and distractors < 0:
        raise ValueError(f"--distractors must be 0 or more, got {distractors}")
    counts = Counts()

    def docs() -> Iterator[Doc]:
        for question in read_array(source):
            try:
                doc = _read_question(nlp, question, distractors, counts)
            except ValueError as error:
                bad.add(source, _name(question), str(error))
            else:
                if doc is not None:
                    yield doc
            progress()

    write_docs(output, docs(), only_words=True)
    return counts


def read_array(file: Path) -> Iterator[Any]:
    """The items of a JSON array, without reading the whole of a file at once.

    Raises:
        ValueError: If the file cannot be read or is no array; names the file and the item.
    """
    with open_rows(file) as stream:
        yield from _items(file, stream)


def _items(file: Path, stream: TextIO) -> Iterator[Any]:
    decoder, number = json.JSONDecoder(), 1
    text = stream.read(CHUNK)
    place = _skip_space(text, 0)
    if not text.startswith("[", place):
        raise ValueError(f"{file}: expected a JSON array of questions, as those of HotpotQA")
    place += 1
    while True:
        place = _skip_space(text, place)
        try:
            if text.startswith("]", place):
                return
            item, end = decoder.raw_decode(text, place)
            end = _skip_space(text, end)
            if not text.startswith((",", "]"), end):
                raise json.JSONDecodeError("expected ',' or ']' behind it", text, end)
        except json.JSONDecodeError as error:
            # Perhaps not all of it has been read. Twice as much each time keeps long ones linear.
            more = stream.read(max(CHUNK, len(text) - place))
            if not more:
                raise ValueError(f"{file}, item {number}: not valid JSON ({error.msg})") from None
            text, place = text[place:] + more, 0
        else:
            yield item
            number += 1
            place = end + text.startswith(",", end)


def _skip_space(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place


def _read_question(
    nlp: Language, question: Any, distractors: int | None, counts: Counts
) -> Doc | None:
    """One Doc, or None if the question has no span for an answer.

    Raises:
        ValueError: Says what is wrong with the question.
    """
    text, answer = (_text(question, key) for key in ("question", "answer"))
    context = _read_context(question, distractors)
    counts.lost_facts += context.lost
    if answer.lower() in YES_NO:
        counts.yes_no += 1
        return None
    found = find_word(context.text, answer)
    if not found:
        counts.elsewhere += 1
        return None
    supported = inside(found, context.facts)
    doc = make_question(
        nlp,
        text,
        context.text,
        answers=supported or inside(found, context.paragraphs) or found,
        facts=context.facts,
    )
    counts.questions += 1
    counts.unsupported += not supported
    return doc


def _read_context(question: Any, distractors: int | None) -> _Context:
    facts, paragraphs = (_pairs(question, key) for key in ("supporting_facts", "context"))
    wanted: dict[str, set[int]] = {}
    for title, index in facts:
        if type(index) is not int:
            raise ValueError('expected a title and a number in each of "supporting_facts"')
        wanted.setdefault(title, set()).add(index)
    text, others = "", 0
    supporting: list[Characters] = []
    found: list[Characters] = []
    for title, sentences in paragraphs:
        if not (isinstance(sentences, list) and all(isinstance(s, str) for s in sentences)):
            raise ValueError('expected a title and a list of sentences in each of "context"')
        indices = wanted.get(title, set())
        others += not indices
        if not indices and distractors is not None and others > distractors:
            continue
        start = len(text) + bool(text)
        text = f"{text}\n{title.strip()}:".lstrip("\n")
        for index, sentence in enumerate(map(str.strip, sentences)):
            begin = len(text) + 1
            text = f"{text} {sentence}"
            if index in indices and sentence:
                found.append((begin, len(text)))
        if indices:
            supporting.append((start, len(text)))
    named = sum(map(len, wanted.values()))
    return _Context(text=text, paragraphs=supporting, facts=found, lost=max(0, named - len(found)))


def _text(question: Any, key: str) -> str:
    text = question.get(key) if isinstance(question, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f'expected an object with a text in "{key}"')
    return text.strip()


def _pairs(question: Any, key: str) -> Sequence[tuple[str, Any]]:
    pairs = question.get(key)
    if not isinstance(pairs, list):
        raise ValueError(f'expected a list in "{key}"')
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise ValueError(f'expected pairs that begin with a title in "{key}", got {pair!r:.60}')
    return [(title, value) for title, value in pairs]


def _name(question: Any) -> str:
    identity = question.get("_id") if isinstance(question, dict) else None
    return "a question without _id" if identity is None else f"question {identity}"
