"""What readers of official formats share: malformed rows, and `.spacy` files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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


def write_docs(path: Path, docs: Iterable[Doc]) -> int:
    """Write Docs with their annotations (`doc.spans`, `doc.cats`, ...) but without user data.

    Args:
        path: The `.spacy` file; it appears when all is written.
        docs: The Docs.

    Returns:
        Their number.

    Raises:
        ValueError: If there is none.
    """
    docbin = DocBin(store_user_data=False)
    for doc in docs:
        docbin.add(doc)
    if not len(docbin):
        raise ValueError(f"there is no Doc to write to {path}: the source has no usable row")
    with replacing(path) as temporary:
        docbin.to_disk(temporary)
    return len(docbin)
