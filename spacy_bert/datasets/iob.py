"""Named entities in columns: CoNLL-2003 (Tjong Kim Sang and De Meulder 2003) and files like it.

A token a line, cells between tabs or spaces, a blank line between sentences, and perhaps a line
`-DOCSTART-` before each document. The tags are of one of three schemes:

* `iob1`: an entity is a run of `I-X`; `B-X` begins one that follows another of the same label.
  CoNLL-2003 as it was published.
* `iob2` (BIO): every entity begins with `B-X`.
* `bioes` (BILOU): the last token also has a tag of its own, `E-X` or `L-X`, and so has an entity of
  one token, `S-X` or `U-X`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc, Span

from spacy_bert.datasets.lines import numbered_lines
from spacy_bert.datasets.writing import BadRows, write_docs
from spacy_bert.models.segments import SEPARATOR

DOCUMENT = "-DOCSTART-"
OUTSIDE = "O"
PREFIXES = {"iob1": "BI", "iob2": "BI", "bioes": "BIESLU"}
SCHEMES = tuple(PREFIXES)

Row = tuple[int, list[str]]  # number of the line, cells
Entity = tuple[int, int, str]  # first token, token behind the last, label


class BadToken(ValueError):
    """A token of a sentence that cannot be read.

    Attributes:
        index: Which one it is, counted from 0.
    """

    def __init__(self, index: int, problem: str) -> None:
        super().__init__(problem)
        self.index = index


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where the parts of a token stand, counted from 1, or from the end: -1 is the last column.

    Attributes:
        word: The word.
        tag: The tag of the entity.
        pos: The part of speech, for `token.tag_`; None if it is not wanted.
    """

    word: int = 1
    tag: int = -1
    pos: int | None = None

    def __post_init__(self) -> None:
        if 0 in (self.word, self.tag, self.pos):
            raise ValueError("columns are counted from 1 (from the end: -1, -2, ...), got 0")

    def find(self, count: int) -> tuple[int, int, int | None]:
        """The indices of word, tag and part of speech in a row of so many cells.

        Raises:
            ValueError: If there is no such column, or word and tag would be the same.
        """
        wanted = [column for column in (self.word, self.tag, self.pos) if column is not None]
        for column in wanted:
            if abs(column) > count:
                raise ValueError(f"there is no column {column}: this row has {count}")
        word, tag, *pos = (column % count if column < 0 else column - 1 for column in wanted)
        if word == tag:
            raise ValueError(f"word and tag would both stand in column {word + 1} of {count}")
        return word, tag, pos[0] if pos else None


@dataclass(kw_only=True)
class Counts:
    """What was written.

    Attributes:
        scheme: The scheme of the tags.
        documents: Documents with a sentence; 0 if the file does not mark any.
        sentences: Their number.
        tokens: Their number.
        entities: How many there are of each label.
    """

    scheme: str
    documents: int = 0
    sentences: int = 0
    tokens: int = 0
    entities: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class _Sentence:
    document: int  # counted from 1; 0 before the first mark
    words: list[str]
    tags: list[str] | None  # parts of speech
    entities: list[Entity]


def write_iob(
    source: Path,
    output: Path,
    nlp: Language,
    bad: BadRows,
    *,
    columns: Columns,
    scheme: str | None = None,
    documents: bool = False,
    comment: str | None = None,
) -> Counts:
    """Turn a file of tagged tokens into training data for `bert_ner` or spaCy's `ner`.

    The tokens are those of the file. What stood between them is not known, and spaCy is told so:
    its `Corpus` then gives pipelines these tokens instead of tokenizing the text.

    Args:
        source: The file, also `.gz`.
        output: The `.spacy` file.
        nlp: The pipeline whose vocabulary is used.
        bad: What becomes of sentences with a malformed row.
        columns: Where word and tag stand.
        scheme: One of `SCHEMES`; by default, what the tags look like (`detect_scheme`).
        documents: Whether a Doc is a document, instead of a sentence.
        comment: Lines that begin with this are passed over.

    Raises:
        ValueError: If the file cannot be read, has no such columns or no documents, or a row is
            malformed and `bad` does not skip it; names the line.
    """
    if scheme is None:
        scheme = detect_scheme(source, columns, comment=comment)
    if scheme not in PREFIXES:
        raise ValueError(f"unknown scheme {scheme!r}; known are {', '.join(SCHEMES)}")
    counts = Counts(scheme=scheme)
    sentences = _read(source, columns, scheme, comment, bad)
    write_docs(output, _docs(nlp, _counted(sentences, counts), source, documents))
    return counts


def detect_scheme(source: Path, columns: Columns, *, comment: str | None = None) -> str:
    """The scheme that most of the tags follow.

    `bioes` if the tags have a letter of it; else, `iob1` if more entities begin with I than with B.
    One that follows another of the same label begins with B in both, and does not count.
    """
    begins: Counter[str] = Counter()
    count = tag = 0
    for _, rows in _sentences(source, comment):
        if not count:
            count = len(rows[0][1])
            _, tag, _ = _find(source, columns, *rows[0])
        previous = ""
        for _, cells in rows:
            if len(cells) != count:  # told of when it is read
                continue
            prefix, _, label = cells[tag].partition("-")
            if label and prefix in "ESLU":
                return "bioes"
            if label != previous:
                begins[prefix] += 1
            previous = label
    return "iob1" if begins["I"] > begins["B"] else "iob2"


def read_entities(tags: Sequence[str], scheme: str) -> list[Entity]:
    """The entities that the tags of a sentence spell.

    Args:
        tags: The tags.
        scheme: One of `SCHEMES`.

    Raises:
        BadToken: If a tag has another form, lacks its label or does not go with those before it.
    """
    found: list[Entity] = []
    begin, inside = 0, ""  # the entity that may go on: its first token and its label
    for index, tag in enumerate([*tags, OUTSIDE]):
        prefix, label = _split(tag, scheme, index)
        if not (inside and label == inside and prefix in "IE"):
            if inside and scheme == "bioes":
                end = index == len(tags)
                raise BadToken(
                    index - end,
                    f"{'the sentence ends' if end else f'tag {tag!r} stands'} where the entity "
                    f"must go on: expected I-{inside}, or E-{inside} or L-{inside} for its end",
                )
            if inside:
                found.append((begin, index, inside))
            if prefix in "IE" and scheme != "iob1":
                raise BadToken(
                    index, f"tag {tag!r} goes on with no entity: in {scheme}, one begins with B"
                )
            begin, inside = index, label
        if prefix in "ES":
            found.append((begin, index + 1, label))
            inside = ""
    return found


def _split(tag: str, scheme: str, index: int) -> tuple[str, str]:
    """Prefix, with E and S for L and U, and label of a tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, _, label = tag.partition("-")
    if len(prefix) != 1 or prefix not in PREFIXES[scheme]:
        known = ", ".join(f"{letter}-LABEL" for letter in PREFIXES[scheme])
        raise BadToken(index, f"tag {tag!r} is none of {scheme}: O, {known}")
    if not label:
        raise BadToken(index, f"tag {tag!r} has no label: expected {prefix}-LABEL")
    return {"L": "E", "U": "S"}.get(prefix, prefix), label


# Files


def _sentences(source: Path, comment: str | None) -> Iterator[tuple[int, list[Row]]]:
    """Each sentence's rows, with the number of its document."""
    document = 0
    rows: list[Row] = []
    for number, line in numbered_lines(source):
        if comment and line.startswith(comment):
            continue
        cells = _cells(line)
        border = DOCUMENT in cells
        if cells and not border:
            rows.append((number, cells))
            continue
        if rows:
            yield document, rows
            rows = []
        document += border
    if rows:
        yield document, rows


def _cells(line: str) -> list[str]:
    """The cells of a line. Only tabs and spaces divide: others may stand in a word."""
    line = line.rstrip("\t ")
    if "\t" in line:
        return [cell.strip(" ") for cell in line.split("\t")]
    return re.split(" +", line.lstrip(" ")) if line else []


def _find(
    source: Path, columns: Columns, number: int, cells: Sequence[str]
) -> tuple[int, int, int | None]:
    try:
        return columns.find(len(cells))
    except ValueError as error:
        raise ValueError(f"{source}, line {number}: {error}") from None


def _read(
    source: Path, columns: Columns, scheme: str, comment: str | None, bad: BadRows
) -> Iterator[_Sentence]:
    count = 0
    for document, rows in _sentences(source, comment):
        if not count:  # the first row says how many columns there are
            count = len(rows[0][1])
            _find(source, columns, *rows[0])
        try:
            yield _read_sentence(document, rows, count, columns, scheme)
        except BadToken as error:
            bad.add(source, rows[error.index][0], str(error))


def _read_sentence(
    document: int, rows: Sequence[Row], count: int, columns: Columns, scheme: str
) -> _Sentence:
    word, tag, pos = columns.find(count)
    for index, (_, cells) in enumerate(rows):
        if len(cells) != count:
            raise BadToken(index, f"{len(cells)} columns instead of {count}")
        if not cells[word] or SEPARATOR in cells[word]:
            raise BadToken(index, f"expected a word in column {word + 1}, got {cells[word]!r}")
    return _Sentence(
        document=document,
        words=[cells[word] for _, cells in rows],
        tags=None if pos is None else [cells[pos] for _, cells in rows],
        entities=read_entities([cells[tag] for _, cells in rows], scheme),
    )


# Docs


def _counted(sentences: Iterable[_Sentence], counts: Counts) -> Iterator[_Sentence]:
    document = 0
    for sentence in sentences:
        counts.documents += sentence.document != document
        document = sentence.document
        counts.sentences += 1
        counts.tokens += len(sentence.words)
        counts.entities.update(label for *_, label in sentence.entities)
        yield sentence


def _docs(
    nlp: Language, sentences: Iterable[_Sentence], source: Path, documents: bool
) -> Iterator[Doc]:
    if not documents:
        yield from (_make_doc(nlp, [sentence]) for sentence in sentences)
        return
    last = None
    for document, group in groupby(sentences, key=attrgetter("document")):
        yield _make_doc(nlp, list(group))
        last = document
    if last == 0:
        raise ValueError(f"{source} has no line {DOCUMENT}: only sentences can be told apart in it")


def _make_doc(nlp: Language, sentences: Sequence[_Sentence]) -> Doc:
    entities: list[Entity] = []
    length = 0
    for sentence in sentences:
        entities += [(length + begin, length + end, x) for begin, end, x in sentence.entities]
        length += len(sentence.words)
    doc = Doc(
        nlp.vocab,
        words=[word for sentence in sentences for word in sentence.words],
        tags=None
        if sentences[0].tags is None
        else [tag for sentence in sentences for tag in sentence.tags or ()],
        sent_starts=[index == 0 for sentence in sentences for index in range(len(sentence.words))],
    )
    doc.set_ents([Span(doc, *entity) for entity in entities], default="outside")
    return doc
