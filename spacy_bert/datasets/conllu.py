"""Treebanks in CoNLL-U, the format of Universal Dependencies (de Marneffe et al. 2021).

A word a line in ten columns between tabs, comments that begin with `#`, and a blank line after each
sentence. Words are what the tree has: the line of a multiword token (`1-2`) only tells how its
words are spelled, and empty nodes (`8.1`), which are of the enhanced graphs, are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from spacy.parts_of_speech import IDS as UNIVERSAL_TAGS
from spacy.tokens import Doc
from spacy.vocab import Vocab

from spacy_bert.datasets.iob import BadToken
from spacy_bert.datasets.lines import numbered_lines
from spacy_bert.datasets.writing import BadRows, write_docs
from spacy_bert.models.segments import SEPARATOR

COLUMNS = 10
ROOT = "ROOT"  # as spaCy's own parsers have it; "root" in the file

_DOCUMENT = re.compile(r"#\s*newdoc\b")
_WORD, _MULTIWORD, _EMPTY = (re.compile(form) for form in (r"\d+", r"(\d+)-(\d+)", r"\d+\.\d+"))

Row = tuple[int, list[str]]  # number of the line, cells


@dataclass(kw_only=True)
class Counts:
    """What was written.

    Attributes:
        documents: Documents with a sentence; 0 if the file does not mark any.
        sentences: Their number.
        words: Their number.
        multiword: How many tokens were of several words.
    """

    documents: int = 0
    sentences: int = 0
    words: int = 0
    multiword: int = 0


@dataclass(frozen=True, kw_only=True)
class _Sentence:
    document: int  # counted from 1; 0 before the first mark
    words: list[str]
    spaces: list[bool]
    lemmas: list[str]
    pos: list[str]
    tags: list[str]
    morphs: list[str]
    heads: list[int] | None  # counted from 0, the root's is its own place; None without a tree
    deps: list[str]
    multiword: int


def write_conllu(
    source: Path, output: Path, vocab: Vocab, bad: BadRows, *, documents: bool = False
) -> Counts:
    """Turn a treebank into a `.spacy` file with trees, tags, lemmas and morphology.

    Args:
        source: The file, also `.gz`.
        output: The `.spacy` file.
        vocab: The vocabulary that is used.
        bad: What becomes of sentences with a malformed line.
        documents: Whether a Doc is a document, instead of a sentence.

    Raises:
        ValueError: If the file cannot be read, has no sentences, or marks no documents and they are
            wanted, or a line is malformed and `bad` does not skip it; names the line.
    """
    counts = Counts()
    sentences = _counted(_read(source, bad), counts)
    write_docs(output, _docs(sentences, source, vocab, documents))
    return counts


def read_conllu(
    source: Path, vocab: Vocab, bad: BadRows | None = None, *, documents: bool = False
) -> Iterator[Doc]:
    """The Docs of a treebank, one by one, with the words and the white space of the file.

    Args:
        source: The file, also `.gz`.
        vocab: The vocabulary of the Docs.
        bad: What becomes of sentences with a malformed line; by default, the first is an error.
        documents: Whether a Doc is a document, instead of a sentence.

    Raises:
        ValueError: As `write_conllu`.
    """
    return _docs(_read(source, bad or BadRows()), source, vocab, documents)


def _counted(sentences: Iterable[_Sentence], counts: Counts) -> Iterator[_Sentence]:
    document = 0
    for sentence in sentences:
        counts.documents += sentence.document != document
        document = sentence.document
        counts.sentences += 1
        counts.words += len(sentence.words)
        counts.multiword += sentence.multiword
        yield sentence


# Files


def _read(source: Path, bad: BadRows) -> Iterator[_Sentence]:
    for document, rows in _sentences(source):
        try:
            yield _read_sentence(document, [cells for _, cells in rows])
        except BadToken as error:
            bad.add(source, rows[error.index][0], str(error))


def _sentences(source: Path) -> Iterator[tuple[int, list[Row]]]:
    """Each sentence's rows, with the number of its document."""
    document = 0
    rows: list[Row] = []
    for number, line in numbered_lines(source):
        if line.startswith("#"):
            document += bool(_DOCUMENT.match(line))
        elif line.strip():
            rows.append((number, line.split("\t")))
        elif rows:
            yield document, rows
            rows = []
    if rows:
        yield document, rows


def _read_sentence(document: int, rows: Sequence[list[str]]) -> _Sentence:
    words: list[list[str]] = []
    index: list[int] = []  # the row of each word
    ranges: list[tuple[int, int, int]] = []  # of multiword tokens: row, first word, last word
    for number, cells in enumerate(rows):
        if len(cells) != COLUMNS:
            raise BadToken(number, f"expected {COLUMNS} columns between tabs, got {len(cells)}")
        if found := _MULTIWORD.fullmatch(cells[0]):
            ranges.append((number, int(found[1]), int(found[2])))
        elif _WORD.fullmatch(cells[0]):
            _check_word(number, cells, len(words) + 1)
            words.append(cells)
            index.append(number)
        elif not _EMPTY.fullmatch(cells[0]):
            raise BadToken(number, f"id {cells[0]!r} is none of a word (3), 3-4 and 3.1")
    if not words:
        raise BadToken(0, "the sentence has no word")
    spaces = [_space_after(cells) for cells in words]
    for number, first, last in ranges:
        if not 1 <= first < last <= len(words):
            raise BadToken(number, f"the sentence has no words {first} to {last}")
        inside = [cells[1] for cells in words[first - 1 : last]]
        # Forms that are not as they are spelled ("du" for "de le") stay words of their own.
        spaces[first - 1 : last - 1] = ["".join(inside) != rows[number][1]] * (last - first)
        spaces[last - 1] = _space_after(rows[number])
    return _Sentence(
        document=document,
        words=[cells[1] for cells in words],
        spaces=spaces,
        lemmas=[_lemma(cells) for cells in words],
        pos=[_given(cells[3]) for cells in words],
        tags=[_given(cells[4]) for cells in words],
        morphs=[_given(cells[5]) for cells in words],
        heads=_heads(words, index),
        deps=[ROOT if cells[7] == "root" else _given(cells[7]) for cells in words],
        multiword=len(ranges),
    )


def _check_word(number: int, cells: Sequence[str], expected: int) -> None:
    if int(cells[0]) != expected:
        raise BadToken(number, f"the word is numbered {cells[0]}: expected {expected}")
    if not cells[1] or cells[1].isspace() or SEPARATOR in cells[1]:
        raise BadToken(number, f"expected a word in column 2, got {cells[1]!r}")
    if _given(cells[3]) not in UNIVERSAL_TAGS:
        raise BadToken(number, f"{cells[3]!r} is no universal part of speech")


def _given(cell: str) -> str:
    return "" if cell == "_" else cell


def _lemma(cells: Sequence[str]) -> str:
    return cells[2] if cells[1] == "_" else _given(cells[2])  # the word may be an underscore


def _space_after(cells: Sequence[str]) -> bool:
    return "SpaceAfter=No" not in cells[9].split("|")


def _heads(words: Sequence[Sequence[str]], index: Sequence[int]) -> list[int] | None:
    """Where the head of each word stands; None if no word has one.

    Raises:
        BadToken: If they are no tree with one root.
    """
    cells = [row[6] for row in words]
    if all(cell == "_" for cell in cells):
        return None
    heads = []
    for place, cell in enumerate(cells):
        if not cell.isdecimal() or int(cell) > len(words):
            problem = f"head {cell!r} is no word of the sentence: expected 0 to {len(words)}"
            raise BadToken(index[place], problem)
        heads.append(int(cell) - 1 if int(cell) else place)
    roots = [place for place, cell in enumerate(cells) if not int(cell)]
    if len(roots) != 1:
        place = roots[1] if roots else 0
        raise BadToken(index[place], f"{len(roots)} words of the sentence have head 0: expected 1")
    reached = {roots[0]}
    for place in range(len(heads)):
        path, at = {place}, heads[place]
        while at not in reached and at not in path:
            path.add(at)
            at = heads[at]
        if at not in reached:
            raise BadToken(index[place], "the heads go round in a circle: no root is reached")
        reached |= path
    return heads


# Docs


def _docs(
    sentences: Iterable[_Sentence], source: Path, vocab: Vocab, documents: bool
) -> Iterator[Doc]:
    if not documents:
        yield from (_make_doc(vocab, [sentence]) for sentence in sentences)
        return
    last = None
    for document, group in groupby(sentences, key=attrgetter("document")):
        yield _make_doc(vocab, list(group))
        last = document
    if last == 0:
        raise ValueError(f"{source} has no line `# newdoc`: only sentences can be told apart in it")


def _make_doc(vocab: Vocab, sentences: Sequence[_Sentence]) -> Doc:
    with_trees = all(sentence.heads is not None for sentence in sentences)
    heads: list[int] = []
    for sentence in sentences:
        first = len(heads)
        heads += [first + head for head in sentence.heads or range(len(sentence.words))]
    spaces = [space for sentence in sentences for space in sentence.spaces]
    starts: list[bool | int | None] = [
        not place for sentence in sentences for place in range(len(sentence.words))
    ]
    return Doc(
        vocab,
        words=_joined(sentences, "words"),
        spaces=[*spaces[:-1], False],
        lemmas=_joined(sentences, "lemmas"),
        pos=_joined(sentences, "pos"),
        tags=_joined(sentences, "tags"),
        morphs=_joined(sentences, "morphs"),
        heads=heads if with_trees else None,
        deps=_joined(sentences, "deps") if with_trees else None,
        sent_starts=None if with_trees else starts,
    )


def _joined(sentences: Sequence[_Sentence], name: str) -> list[str]:
    return [value for sentence in sentences for value in getattr(sentence, name)]
