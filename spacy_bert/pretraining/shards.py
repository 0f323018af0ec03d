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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spacy_bert.wordpiece import WordPiece

MANIFEST_FILE = "manifest.json"
FORMAT = "spacy_bert.shards.v1"
SPLITS = ("train", "dev")
PARTS = ("pieces", "sentences", "documents")

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

    @property
    def fingerprint(self) -> str:
        """Tells these shards from others: the beginning of a hash of their files' checksums."""
        files = self.manifest["files"]
        sums = " ".join(files[name]["sha256"] for name in sorted(files))
        return hashlib.sha256(sums.encode()).hexdigest()[:12]

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
                "tokenizer's ([data] tokenizer); name the tokenizer that `prepare` had, or run "
                "`prepare` again with this one"
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
    if verify_checksums and sha256(file).hexdigest() != entry["sha256"]:
        raise ValueError(f"{file}: sha256 is not the manifest's; run `prepare` again")


def sha256(file: Path) -> hashlib._Hash:
    """The hash of what a file holds so far; it can be updated with what is appended."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BYTES_AT_A_TIME):
            digest.update(block)
    return digest
