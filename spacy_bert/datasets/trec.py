"""TREC questions and what kind of answer they want (Li and Roth 2002).

A question a line, in Latin-1: "LOC:city What county is Modesto , California in ?". There are six
coarse types, such as LOC, and fifty fine ones, such as LOC:city.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.datasets.lines import numbered_lines
from spacy_bert.datasets.writing import BadRows, counted, write_docs
from spacy_bert.models.segments import SEPARATOR

ENCODING = "latin-1"
FINE = {
    "ABBR": "abb exp",
    "DESC": "def desc manner reason",
    "ENTY": "animal body color cremat currency dismed event food instru lang letter other plant "
    "product religion sport substance symbol techmeth termeq veh word",
    "HUM": "desc gr ind title",
    "LOC": "city country mount other state",
    "NUM": "code count date dist money ord other perc period speed temp volsize weight",
}
FINE_LABELS = tuple(f"{coarse}:{fine}" for coarse, kinds in FINE.items() for fine in kinds.split())
COARSE_LABELS = tuple(FINE)


def write_trec(
    source: Path, output: Path, nlp: Language, bad: BadRows, *, coarse: bool = False
) -> Counter[str]:
    """Turn a file of questions into Docs with their type in `doc.cats`.

    A Doc's `cats` has all types, 1.0 for its own.

    Args:
        source: The file, also `.gz`.
        output: The `.spacy` file.
        nlp: The pipeline whose tokenizer is used.
        bad: What becomes of malformed lines.
        coarse: Whether the six coarse types are meant, instead of the fine ones.

    Returns:
        How many questions have each type.

    Raises:
        ValueError: If the file cannot be read, or a line is malformed and `bad` does not skip it;
            names the line.
    """
    counts: Counter[str] = Counter()
    write_docs(output, counted(_docs(source, nlp, bad, coarse), counts), only_words=True)
    return counts


def _docs(source: Path, nlp: Language, bad: BadRows, coarse: bool) -> Iterator[Doc]:
    labels = COARSE_LABELS if coarse else FINE_LABELS
    for number, line in numbered_lines(source, encoding=ENCODING):
        kind, _, question = line.strip().partition(" ")
        own = kind.partition(":")[0] if coarse else kind
        if not kind:
            continue
        if kind not in FINE_LABELS:
            problem = f"{kind!r} is no type: expected one such as LOC:city, and a question"
            bad.add(source, number, problem)
        elif not question.strip() or SEPARATOR in question:
            bad.add(source, number, "expected a question behind its type, without U+001E")
        else:
            doc = nlp.make_doc(question.strip())
            doc.cats = {label: float(label == own) for label in labels}
            yield doc
