"""The directory of shards while they are made: what stands there, and what is done of the new ones.

The files of a run grow in `partial`, beside a journal of what is done. The journal is the first
file that a run writes and the last that it deletes, so that a run broken off at any point is known
as one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spacy_bert.files import replacing
from spacy_bert.outputs import refuse_file
from spacy_bert.pretraining.shards import FORMAT, MANIFEST_FILE, PARTS, SPLITS, Shards, sha256
from spacy_bert.wordpiece import WordPiece

PARTIAL = "partial"  # what a run under way has written, until all is there
JOURNAL_FILE = "journal.json"

_FILES = {MANIFEST_FILE, *(f"{split}.{part}.bin" for split in SPLITS for part in PARTS)}
_INPUT_NAMES = {
    "corpus": "the corpus or how it is read",
    "tokenizer": "the tokenizer",
    "dev_share": "--dev-share",
    "block": "the version of spacy_bert",
}


@dataclass
class SplitCounts:
    """What went into a split."""

    documents: int = 0
    sentences: int = 0
    pieces: int = 0


class EncodedBlock(NamedTuple):
    """The documents of a block that go to one split.

    Attributes:
        pieces: Ids of all sentences end to end, (pieces,) uint16 or int32.
        sentences: Pieces in each sentence, (sentences,) int64.
        documents: Sentences in each document, (documents,) int64.
    """

    pieces: npt.NDArray[Any]
    sentences: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]


def finished_counts(
    directory: Path, inputs: Mapping[str, Any], wordpiece: WordPiece, *, overwrite: bool
) -> dict[str, SplitCounts] | None:
    """Counts of the shards in a directory, if they are whole and made from these inputs.

    Args:
        directory: Need not be there.
        inputs: What shards are made from, by the keys of the journal.
        wordpiece: The tokenizer.
        overwrite: Whether shards of other inputs may be replaced. Nothing else ever is.

    Returns:
        None if shards are to be made there.

    Raises:
        ValueError: If the directory is a file, holds other files than shards, or shards of other
            inputs that may not be replaced.
    """
    refuse_file(directory)
    manifest = _read_object(directory / MANIFEST_FILE)
    if manifest.get("format") != FORMAT and not (directory / PARTIAL / JOURNAL_FILE).exists():
        files = (path for path in directory.rglob("*") if path.is_file())
        stranger = next((path for path in files if path.name not in _FILES), None)
        if stranger is not None:
            raise ValueError(
                f"{directory}: holds other files than shards, such as "
                f"{stranger.relative_to(directory)}; name another directory"
            )
    if manifest.get("inputs") == inputs:
        try:
            Shards.open(directory, wordpiece)
        except ValueError:
            return None  # damaged: the same inputs make them again
        return {split: SplitCounts(**part) for split, part in manifest["counts"].items()}
    if (directory / MANIFEST_FILE).exists() and not overwrite:
        raise ValueError(
            f"{directory}: holds shards of other inputs ({_difference(manifest, inputs)}); name "
            "another directory, or give --overwrite"
        )
    return None


def _difference(old: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    before = old.get("inputs") or {}
    names = [name for key, name in _INPUT_NAMES.items() if before.get(key) != inputs[key]]
    return f"not the same: {', '.join(names)}"


def _read_object(file: Path) -> dict[str, Any]:
    """What a JSON file holds; an empty object if it is not there or holds no object."""
    try:
        content = json.loads(file.read_text(encoding="utf8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass
class _ArrayFile:
    """An array written piecemeal, with its checksum."""

    path: Path
    dtype: np.dtype[Any]
    stack: ExitStack
    bytes: int = 0

    def __post_init__(self) -> None:
        """Open the file, cut to the bytes that it should have."""
        self.path.touch()
        os.truncate(self.path, self.bytes)
        self._hash = sha256(self.path)
        self._stream = self.stack.enter_context(self.path.open("ab"))

    @property
    def name(self) -> str:
        return self.path.name

    def write(self, values: npt.ArrayLike) -> None:
        data = np.asarray(values).astype(self.dtype).tobytes()
        self._stream.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    def flush(self) -> None:
        self._stream.flush()

    @property
    def entry(self) -> dict[str, Any]:
        """The file's part of the manifest."""
        return {"dtype": self.dtype.str, "bytes": self.bytes, "sha256": self._hash.hexdigest()}


@dataclass
class Partial:
    """The files of a run under way and its journal."""

    directory: Path
    inputs: Mapping[str, Any]
    files: dict[tuple[str, str], _ArrayFile]
    blocks: int = 0
    counts: dict[str, SplitCounts] = field(
        default_factory=lambda: {split: SplitCounts() for split in SPLITS}
    )

    @classmethod
    def open(
        cls,
        directory: Path,
        inputs: Mapping[str, Any],
        piece_type: np.dtype[Any],
        stack: ExitStack,
        *,
        overwrite: bool,
    ) -> Partial:
        """Go on with a run of the same inputs, or begin one.

        Args:
            directory: Of the run, within that of the shards.
            inputs: What shards are made from.
            piece_type: Type of an id.
            stack: Closes the files.
            overwrite: Whether a run of other inputs that has got somewhere may be deleted.

        Raises:
            ValueError: If there is a run of other inputs, or its journal is damaged.
        """
        journal = _read_journal(directory)
        begun = bool(journal.get("blocks"))
        is_same = journal.get("inputs") == inputs
        if begun and not is_same and not overwrite:
            raise ValueError(
                f"{directory.parent}: holds an unfinished run with other inputs "
                f"({_difference(journal, inputs)}); name another directory, or give --overwrite "
                "to delete it"
            )
        goes_on = begun and is_same and _fetch_back(directory, journal["bytes"])
        if not goes_on:
            shutil.rmtree(directory, ignore_errors=True)
            stack.callback(_delete_unbegun, directory)
            _write_journal(directory, {"inputs": inputs, "blocks": 0})
        types = {"pieces": piece_type, "sentences": np.dtype("<i8"), "documents": np.dtype("<i8")}
        files = {}
        for split in SPLITS:
            for part in PARTS:
                path = directory / f"{split}.{part}.bin"
                size = journal["bytes"][path.name] if goes_on else 0
                if goes_on and path.stat().st_size < size:
                    raise ValueError(f"{path}: shorter than the journal says; delete {directory}")
                files[split, part] = _ArrayFile(path, types[part], stack, size)
        partial = cls(directory, inputs, files)
        if goes_on:
            partial.blocks = journal["blocks"]
            partial.counts = {
                split: SplitCounts(**counts) for split, counts in journal["counts"].items()
            }
        else:
            for split in SPLITS:
                files[split, "sentences"].write([0])
                files[split, "documents"].write([0])
        return partial

    def add(self, block: dict[str, EncodedBlock]) -> None:
        """Append a block, then note it."""
        for split, part in block.items():
            counts = self.counts[split]
            self.files[split, "pieces"].write(part.pieces)
            self.files[split, "sentences"].write(counts.pieces + np.cumsum(part.sentences))
            self.files[split, "documents"].write(counts.sentences + np.cumsum(part.documents))
            counts.documents += len(part.documents)
            counts.sentences += len(part.sentences)
            counts.pieces += len(part.pieces)
        self.blocks += 1
        for file in self.files.values():
            file.flush()
        journal = {
            "inputs": self.inputs,
            "blocks": self.blocks,
            "bytes": {file.name: file.bytes for file in self.files.values()},
            "counts": {split: asdict(part) for split, part in self.counts.items()},
        }
        _write_journal(self.directory, journal)

    def publish(self, manifest: Mapping[str, Any]) -> None:
        """Put the files in the place of older shards, the manifest last."""
        directory = self.directory.parent
        # From here to the new manifest the directory holds no shards, rather than mixed ones.
        (directory / MANIFEST_FILE).unlink(missing_ok=True)
        for file in self.files.values():
            file.path.replace(directory / file.name)
        with replacing(directory / MANIFEST_FILE) as temporary:
            temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf8")
        self.delete()

    def delete(self) -> None:
        """Leave nothing of the run."""
        shutil.rmtree(self.directory, ignore_errors=True)


def _fetch_back(directory: Path, names: Iterable[str]) -> bool:
    """Undo half a `publish`; returns whether all files of the run are there."""
    is_finished = (directory.parent / MANIFEST_FILE).exists()
    for path in (directory / name for name in names):
        published = directory.parent / path.name
        # Without a manifest, what is missing here has been moved there.
        if not path.exists() and published.exists() and not is_finished:
            published.replace(path)
        if not path.exists():
            return False
    return True


def _delete_unbegun(directory: Path) -> None:
    """Leave nothing of a run that failed before it had done anything."""
    if not _read_journal(directory).get("blocks"):
        shutil.rmtree(directory, ignore_errors=True)


def _read_journal(directory: Path) -> dict[str, Any]:
    file = directory / JOURNAL_FILE
    if not file.is_file():
        return {}
    try:
        journal: dict[str, Any] = json.loads(file.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{file}: damaged ({error}); delete {directory}") from None
    return journal


def _write_journal(directory: Path, journal: Mapping[str, Any]) -> None:
    with replacing(directory / JOURNAL_FILE) as temporary:
        temporary.write_text(json.dumps(journal), encoding="utf8")
