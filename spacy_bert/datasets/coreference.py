"""Pronouns and the two who may be meant: GAP (Webster et al. 2018), DPR (Rahman and Ng 2012).

The mentions stand in `doc.spans["coref_clusters_1"]` and so on, who is meant together with the
pronoun, and the pronoun that was asked about in `doc.spans["pronouns"]`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.datasets.lines import numbered_lines
from spacy_bert.datasets.questions import Characters, find_word, mark
from spacy_bert.datasets.writing import BadRows, write_docs
from spacy_bert.models.segments import SEPARATOR

CLUSTERS = "coref_clusters_"  # how the keys of clusters in doc.spans begin
PRONOUNS_KEY = "pronouns"

GAP_COLUMNS = (
    "ID",
    "Text",
    "Pronoun",
    "Pronoun-offset",
    "A",
    "A-offset",
    "A-coref",
    "B",
    "B-offset",
    "B-coref",
)
DPR_LINES = 4  # sentence, pronoun, candidates, answer


class Pronoun(NamedTuple):
    """A text with a pronoun.

    Attributes:
        text: The text.
        pronoun: Where the pronoun stands.
        candidates: Where those stand who may be meant.
        meant: Which of them is meant, counted from 0; None if none is.
    """

    text: str
    pronoun: Characters
    candidates: Sequence[Characters]
    meant: int | None


@dataclass(kw_only=True)
class Counts:
    """What was written.

    Attributes:
        pronouns: A Doc each.
        meant: How many mean each candidate, by its number from 1, or "neither".
        inexact: Mentions that begin or end within a token.
        repeated: Pronouns that stand in their sentence several times, so that it is a guess which
            is asked about; GAP says where they are.
    """

    pronouns: int = 0
    meant: Counter[str] = field(default_factory=Counter)
    inexact: int = 0
    repeated: int = 0


def write_gap(source: Path, output: Path, nlp: Language, bad: BadRows) -> Counts:
    """Turn a file of GAP into Docs with a pronoun and two names each.

    Args:
        source: `gap-development.tsv` and the like, also `.gz`.
        output: The `.spacy` file.
        nlp: The pipeline whose tokenizer is used.
        bad: What becomes of malformed rows.

    Raises:
        ValueError: If the file cannot be read or lacks a column, or a row is malformed and `bad`
            does not skip it; names the line.
    """
    counts = Counts()
    write_docs(output, _docs(nlp, read_gap(source, bad), counts), only_words=True)
    return counts


def write_dpr(source: Path, output: Path, nlp: Language, bad: BadRows) -> Counts:
    """Turn a file of definite pronouns into Docs with a pronoun and two candidates each.

    Args:
        source: `train.c.txt` or `test.c.txt`, also `.gz`.
        output: The `.spacy` file.
        nlp: The pipeline whose tokenizer is used.
        bad: What becomes of malformed blocks.

    Raises:
        ValueError: If the file cannot be read, or a block is malformed and `bad` does not skip it;
            names its first line.
    """
    counts = Counts()
    write_docs(output, _docs(nlp, _read_dpr(source, bad, counts), counts), only_words=True)
    return counts


# GAP


def read_gap(source: Path, bad: BadRows) -> Iterator[Pronoun]:
    """The rows of a file of GAP, one by one.

    Raises:
        ValueError: As `write_gap`.
    """
    lines = numbered_lines(source)
    header = next(lines, (1, ""))[1].split("\t")
    if missing := [name for name in GAP_COLUMNS if name not in header]:
        raise ValueError(f"{source} has no column {', '.join(missing)}: expected GAP's header")
    for number, line in lines:
        if not line.strip():
            continue
        try:
            cells = line.split("\t")
            if len(cells) != len(header):
                raise ValueError(f"{len(cells)} columns instead of {len(header)}")
            yield _gap_row(dict(zip(header, cells, strict=True)))
        except ValueError as error:
            bad.add(source, number, str(error))


def _gap_row(row: dict[str, str]) -> Pronoun:
    text = _checked(row["Text"])
    pronoun, *candidates = (_stated(row, name) for name in ("Pronoun", "A", "B"))
    flags = [_flag(row, name) for name in ("A-coref", "B-coref")]
    if all(flags):
        raise ValueError("A-coref and B-coref are both TRUE: a pronoun means one at most")
    return Pronoun(text, pronoun, candidates, flags.index(True) if any(flags) else None)


def _stated(row: dict[str, str], name: str) -> Characters:
    """Where a mention stands by its offset, which must be right."""
    words, offset, text = row[name], row[f"{name}-offset"], row["Text"]
    there = text[int(offset) :][: len(words)] if offset.isdecimal() else None
    if not words or there != words:
        raise ValueError(f"{name}-offset is {offset!r}, but {name} {words!r} does not stand there")
    return int(offset), int(offset) + len(words)


def _flag(row: dict[str, str], name: str) -> bool:
    if row[name].upper() not in ("TRUE", "FALSE"):
        raise ValueError(f"{name} {row[name]!r} is neither TRUE nor FALSE")
    return row[name].upper() == "TRUE"


# DPR


def _read_dpr(source: Path, bad: BadRows, counts: Counts) -> Iterator[Pronoun]:
    for number, lines in _blocks(source):
        try:
            found = _dpr_block(lines)
        except ValueError as error:
            bad.add(source, number, str(error))
            continue
        counts.repeated += len(find_word(found.text, lines[1].strip())) > 1
        yield found


def _blocks(source: Path) -> Iterator[tuple[int, list[str]]]:
    """The blocks between blank lines, each with the number of its first line."""
    block: list[str] = []
    first = 0
    for number, line in numbered_lines(source):
        if line.strip():
            first = first if block else number
            block.append(line)
        elif block:
            yield first, block
            block = []
    if block:
        yield first, block


def _dpr_block(lines: Sequence[str]) -> Pronoun:
    if len(lines) != DPR_LINES:
        raise ValueError(
            f"expected sentence, pronoun, candidates and answer, got {len(lines)} lines"
        )
    text, pronoun, names, answer = (line.strip() for line in lines)
    _checked(text)
    known = [name.strip() for name in names.split(",")]
    if len(known) != 2:
        raise ValueError(f"expected two candidates with a comma between, got {names!r}")
    candidates = [_found(text, name)[0] for name in known]
    meant = [name.lower() for name in known]
    if meant.count(answer.lower()) != 1:
        raise ValueError(f"the answer {answer!r} is none of the candidates {names!r}")
    places = _found(text, pronoun)
    # Of several, that in the second clause is asked about, and the candidates are in the first.
    behind = [place for place in places if place[0] >= max(end for _, end in candidates)]
    return Pronoun(text, (behind or places)[0], candidates, meant.index(answer.lower()))


def _found(text: str, words: str) -> list[Characters]:
    found = find_word(text, words) if words else []
    if not found:
        raise ValueError(f"{words!r} does not stand in the sentence")
    return found


# Docs


def _checked(text: str) -> str:
    if SEPARATOR in text:
        raise ValueError("the text holds U+001E, which marks the borders of segments")
    return text


def _docs(nlp: Language, rows: Iterator[Pronoun], counts: Counts) -> Iterator[Doc]:
    for row in rows:
        doc = nlp.make_doc(row.text)
        clusters = [[place] for place in row.candidates]
        if row.meant is None:
            clusters.append([row.pronoun])
        else:
            clusters[row.meant].append(row.pronoun)
        for number, cluster in enumerate(clusters, start=1):
            mark(doc, f"{CLUSTERS}{number}", sorted(cluster))
        mark(doc, PRONOUNS_KEY, [row.pronoun])
        counts.pronouns += 1
        counts.meant["neither" if row.meant is None else str(row.meant + 1)] += 1
        counts.inexact += sum(
            span.text != text
            for key, group in doc.spans.items()
            if key != PRONOUNS_KEY
            for span, text in zip(group, group.attrs["texts"], strict=True)
        )
        yield doc
