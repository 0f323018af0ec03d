"""Labelled spans and pairs of spans in JSON, the form of edge probing (Tenney et al. 2019).

Semantic roles, proto-roles (SPR) and whatever else was put into this form: an object a line, or an
array of them, each with words between spaces and what holds of them:

    {"text": "The dog barks", "targets": [{"span1": [2, 3], "span2": [0, 2], "label": "ARG0"}]}

A span is the first word, counted from 0, and the one behind the last. "label" may be a list, also
an empty one. All targets of a file have a "span2", or none has.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spacy.tokens import Doc, Span, SpanGroup
from spacy.vocab import Vocab

from spacy_bert.datasets.hotpotqa import read_array
from spacy_bert.datasets.lines import numbered_lines, open_rows
from spacy_bert.datasets.writing import BadRows, write_docs
from spacy_bert.models.segments import SEPARATOR

FIRST_KEY, SECOND_KEY = "span1", "span2"  # in doc.spans, and in the file
LABELS = "labels"  # in the attrs of the first group: a list for each target

Target = tuple[tuple[int, int], tuple[int, int] | None, list[str]]


@dataclass(kw_only=True)
class Counts:
    """What was written.

    Attributes:
        texts: A Doc each.
        targets: Spans, or pairs of spans, with what holds of them.
        pairs: How many of them are pairs.
        labels: How often each label holds.
    """

    texts: int = 0
    targets: int = 0
    pairs: int = 0
    labels: Counter[str] = field(default_factory=Counter)


def write_edges(source: Path, output: Path, vocab: Vocab, bad: BadRows) -> Counts:
    """Turn a file of labelled spans into Docs.

    The spans of the targets stand in `doc.spans["span1"]` and, of pairs, in `doc.spans["span2"]`,
    both in the order of the targets; their labels in `doc.spans["span1"].attrs["labels"]`, a list
    for each.

    Args:
        source: The file, also `.gz`.
        output: The `.spacy` file.
        vocab: The vocabulary that is used.
        bad: What becomes of malformed texts.

    Raises:
        ValueError: If the file cannot be read, or a text is malformed and `bad` does not skip it;
            names the line, or in an array the number of the item.
    """
    counts = Counts()
    write_docs(output, _counted(read_edges(source, vocab, bad), counts))
    return counts


def read_edges(source: Path, vocab: Vocab, bad: BadRows) -> Iterator[Doc]:
    """The Docs of a file, one by one, as `write_edges` writes them.

    Raises:
        ValueError: As `write_edges`.
    """
    pairs: bool | None = None
    for place, row in _rows(source, bad):
        try:
            words, targets = _check(row)
            kinds = {second is not None for _, second, _ in targets}
            if len(kinds | {pairs} - {None}) > 1:
                raise ValueError('"span2" is given in some targets of the file, but not in others')
        except ValueError as error:
            bad.add(source, place, str(error))
        else:
            pairs = next(iter(kinds), pairs)
            yield _make_doc(vocab, words, targets)


def _counted(docs: Iterable[Doc], counts: Counts) -> Iterator[Doc]:
    for doc in docs:
        labels = doc.spans[FIRST_KEY].attrs[LABELS]
        counts.texts += 1
        counts.targets += len(labels)
        counts.pairs += len(doc.spans.get(SECOND_KEY, ()))
        counts.labels.update(label for own in labels for label in own)
        yield doc


def _rows(source: Path, bad: BadRows) -> Iterator[tuple[int | str, Any]]:
    """The objects of a file, each with the number of its line, or its own in an array."""
    with open_rows(source) as stream:
        is_array = stream.read(1) == "["
    if is_array:
        yield from ((f"item {i}", row) for i, row in enumerate(read_array(source), start=1))
        return
    for number, line in numbered_lines(source):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            bad.add(source, number, f"not valid JSON ({error.msg}); expected an object a line")


def _check(row: Any) -> tuple[list[str], list[Target]]:
    """The words of a text and its targets.

    Raises:
        ValueError: Says what is wrong with it.
    """
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.split() or SEPARATOR in text:
        raise ValueError('expected an object with words in "text", without U+001E')
    targets = row.get("targets")
    if not isinstance(targets, list):
        raise ValueError('expected a list in "targets"')
    words = text.split()
    return words, [_check_target(target, len(words)) for target in targets]


def _check_target(target: Any, words: int) -> Target:
    if not isinstance(target, dict) or "span1" not in target or "label" not in target:
        raise ValueError(f'a target needs "span1" and "label", got {target!r:.60}')
    label = target["label"]
    labels = label if isinstance(label, list) else [label]
    if not all(isinstance(each, str) and each for each in labels):
        raise ValueError(f'"label" must be a name or a list of names, got {label!r:.60}')
    second = target.get("span2")
    return (
        _check_span(target["span1"], words),
        None if second is None else _check_span(second, words),
        labels,
    )


def _check_span(span: Any, words: int) -> tuple[int, int]:
    is_pair = isinstance(span, list) and len(span) == 2 and all(type(i) is int for i in span)
    if not is_pair or not 0 <= span[0] < span[1] <= words:
        raise ValueError(
            f"{span!r:.60} is no span: expected the first word and the one behind the last, of "
            f"{words} words counted from 0"
        )
    return span[0], span[1]


def _make_doc(vocab: Vocab, words: list[str], targets: list[Target]) -> Doc:
    doc = Doc(vocab, words=words, spaces=[*[True] * (len(words) - 1), False])
    first = [Span(doc, *span) for span, _, _ in targets]
    second = [Span(doc, *span) for _, span, _ in targets if span is not None]
    attrs = {LABELS: [labels for _, _, labels in targets]}
    doc.spans[FIRST_KEY] = SpanGroup(doc, name=FIRST_KEY, spans=first, attrs=attrs)
    if second:
        doc.spans[SECOND_KEY] = SpanGroup(doc, name=SECOND_KEY, spans=second)
    return doc
