"""Reading SQuAD 1.1 and 2.0: questions about paragraphs, answered by a span or not at all."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.datasets.questions import ANSWERS_KEY, make_question
from spacy_bert.datasets.writing import BadRows, blank_pipeline, write_docs
from spacy_bert.pretraining.corpus import open_text


def write_squad(
    source: str | Path, output: str | Path, *, lang: str = "en", rows: BadRows
) -> dict[str, int]:
    """Turn an official file into training data for `bert_span_qa`.

    Args:
        source: The file, `.json` or `.json.gz`.
        output: The `.spacy` file; one Doc for each question.
        lang: Code of the language, whose tokenizer is used.
        rows: What becomes of malformed questions.

    Returns:
        Counts: `questions`, `unanswerable`, `answers` (alternatives included) and how many of them
        are `inexact`: begin or end within a token.

    Raises:
        ValueError: If the file cannot be read, a question is malformed (and not skipped) or there
            is no such language; names the place.
    """
    nlp = blank_pipeline(lang)
    counts: Counter[str] = Counter(questions=0, unanswerable=0, answers=0, inexact=0)

    def counted() -> Iterator[Doc]:
        for doc in read_squad(Path(source), nlp, rows):
            group = doc.spans[ANSWERS_KEY]
            texts = zip(group, group.attrs["texts"], strict=True)
            counts["questions"] += 1
            counts["unanswerable"] += not len(group)
            counts["answers"] += len(group)
            counts["inexact"] += sum(span.text != text for span, text in texts)
            yield doc

    write_docs(Path(output), counted(), only_words=True)
    return dict(counts)


def read_squad(file: Path, nlp: Language, rows: BadRows) -> Iterator[Doc]:
    """Docs of question and context, with the gold answers in `doc.spans["answers"]`.

    Args:
        file: `.json` or `.json.gz`, as the official ones.
        nlp: Its tokenizer is used.
        rows: What becomes of malformed questions.

    Raises:
        ValueError: If the file cannot be read or a question is malformed (and not skipped); names
            the place.
    """
    for article in _list(file, _load(file), "data", "the file"):
        for paragraph in _list(file, article, "paragraphs", "an article"):
            questions = _list(file, paragraph, "qas", "a paragraph")
            for question in questions:
                try:
                    doc = _read_question(nlp, question, paragraph.get("context"))
                except ValueError as error:
                    rows.add(file, _name(question), str(error))
                else:
                    yield doc


def _read_question(nlp: Language, question: Any, context: Any) -> Doc:
    """One Doc.

    Raises:
        ValueError: says what is wrong with the question.
    """
    if not isinstance(question, dict) or not isinstance(question.get("question"), str):
        raise ValueError('expected an object with a text in "question"')
    if not question["question"].strip():
        raise ValueError('its "question" is empty')
    if not isinstance(context, str):
        raise ValueError('its paragraph has no text in "context"')
    answers, impossible = question.get("answers"), bool(question.get("is_impossible"))
    if not isinstance(answers, list):
        raise ValueError('expected a list in "answers"')
    if impossible and answers:
        raise ValueError('"is_impossible" is true, but there are answers')
    if not impossible and not answers:
        raise ValueError('there is no answer: if the context holds none, "is_impossible" is true')
    found = dict.fromkeys(_check_answer(answer, context) for answer in answers)
    text = question["question"].strip()
    places = [(start, start + len(answer)) for start, answer in found]
    return make_question(nlp, text, context, answers=places, facts=None)


def _check_answer(answer: Any, context: str) -> tuple[int, str]:
    """Where an answer starts in the context, and its text, without white space around it.

    Raises:
        ValueError: if it is not there.
    """
    text = answer.get("text") if isinstance(answer, dict) else None
    start = answer.get("answer_start") if isinstance(answer, dict) else None
    if not isinstance(text, str) or not text.strip() or type(start) is not int:
        raise ValueError('an answer needs a "text" and a number in "answer_start"')
    there = context[start : start + len(text)] if start >= 0 else ""
    if there != text:
        raise ValueError(
            f'"answer_start" is {start}, where the context has {there[:60]!r}, not {text[:60]!r}'
        )
    return start + len(text) - len(text.lstrip()), text.strip()  # no token begins with a space


def _load(file: Path) -> Any:
    try:
        with open_text(file) as stream:
            return json.load(stream)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{file}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 ({error.reason}); convert it") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file}: damaged or truncated gzip file ({error})") from None


def _list(file: Path, value: Any, key: str, name: str) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise ValueError(f'{file}: {name} has no list in "{key}"; expected the form of SQuAD')
    return found


def _name(question: Any) -> str:
    identity = question.get("id") if isinstance(question, dict) else None
    return "a question without id" if identity is None else f"question {identity}"
