"""Documents for pre-training, read as a stream from text files or JSON Lines.

* ``.txt``: a blank line between documents, as in `create_pretraining_data.py`, the reference code
  of Devlin et al. 2018;
* ``.jsonl``: an object a line, whose field (by default ``text``) is a document, or a list of its
  lines.

Both may be compressed (``.gz``). What a document's lines are, sentences or paragraphs, is the
splitter's affair.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

from spacy_bert.characters import require_whole
from spacy_bert.pretraining.shards import sha256

Document = list[str]

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")

_NO_TEXT = (".json", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")  # as are `.json.gz` and so on
_GZIP_MAGIC = b"\x1f\x8b"


class Splitter(Protocol):
    """Cuts documents into sentences.

    Attributes:
        name: Says which one it is; another name gives other shards.
    """

    name: str

    def __call__(self, texts: Iterable[str]) -> Iterator[Document]:
        """Yield for each text its sentences: not empty, without surrounding whitespace."""


class Lines:
    """The splitter for texts with one sentence a line."""

    name = "lines"

    def __call__(self, texts: Iterable[str]) -> Iterator[Document]:
        """Yield the non-empty lines of each text."""
        for text in texts:
            lines = map(str.strip, text.split("\n"))
            yield [line for line in lines if line]


class TextCorpus:
    """Documents of files, or of all files of the four kinds below directories.

    It can be read any number of times, always in the same order. Documents without text are left
    out.
    """

    def __init__(
        self,
        *paths: str | Path,
        field: str = "text",
        splitter: Splitter | None = None,
        min_characters: int = 1,
    ) -> None:
        """Find the files.

        Args:
            paths: Files and directories.
            field: Where the text stands in JSON Lines.
            splitter: Cuts documents into sentences; by default at the ends of lines.
            min_characters: Shorter documents are left out.

        Raises:
            ValueError: If a path does not exist, is a file of data in another form, or a directory
                holds no file of these kinds.
        """
        self.paths = paths
        self.files = [file for path in paths for file in _files(Path(path))]
        self.field = field
        self.splitter: Splitter = splitter or Lines()
        self.min_characters = min_characters

    @property
    def fingerprint(self) -> str:
        """A hash of the files' content and the way of reading it."""
        parts: list[Any] = [self.field, self.splitter.name, self.min_characters]
        for file in self.files:
            parts.append([_is_json_lines(file), sha256(file).hexdigest()])
        return hashlib.sha256(json.dumps(parts).encode("utf8")).hexdigest()

    def texts(self) -> Iterator[str]:
        """Yield each document as it stands in its file.

        Raises:
            ValueError: If a file is not UTF-8, not what its name says, or truncated; names the
                file and the line. If there is no document at all.
        """
        count = kept = 0
        for file in self.files:
            read = _read_json_lines if _is_json_lines(file) else _read_text
            with readable_errors(file):
                for text in read(file, self.field):
                    if not text or text.isspace():
                        continue
                    count += 1
                    if len(text) >= self.min_characters:
                        kept += 1
                        yield text
        if not kept:
            names = ", ".join(map(str, self.paths))
            if not count:
                raise ValueError(f"{names}: holds no text")
            raise ValueError(
                f"{names}: no document has --min-characters {self.min_characters} characters"
            )

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents as sentences; those without any are left out."""
        return filter(None, self.splitter(self.texts()))

    def sentences(self) -> Sentences:
        """The sentences alone, as often as wanted: what a vocabulary is trained on."""
        return Sentences(self)


class Sentences:
    """The sentences of a corpus, without the borders between documents."""

    def __init__(self, corpus: Iterable[Document]) -> None:
        self._corpus = corpus

    def __iter__(self) -> Iterator[str]:
        """Yield every sentence in order."""
        for document in self._corpus:
            yield from document


class RecordCorpus:
    """Documents of records in memory or on disk, such as a `datasets.Dataset` of Hugging Face.

    Anything that can be iterated over more than once and yields mappings will do.
    """

    def __init__(
        self,
        records: Iterable[Mapping[str, Any]],
        *,
        field: str = "text",
        splitter: Splitter | None = None,
    ) -> None:
        self._records = records
        self._field = field
        self.splitter: Splitter = splitter or Lines()

    @property
    def fingerprint(self) -> str:
        """A hash of the records and the way of reading them."""
        digest = hashlib.sha256(json.dumps([self._field, self.splitter.name]).encode("utf8"))
        # A data set of Hugging Face knows a hash of its content; other records are read.
        known = getattr(self._records, "_fingerprint", None)
        for part in self.texts() if known is None else [str(known)]:
            digest.update(json.dumps(part).encode("utf8"))
        return digest.hexdigest()

    def texts(self) -> Iterator[str]:
        """Yield each document.

        Raises:
            ValueError: If a record lacks the field; gives its number.
        """
        for number, record in enumerate(self._records, start=1):
            text = _field_of(record, self._field, f"record {number}")
            if text and not text.isspace():
                yield text

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents as sentences; those without any are left out."""
        return filter(None, self.splitter(self.texts()))


def _files(path: Path) -> Sequence[Path]:
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.name.endswith(SUFFIXES)]
        if not files:
            raise ValueError(f"{path}: holds no {', '.join(SUFFIXES)} file")
        return sorted(file for file in files if file.is_file())
    if not path.is_file():
        raise ValueError(f"{path}: no such file or directory; expected a text corpus")
    if path.name.removesuffix(".gz").endswith(_NO_TEXT):
        raise ValueError(
            f"{path}: is no plain text; write it as .jsonl (an object a line) or as .txt"
        )
    # Any other file that is named outright is read as text, whatever its suffix.
    return [path]


def _is_json_lines(file: Path) -> bool:
    return file.name.removesuffix(".gz").endswith(".jsonl")


def open_text(file: Path) -> TextIO:
    """Open a text file to be read, compressed if its name ends in `.gz`."""
    if file.name.endswith(".gz"):
        return cast(TextIO, gzip.open(file, "rt", encoding="utf-8-sig"))
    return file.open(encoding="utf-8-sig")


@contextmanager
def readable_errors(file: Path) -> Iterator[None]:
    """Say of a file that cannot be read as text what is wrong with it, and where.

    Raises:
        ValueError: Names the file and, if it is not UTF-8, the line.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        where = f"{file}, line {_first_bad_line(file)}"
        raise ValueError(f"{where}: not UTF-8 ({error.reason}); convert the file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        with file.open("rb") as stream:
            is_gzip = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        if not is_gzip:
            name = file.name.removesuffix(".gz")
            raise ValueError(
                f"{file}: not a gzip file; rename it to {name} or compress it"
            ) from None
        raise ValueError(f"{file}: damaged or truncated gzip file ({error})") from None


def _first_bad_line(file: Path) -> int:
    number = 0
    with gzip.open(file) if file.name.endswith(".gz") else file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf8")
            except UnicodeDecodeError:
                return number
    return number


def _read_text(file: Path, _: str) -> Iterator[str]:
    lines: list[str] = []
    with open_text(file) as stream:
        for line in stream:
            if not line.isspace():
                lines.append(line)
            elif lines:
                yield "".join(lines)
                lines = []
    if lines:
        yield "".join(lines)


def _read_json_lines(file: Path, field: str) -> Iterator[str]:
    with open_text(file) as stream:
        for number, line in enumerate(stream, start=1):
            if line.isspace():
                continue
            where = f"{file}, line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: not JSON ({error})") from None
            yield _field_of(record, field, where)


def _field_of(record: Any, field: str, where: str) -> str:
    if not isinstance(record, Mapping):
        raise ValueError(f"{where}: not an object but {type(record).__name__}")
    if field not in record:
        there = ", ".join(map(str, record)) or "none"
        raise ValueError(f"{where}: has no field {field!r}; its fields: {there}")
    value = record[field]
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "\n".join(value)
    if not isinstance(value, str):
        raise ValueError(
            f"{where}: field {field!r} is neither a text nor a list of texts but "
            f"{type(value).__name__}"
        )
    require_whole(value, f"{where}: field {field!r}")
    return value
