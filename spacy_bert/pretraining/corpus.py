"""Documents from plain text in Google's form: one sentence a line, a blank line between documents.

This is the input of `create_pretraining_data.py` in the reference code of Devlin et al. 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

Document = list[str]


class TextCorpus:
    """Documents of a text file, or of all `*.txt` files below a directory, read as a stream.

    It can be read any number of times, always in the same order. A document ends at a blank line
    or with its file.
    """

    def __init__(self, path: str | Path) -> None:
        """Find the files.

        Raises:
            ValueError: If the path does not exist or the directory holds no text file.
        """
        path = Path(path)
        if path.is_dir():
            self.files = sorted(file for file in path.rglob("*.txt") if file.is_file())
            if not self.files:
                raise ValueError(f"{path}: holds no .txt file; expected one sentence a line")
        elif path.is_file():
            self.files = [path]
        else:
            raise ValueError(f"{path}: no such file or directory; expected a text corpus")

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents, each a non-empty list of non-empty sentences.

        Raises:
            ValueError: If a file is not UTF-8; names it.
        """
        for file in self.files:
            document: Document = []
            for sentence in _lines(file):
                if sentence:
                    document.append(sentence)
                elif document:
                    yield document
                    document = []
            if document:
                yield document

    def sentences(self) -> Sentences:
        """The sentences alone, as often as wanted: what a vocabulary is trained on."""
        return Sentences(self)


class Sentences:
    """The sentences of a corpus, without the borders between documents."""

    def __init__(self, corpus: TextCorpus) -> None:
        self._corpus = corpus

    def __iter__(self) -> Iterator[str]:
        """Yield every sentence in order."""
        for document in self._corpus:
            yield from document


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for line in lines:
                yield line.strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 ({error.reason}); convert it") from None
