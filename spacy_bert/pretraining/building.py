"""Shards from a corpus: in constant memory, on several cores, and resumable.

The corpus is read once, in blocks of about a million characters. Workers cut a block into
sentences and pieces; the parent appends the results in the blocks' order, so the shards are the
same bytes whatever the number of workers. What is done is noted in a journal after each block:
a run that was broken off goes on behind the last one.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from spacy_bert.pretraining.corpus import Document, Splitter
from spacy_bert.pretraining.journal import (
    PARTIAL,
    EncodedBlock,
    Partial,
    SplitCounts,
    finished_counts,
)
from spacy_bert.pretraining.shards import FORMAT, SPLITS
from spacy_bert.wordpiece import WordPiece

_BLOCK_CHARACTERS = 1 << 20
_BLOCKS_AHEAD = 2  # a worker, so that none waits for the parent


class Corpus(Protocol):
    """What shards are made from: documents and the way they are cut into sentences."""

    splitter: Splitter

    @property
    def fingerprint(self) -> str:
        """Changes with the content and with the way it is read and split."""

    def texts(self) -> Iterator[str]:
        """Yield the documents, the same each time."""


def write_shards(
    corpus: Corpus,
    directory: str | Path,
    wordpiece: WordPiece,
    *,
    dev_share: float,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
    say: Callable[[str], object] | None = None,
) -> dict[str, SplitCounts]:
    """Turn documents into shards.

    A document goes to `dev` by a hash of its sentences: always the same way, whatever stands
    around it, and copies of one document never stand on both sides. A document of a single piece
    cannot be cut into two segments and is left out.

    Args:
        corpus: The documents.
        directory: Made if need be. A run that was broken off there, with the same inputs (corpus,
            tokenizer and settings), is continued; shards of the same inputs are left as they are.
        wordpiece: Turns sentences into pieces.
        dev_share: Share of the documents that goes to `dev`, between 0 and 1.
        workers: Processes that split and encode; 1 does it in this one, 0 takes all cores.
        overwrite: Replace shards, and give up a run that was broken off, of other inputs. Old
            shards stay until the new ones are written.
        progress: Called with the number of documents of each block that is done.
        say: Called with a line for the user if what stands in the directory spares work.

    Returns:
        Counts of each split.

    Raises:
        ValueError: If `dev_share` is out of range, a split would have fewer than two documents,
            the directory holds anything else than shards of the same inputs (without `overwrite`),
            or the journal of an earlier run is damaged.
    """
    if not 0.0 < dev_share < 1.0:
        raise ValueError(f"--dev-share must lie between 0 and 1, got {dev_share}")
    if workers < 0:
        raise ValueError(f"--workers must not be negative, got {workers}")
    directory = Path(directory)
    say = say or (lambda _: None)
    encoder = BlockEncoder(wordpiece, corpus.splitter, dev_share)
    inputs = {
        "corpus": corpus.fingerprint,
        "tokenizer": hashlib.sha256(wordpiece.to_str().encode("utf8")).hexdigest(),
        "dev_share": dev_share,
        "block": _BLOCK_CHARACTERS,
    }
    done = finished_counts(directory, inputs, wordpiece, overwrite=overwrite)
    if done is not None:
        say(f"{directory}: already done, from the same corpus, tokenizer and settings")
        return done
    with ExitStack() as stack:
        partial = Partial.open(
            directory / PARTIAL, inputs, encoder.piece_type, stack, overwrite=overwrite
        )
        counts = partial.counts
        if partial.blocks:
            documents = sum(part.documents for part in counts.values())
            say(f"{directory}: {documents:,} documents are done, goes on from there")
        blocks = islice(_blocks(corpus.texts()), partial.blocks, None)
        encoded = _encode(encoder, blocks, workers or os.cpu_count() or 1)
        for block in stack.enter_context(closing(encoded)):
            partial.add(block)
            if progress is not None:
                progress(sum(len(part.documents) for part in block.values()))
    for split, part in counts.items():
        if part.documents < 2:
            partial.delete()
            raise ValueError(
                f"the {split} split has {part.documents} documents, at least 2 are "
                "needed for random next sentences; put a blank line between documents, give "
                "more text, or another --dev-share"
            )
    manifest = {
        "format": FORMAT,
        "vocab_hash": wordpiece.vocab_hash,
        "vocab_size": len(wordpiece),
        "dev_share": dev_share,
        "splitter": corpus.splitter.name,
        "inputs": inputs,
        "counts": {split: asdict(part) for split, part in counts.items()},
        "files": {file.name: file.entry for file in partial.files.values()},
    }
    partial.publish(manifest)
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
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed outright cannot end its workers, which would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode_in_worker(texts: list[str]) -> dict[str, EncodedBlock]:
    return _encoder(texts)


def _encode(
    encoder: BlockEncoder, blocks: Iterable[list[str]], workers: int
) -> Generator[dict[str, EncodedBlock], None, None]:
    """Encode blocks, in their order. Closed or broken off, it does not wait for those under way."""
    if workers == 1:
        yield from map(encoder, blocks)
        return
    # Spawned, not forked: a parent with torch in it has threads.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(encoder,)
    )
    under_way: deque[Future[dict[str, EncodedBlock]]] = deque()
    try:
        for block in blocks:
            with _ctrl_c_held_back():
                under_way.append(pool.submit(_encode_in_worker, block))
            if len(under_way) == workers * (1 + _BLOCKS_AHEAD):
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool:
        raise ValueError(
            "a worker process died, perhaps for want of memory: take fewer --workers (what is "
            "done is kept, the same command goes on)"
        ) from None
    except BaseException:
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Processes that are started meanwhile never see Ctrl-C: stopping them is the parent's part."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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


def _is_dev(document: Document, share: float) -> bool:
    digest = hashlib.blake2b("\n".join(document).encode("utf8"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2.0**64
