"""Shards: a corpus as memory-mapped WordPiece ids, ready for any number of epochs.

A directory holds two splits, `train` and `dev`, of three flat little-endian files each:

* `<split>.pieces.bin`: the ids of all sentences, end to end; uint16, or int32 for a vocabulary of
  more than 65,536 pieces;
* `<split>.sentences.bin`: where each sentence begins in the pieces, and the end; int64;
* `<split>.documents.bin`: where each document begins in the sentences, and the end; int64;

and `manifest.json` with counts, checksums and the hash of the vocabulary. The manifest is written
last, so a directory without it, or with one that does not fit its files, is never read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from spacy_bert.files import replacing
from spacy_bert.pretraining.corpus import Document
from spacy_bert.wordpiece import WordPiece

MANIFEST_FILE = "manifest.json"
FORMAT = "spacy_bert.shards.v1"
SPLITS = ("train", "dev")
PARTS = ("pieces", "sentences", "documents")

_DOCUMENTS_AT_A_TIME = 1024
_BYTES_AT_A_TIME = 1 << 22

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """One split of the shards, memory-mapped.

    Attributes:
        pieces: Ids of all sentences end to end, (pieces,) uint16 or int32.
        sentences: Where each sentence begins in `pieces`, and the end, (sentences + 1,) int64.
        documents: Where each document begins in `sentences`, and the end, (documents + 1,) int64.
    """

    pieces: npt.NDArray[Any]
    sentences: IntArray
    documents: IntArray

    @property
    def document_count(self) -> int:
        """Number of documents."""
        return len(self.documents) - 1

    @property
    def sentence_count(self) -> int:
        """Number of sentences."""
        return len(self.sentences) - 1

    def bounds(self, document: int) -> list[int]:
        """Where each sentence of a document begins in `pieces`, and the end of the last one."""
        first, last = self.documents[document : document + 2]
        bounds: list[int] = self.sentences[first : last + 1].tolist()
        return bounds


@dataclass(frozen=True, eq=False)
class Shards:
    """A directory of shards that has been opened and checked."""

    train: Split
    dev: Split
    manifest: dict[str, Any]

    @classmethod
    def open(
        cls, directory: str | Path, wordpiece: WordPiece, *, verify_checksums: bool = True
    ) -> Shards:
        """Memory-map a directory that `write_shards` wrote with the same vocabulary.

        Args:
            directory: Where `manifest.json` stands.
            wordpiece: The tokenizer that training will use.
            verify_checksums: Read every file once to compare its SHA-256 (about a second a GB);
                sizes are always compared.

        Raises:
            ValueError: If a file is missing, truncated or altered, or the shards were made with
                another vocabulary; names the file.
        """
        directory = Path(directory)
        manifest = _read_manifest(directory / MANIFEST_FILE)
        if manifest["vocab_hash"] != wordpiece.vocab_hash:
            raise ValueError(
                f"{directory / MANIFEST_FILE}: vocab_hash is that of another vocabulary than the "
                "tokenizer's; run `prepare` again with this tokenizer"
            )
        splits = {}
        for split in SPLITS:
            arrays = {}
            for part in PARTS:
                entry = manifest["files"][f"{split}.{part}.bin"]
                file = directory / f"{split}.{part}.bin"
                _check_file(file, entry, verify_checksums=verify_checksums)
                arrays[part] = np.memmap(file, dtype=np.dtype(entry["dtype"]), mode="r")
            splits[split] = Split(**arrays)
        return cls(train=splits["train"], dev=splits["dev"], manifest=manifest)


@dataclass
class SplitCounts:
    """What went into a split."""

    documents: int = 0
    sentences: int = 0
    pieces: int = 0


def write_shards(
    documents: Iterable[Document],
    directory: str | Path,
    wordpiece: WordPiece,
    *,
    dev_share: float,
) -> dict[str, SplitCounts]:
    """Turn documents into shards, in constant memory.

    A document goes to `dev` by a hash of its text: always the same way, whatever stands around
    it, and copies of one document never stand on both sides. A document of a single piece cannot
    be cut into two segments and is left out.

    Args:
        documents: Each a list of sentences.
        directory: Made if need be. Files of an earlier run are replaced when all is written.
        wordpiece: Turns sentences into pieces.
        dev_share: Share of the documents that goes to `dev`, between 0 and 1.

    Returns:
        Counts of each split.

    Raises:
        ValueError: If `dev_share` is out of range or a split would have fewer than two documents.
    """
    if not 0.0 < dev_share < 1.0:
        raise ValueError(f"dev_share must lie between 0 and 1, got {dev_share}")
    directory = Path(directory)
    piece_type = np.dtype("<u2" if len(wordpiece) <= 1 << 16 else "<i4")
    with ExitStack() as stack:
        writers = {
            split: _SplitWriter(directory, split, piece_type, stack=stack) for split in SPLITS
        }
        for batch in _batches(documents):
            ids = iter(wordpiece.encode_ids(chain.from_iterable(batch)))
            for document in batch:
                sentences = [pieces for pieces in islice(ids, len(document)) if len(pieces)]
                if sum(map(len, sentences)) > 1:
                    writers["dev" if _is_dev(document, dev_share) else "train"].add(sentences)
        for split, writer in writers.items():
            if writer.counts.documents < 2:
                raise ValueError(
                    f"the {split} split has {writer.counts.documents} documents, at least 2 are "
                    "needed for random next sentences; put a blank line between documents, give "
                    "more text, or another dev_share"
                )
    manifest = {
        "format": FORMAT,
        "vocab_hash": wordpiece.vocab_hash,
        "vocab_size": len(wordpiece),
        "dev_share": dev_share,
        "counts": {split: asdict(writer.counts) for split, writer in writers.items()},
        "files": {
            file.name: file.entry for writer in writers.values() for file in writer.files.values()
        },
    }
    with replacing(directory / MANIFEST_FILE) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf8")
    return {split: writer.counts for split, writer in writers.items()}


class _ArrayFile:
    """An array written piecemeal, with its checksum."""

    def __init__(self, path: Path, dtype: np.dtype[Any], *, stack: ExitStack) -> None:
        self.name = path.name
        self._dtype = dtype
        self._bytes = 0
        self._hash = hashlib.sha256()
        temporary = stack.enter_context(replacing(path))
        self._stream: BinaryIO = stack.enter_context(temporary.open("wb"))

    def write(self, values: npt.ArrayLike) -> None:
        data = np.asarray(values).astype(self._dtype).tobytes()
        self._stream.write(data)
        self._hash.update(data)
        self._bytes += len(data)

    @property
    def entry(self) -> dict[str, Any]:
        """The file's part of the manifest."""
        return {
            "dtype": self._dtype.str,
            "bytes": self._bytes,
            "sha256": self._hash.hexdigest(),
        }


class _SplitWriter:
    """The three files of a split under way."""

    def __init__(
        self, directory: Path, split: str, piece_type: np.dtype[Any], *, stack: ExitStack
    ) -> None:
        types = {"pieces": piece_type, "sentences": np.dtype("<i8"), "documents": np.dtype("<i8")}
        self.counts = SplitCounts()
        self.files = {
            part: _ArrayFile(directory / f"{split}.{part}.bin", dtype, stack=stack)
            for part, dtype in types.items()
        }
        self.files["sentences"].write([0])
        self.files["documents"].write([0])

    def add(self, sentences: list[npt.NDArray[np.int32]]) -> None:
        """Append a document."""
        ends = self.counts.pieces + np.cumsum([len(pieces) for pieces in sentences])
        self.counts.documents += 1
        self.counts.sentences += len(sentences)
        self.counts.pieces = int(ends[-1])
        self.files["pieces"].write(np.concatenate(sentences))
        self.files["sentences"].write(ends)
        self.files["documents"].write([self.counts.sentences])


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    stream = iter(documents)
    while batch := list(islice(stream, _DOCUMENTS_AT_A_TIME)):
        yield batch


def _is_dev(document: Document, share: float) -> bool:
    digest = hashlib.blake2b("\n".join(document).encode("utf8"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2.0**64


def _read_manifest(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{file}: not found; make the shards with `prepare`")
    try:
        manifest = json.loads(file.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error}); run `prepare` again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{file}: format is not {FORMAT!r}; run `prepare` again")
    names = [f"{split}.{part}.bin" for split in SPLITS for part in PARTS]
    if "vocab_hash" not in manifest or any(name not in manifest.get("files", {}) for name in names):
        raise ValueError(f"{file}: vocab_hash or files are missing; run `prepare` again")
    return manifest


def _check_file(file: Path, entry: dict[str, Any], *, verify_checksums: bool) -> None:
    if not file.is_file():
        raise ValueError(f"{file}: not found, though the manifest names it; run `prepare` again")
    size = file.stat().st_size
    if size != entry["bytes"]:
        raise ValueError(
            f"{file}: has {size} bytes, the manifest says {entry['bytes']}; run `prepare` again"
        )
    if verify_checksums and _sha256(file) != entry["sha256"]:
        raise ValueError(f"{file}: sha256 is not the manifest's; run `prepare` again")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BYTES_AT_A_TIME):
            digest.update(block)
    return digest.hexdigest()
