"""Lines of official files, compressed or not, with their numbers."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

from spacy_bert.pretraining.corpus import readable_errors


@contextmanager
def open_rows(file: Path, *, newline: str = "\n", encoding: str = "utf-8-sig") -> Iterator[TextIO]:
    r"""Open a file to be read, UTF-8 by default, compressed if its name ends in `.gz`.

    Args:
        file: The file.
        newline: As `open` takes it; by default, only "\n" ends a line, since "\r" and the
            separators of Unicode may stand in a text.
        encoding: As `open` takes it.

    Raises:
        ValueError: In the block, if the content is not UTF-8 or a damaged gzip file; names the file
            and, where it can, the line.
    """
    opener = cast(Callable[..., TextIO], gzip.open if file.suffix == ".gz" else open)
    with (
        readable_errors(file),
        opener(file, "rt", encoding=encoding, newline=newline) as stream,
    ):
        yield stream


def numbered_lines(file: Path, *, encoding: str = "utf-8-sig") -> Iterator[tuple[int, str]]:
    """The lines of a file without their ends, each with its number, counted from 1.

    Raises:
        ValueError: As `open_rows`.
    """
    with open_rows(file, encoding=encoding) as stream:
        for number, line in enumerate(stream, start=1):
            yield number, line.rstrip("\r\n")
