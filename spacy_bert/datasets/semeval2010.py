"""Relations between two nominals: SemEval-2010, task 8 (Hendrickx et al. 2010).

An item is a line with a number and a sentence in quotation marks, in which `<e1>` and `<e2>` mark
the two; a line with the relation and its direction, which a test file may lack; and a comment.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.datasets.lines import numbered_lines
from spacy_bert.datasets.questions import mark
from spacy_bert.datasets.writing import BadRows, counted, write_docs
from spacy_bert.models.segments import SEPARATOR

FIRST_KEY, SECOND_KEY = "e1", "e2"  # in doc.spans
NEGATIVE = "Other"
NAMES = (
    "Cause-Effect",
    "Component-Whole",
    "Content-Container",
    "Entity-Destination",
    "Entity-Origin",
    "Instrument-Agency",
    "Member-Collection",
    "Message-Topic",
    "Product-Producer",
)
RELATIONS = tuple(f"{name}({order})" for name in NAMES for order in ("e1,e2", "e2,e1"))
LABELS = (*RELATIONS, NEGATIVE)

_ITEM = re.compile(r"(\d+)\t(.*)")
_MARK = re.compile(r"</?e[12]>")
_ORDER = ["<e1>", "</e1>", "<e2>", "</e2>"]

Item = tuple[int, str, str | None]  # number of the line, sentence, relation


def write_semeval2010(source: Path, output: Path, nlp: Language, bad: BadRows) -> Counter[str]:
    """Turn an official file into Docs with two marked nominals and their relation.

    The nominals stand in `doc.spans["e1"]` and `doc.spans["e2"]`, the relation, such as
    "Cause-Effect(e2,e1)" or "Other", in `doc.cats`; without it, `doc.cats` is empty.

    Args:
        source: `TRAIN_FILE.TXT`, `TEST_FILE_FULL.TXT` or `TEST_FILE.txt`, also `.gz`.
        output: The `.spacy` file.
        nlp: The pipeline whose tokenizer is used.
        bad: What becomes of malformed items.

    Returns:
        How many Docs have each relation, or "unlabelled".

    Raises:
        ValueError: If the file cannot be read, or an item is malformed and `bad` does not skip it;
            names its first line.
    """
    counts: Counter[str] = Counter()
    write_docs(output, counted(_docs(source, nlp, bad), counts), only_words=True)
    return counts


def _docs(source: Path, nlp: Language, bad: BadRows) -> Iterator[Doc]:
    for number, sentence, relation in _items(source, bad):
        try:
            doc = _make_doc(nlp, sentence, relation)
        except ValueError as error:
            bad.add(source, number, str(error))
        else:
            yield doc


def _items(source: Path, bad: BadRows) -> Iterator[Item]:
    item: Item | None = None
    for number, line in numbered_lines(source):
        found = _ITEM.fullmatch(line)
        if found:
            if item is not None:
                yield item
            item = (number, found[2].strip(), None)
        elif not line.strip() or line.startswith("Comment"):
            continue
        elif item is None or item[2] is not None:
            bad.add(source, number, f"expected a number, a tab and a sentence, got {line[:40]!r}")
        else:
            item = (*item[:2], line.strip())
    if item is not None:
        yield item


def _make_doc(nlp: Language, sentence: str, relation: str | None) -> Doc:
    if relation is not None and relation not in LABELS:
        raise ValueError(
            f"relation {relation!r} is none of the task's: expected Other, or one such as "
            f"{RELATIONS[0]}"
        )
    if len(sentence) > 1 and sentence[0] == sentence[-1] == '"':
        sentence = sentence[1:-1]
    if SEPARATOR in sentence:
        raise ValueError("the sentence holds U+001E, which marks the borders of segments")
    found = list(_MARK.finditer(sentence))
    if [match[0] for match in found] != _ORDER:
        raise ValueError("expected <e1>, </e1>, <e2> and </e2> in the sentence, once each")
    text, places, end = "", [], 0
    for match in found:
        text += sentence[end : match.start()]
        places.append(len(text))
        end = match.end()
    text += sentence[end:]
    doc = nlp.make_doc(text)
    for key, (start, stop) in ((FIRST_KEY, places[:2]), (SECOND_KEY, places[2:])):
        nominal = text[start:stop]
        if not nominal.strip():
            raise ValueError(f"<{key}> marks nothing")
        start += len(nominal) - len(nominal.lstrip())  # no token begins with a space
        mark(doc, key, [(start, start + len(nominal.strip()))])
    if relation is not None:
        doc.cats = {label: float(label == relation) for label in LABELS}
    return doc
