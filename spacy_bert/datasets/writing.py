"""What readers of official formats share: tokenizer, malformed rows, and `.spacy` files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from spacy_bert.files import replacing


class BadRows:
    """What becomes of malformed rows: the first one is an error, or all are skipped and noted.

    Attributes:
        skip: Whether to go on.
        problems: One line for each row that was skipped, naming file, line and mend.
    """

    def __init__(self, *, skip: bool = False) -> None:
        self.skip = skip
        self.problems: list[str] = []

    def add(self, file: Path, place: int | str, problem: str) -> None:
        """Note a malformed row.

        Args:
            file: Where it stands.
            place: Number of the line, counted from 1, or the id of the record.
            problem: What is wrong with it, and what would be right.

        Raises:
            ValueError: If malformed rows are not skipped.
        """
        where = f"line {place}" if isinstance(place, int) else place
        message = f"{file}, {where}: {problem}"
        if not self.skip:
            raise ValueError(message)
        self.problems.append(message)


def blank_pipeline(lang: str) -> Language:
    """A pipeline with the tokenizer of a language, and nothing else.

    Raises:
        ValueError: If there is no such language, or it needs a package that is missing.
    """
    try:
        return spacy.blank(lang)
    except ImportError as error:
        raise ValueError(f"language {lang!r}: {str(error).strip().splitlines()[0]}") from None


def counted(docs: Iterable[Doc], counts: Counter[str]) -> Iterator[Doc]:
    """Pass Docs on, and count the class of each: that with the largest value in `doc.cats`."""
    for doc in docs:
        counts[max(doc.cats, key=doc.cats.__getitem__, default="unlabelled")] += 1
        yield doc


def write_docs(path: Path, docs: Iterable[Doc], *, only_words: bool = False) -> int:
    """Write Docs with their annotations (`doc.spans`, `doc.cats`, ...) but without user data.

    Args:
        path: The `.spacy` file; it appears when all is written.
        docs: The Docs.
        only_words: Whether to write of tokens only what their words are: a tenth of the memory.

    Returns:
        Their number.

    Raises:
        ValueError: If there is none, or the name of the file is one that spaCy does not read.
    """
    require_suffix(path)
    docbin = DocBin(attrs=[], store_user_data=False) if only_words else DocBin()
    for doc in docs:
        docbin.add(doc)
    save_docs(path, docbin)
    return len(docbin)


def save_docs(path: Path, docbin: DocBin) -> None:
    """Write collected Docs to a `.spacy` file, which appears when all is written.

    Raises:
        ValueError: If there is none, or the name of the file is one that spaCy does not read.
    """
    require_suffix(path)
    if not len(docbin):
        raise ValueError(f"there is no Doc to write to {path}: the source has no usable row")
    with replacing(path) as temporary:
        docbin.to_disk(temporary)


def require_suffix(path: Path) -> None:
    """Refuse a name that spaCy would not read.

    Raises:
        ValueError: Says how it must end.
    """
    if path.suffix != ".spacy":
        raise ValueError(f"{path}: spaCy reads files whose names end in .spacy: give such a name")
