"""Shards from a corpus: in constant memory, on several cores, and resumable.

The corpus is read once, in blocks of about a million characters. Workers cut a block into
sentences and pieces; the parent appends the results in the blocks' order, so the shards are the
same bytes whatever the number of workers. What is done is noted in a journal after each block:
a run that was broken off goes on behind the last one.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from spacy_bert.files import replacing
from spacy_bert.pretraining.corpus import Document, Splitter
from spacy_bert.pretraining.shards import FORMAT, MANIFEST_FILE, PARTS, SPLITS, sha256
from spacy_bert.wordpiece import WordPiece

PARTIAL = "partial"  # what a run under way has written, until all is there
JOURNAL_FILE = "journal.json"

_BLOCK_CHARACTERS = 1 << 20
_BLOCKS_AHEAD = 2  # a worker, so that none waits for the parent


class Corpus(Protocol):
    """What shards are made from: documents and the way they are cut into sentences."""

    splitter: Splitter

    @property
    def fingerprint(self) -> str:
        """Changes with the content."""

    def texts(self) -> Iterator[str]:
        """Yield the documents, the same each time."""


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


def write_shards(
    corpus: Corpus,
    directory: str | Path,
    wordpiece: WordPiece,
    *,
    dev_share: float,
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> dict[str, SplitCounts]:
    """Turn documents into shards.

    A document goes to `dev` by a hash of its sentences: always the same way, whatever stands
    around it, and copies of one document never stand on both sides. A document of a single piece
    cannot be cut into two segments and is left out.

    Args:
        corpus: The documents.
        directory: Made if need be. Shards that stand there are replaced when all is written; a run
            that was broken off there, with the same corpus and settings, is continued.
        wordpiece: Turns sentences into pieces.
        dev_share: Share of the documents that goes to `dev`, between 0 and 1.
        workers: Processes that split and encode; 1 does it in this one, 0 takes all cores.
        progress: Called with the number of documents of each block that is done.

    Returns:
        Counts of each split.

    Raises:
        ValueError: If `dev_share` is out of range, a split would have fewer than two documents, or
            the journal of an earlier run is damaged.
    """
    if not 0.0 < dev_share < 1.0:
        raise ValueError(f"dev_share must lie between 0 and 1, got {dev_share}")
    if workers < 0:
        raise ValueError(f"workers must not be negative, got {workers}")
    directory = Path(directory)
    encoder = BlockEncoder(wordpiece, corpus.splitter, dev_share)
    settings = {
        "corpus": corpus.fingerprint,
        "vocab_hash": wordpiece.vocab_hash,
        "dev_share": dev_share,
        "block": _BLOCK_CHARACTERS,
    }
    with ExitStack() as stack:
        partial = _Partial.open(directory / PARTIAL, settings, encoder.piece_type, stack)
        blocks = islice(_blocks(corpus.texts()), partial.blocks, None)
        for block in _encode(encoder, blocks, workers or os.cpu_count() or 1):
            partial.add(block)
            if progress is not None:
                progress(sum(len(part.documents) for part in block.values()))
    counts = partial.counts
    for split, part in counts.items():
        if part.documents < 2:
            shutil.rmtree(directory / PARTIAL)
            raise ValueError(
                f"the {split} split has {part.documents} documents, at least 2 are "
                "needed for random next sentences; put a blank line between documents, give "
                "more text, or another dev_share"
            )
    manifest = {
        "format": FORMAT,
        "vocab_hash": wordpiece.vocab_hash,
        "vocab_size": len(wordpiece),
        "dev_share": dev_share,
        "splitter": corpus.splitter.name,
        "counts": {split: asdict(part) for split, part in counts.items()},
        "files": {file.name: file.entry for file in partial.files.values()},
    }
    # From here to the new manifest the directory holds no shards, rather than mixed ones.
    (directory / MANIFEST_FILE).unlink(missing_ok=True)
    for file in partial.files.values():
        (directory / PARTIAL / file.name).replace(directory / file.name)
    with replacing(directory / MANIFEST_FILE) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf8")
    shutil.rmtree(directory / PARTIAL)
    return counts


@dataclass(frozen=True)
class BlockEncoder:
    """Cuts the documents of a block into sentences and pieces. It can be sent to a process."""

    wordpiece: WordPiece
    splitter: Splitter
    dev_share: float

    @property
    def piece_type(self) -> np.dtype[Any]:
        """Type of an id in the files."""
        return np.dtype("<u2" if len(self.wordpiece) <= 1 << 16 else "<i4")

    def __call__(self, texts: list[str]) -> dict[str, EncodedBlock]:
        """Encode the documents of a block, by split."""
        documents = list(self.splitter(texts))
        ids = iter(self.wordpiece.encode_ids(chain.from_iterable(documents)))
        kept: dict[str, list[list[npt.NDArray[np.int32]]]] = {split: [] for split in SPLITS}
        for document in documents:
            sentences = [pieces for pieces in islice(ids, len(document)) if len(pieces)]
            if sum(map(len, sentences)) > 1:
                kept["dev" if _is_dev(document, self.dev_share) else "train"].append(sentences)
        return {split: self._join(documents) for split, documents in kept.items()}

    def _join(self, documents: list[list[npt.NDArray[np.int32]]]) -> EncodedBlock:
        sentences = list(chain.from_iterable(documents))
        pieces = np.concatenate(sentences) if sentences else np.empty(0)
        return EncodedBlock(
            pieces=pieces.astype(self.piece_type),
            sentences=np.array([len(one) for one in sentences], dtype=np.int64),
            documents=np.array([len(one) for one in documents], dtype=np.int64),
        )


_encoder: BlockEncoder  # of a worker process


def _start_worker(encoder: BlockEncoder) -> None:
    global _encoder
    _encoder = encoder


def _encode_in_worker(texts: list[str]) -> dict[str, EncodedBlock]:
    return _encoder(texts)


def _encode(
    encoder: BlockEncoder, blocks: Iterable[list[str]], workers: int
) -> Iterator[dict[str, EncodedBlock]]:
    """Encode blocks, in their order."""
    if workers == 1:
        yield from map(encoder, blocks)
        return
    # Spawned, not forked: a parent with torch in it has threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(encoder,)
    ) as pool:
        under_way: deque[Future[dict[str, EncodedBlock]]] = deque()
        try:
            for block in blocks:
                under_way.append(pool.submit(_encode_in_worker, block))
                if len(under_way) == workers * (1 + _BLOCKS_AHEAD):
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool:
            raise ValueError(
                "a worker process died, perhaps for want of memory: take fewer workers (what is "
                "done is kept, the same command goes on)"
            ) from None
        finally:
            for future in under_way:
                future.cancel()


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Documents in blocks of about `_BLOCK_CHARACTERS`, each of at least one document."""
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= _BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


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
class _Partial:
    """The files of a run under way and its journal."""

    directory: Path
    settings: dict[str, Any]
    files: dict[tuple[str, str], _ArrayFile]
    blocks: int = 0
    counts: dict[str, SplitCounts] = field(
        default_factory=lambda: {split: SplitCounts() for split in SPLITS}
    )

    @classmethod
    def open(
        cls,
        directory: Path,
        settings: dict[str, Any],
        piece_type: np.dtype[Any],
        stack: ExitStack,
    ) -> _Partial:
        """Go on with a run of the same settings, or begin one."""
        journal: dict[str, Any] = {}
        file = directory / JOURNAL_FILE
        if file.is_file():
            try:
                journal = json.loads(file.read_text(encoding="utf8"))
            except ValueError as error:
                raise ValueError(f"{file}: damaged ({error}); delete {directory}") from None
        if journal.get("settings") != settings:
            journal = {}
            shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
        types = {"pieces": piece_type, "sentences": np.dtype("<i8"), "documents": np.dtype("<i8")}
        files = {}
        for split in SPLITS:
            for part in PARTS:
                path = directory / f"{split}.{part}.bin"
                size = journal["bytes"][path.name] if journal else 0
                if path.is_file() and path.stat().st_size < size:
                    raise ValueError(f"{path}: shorter than the journal says; delete {directory}")
                files[split, part] = _ArrayFile(path, types[part], stack, size)
        partial = cls(directory, settings, files)
        if journal:
            partial.blocks = journal["blocks"]
            partial.counts = {
                split: SplitCounts(**part) for split, part in journal["counts"].items()
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
            "settings": self.settings,
            "blocks": self.blocks,
            "bytes": {file.name: file.bytes for file in self.files.values()},
            "counts": {split: asdict(part) for split, part in self.counts.items()},
        }
        with replacing(self.directory / JOURNAL_FILE) as temporary:
            temporary.write_text(json.dumps(journal), encoding="utf8")


def _is_dev(document: Document, share: float) -> bool:
    digest = hashlib.blake2b("\n".join(document).encode("utf8"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2.0**64
