"""Batches that are even work: of so many pieces, or of texts of like length."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from spacy.tokens import Doc
from spacy.training import Example

from spacy_bert.models.hub import find_checkpoint
from spacy_bert.models.layout import LayoutOptions, lay_out
from spacy_bert.wordpiece import WordPiece

Item = Example | Doc
Batcher = Callable[[Iterable[Any]], Iterator[list[Any]]]

LOOKAHEAD = 64  # Docs that are turned into pieces together


def build_batch_by_pieces(
    size: Iterable[int] | int,
    tokenizer: str | None,
    max_docs: int | None = None,
    discard_oversize: bool = False,
) -> Batcher:
    """The batcher `spacy_bert.batch_by_pieces.v1`: at most so many wordpieces in a batch.

    The pieces are counted exactly, [CLS], [SEP] and overlapping windows (of 512) included. The
    order of the texts stays.

    Args:
        size: wordpieces in a batch, a number or a schedule.
        tokenizer: where the vocabulary is: the encoder's directory or hub id.
        max_docs: Docs in a batch at most.
        discard_oversize: leave out a Doc that is larger than a batch; else it is one of its own.

    Raises:
        ValueError: if a setting is out of range, or there is no such vocabulary.
    """
    if isinstance(size, int) and size < 1:
        raise ValueError(f"[training.batcher] size must be at least 1 piece, got {size}")
    if not tokenizer:
        raise ValueError(
            "[training.batcher] tokenizer must name the encoder whose pieces are counted, a "
            "directory or hub id: tokenizer = ${components.bert.model.name}"
        )
    if max_docs is not None and max_docs < 1:
        raise ValueError(f"[training.batcher] max_docs must be at least 1, got {max_docs}")
    wordpiece: list[WordPiece] = []

    def batches(items: Iterable[Any]) -> Iterator[list[Any]]:
        if not wordpiece:  # not before it is needed: configs are resolved to be looked at, too
            wordpiece.append(WordPiece.load(find_checkpoint(tokenizer)))
        sizes = itertools.repeat(size) if isinstance(size, int) else iter(size)
        limit, filled = next(sizes), 0
        batch: list[Any] = []
        for item, pieces in _counted(items, wordpiece[0]):
            if pieces > limit and discard_oversize:
                continue
            if batch and (filled + pieces > limit or len(batch) == max_docs):
                yield batch
                batch, filled, limit = [], 0, next(sizes)
            batch.append(item)
            filled += pieces
        if batch:
            yield batch

    return batches


def _counted(items: Iterable[Any], wordpiece: WordPiece) -> Iterator[tuple[Any, int]]:
    """Each item with the pieces that the network will see of it."""
    stream = iter(items)
    options = LayoutOptions()
    while chunk := list(itertools.islice(stream, LOOKAHEAD)):
        docs = [item.predicted if isinstance(item, Example) else item for item in chunk]
        try:
            layouts = lay_out(docs, wordpiece, options)
        except ValueError:  # the encoder, which knows its own window, refuses what it cannot read
            for item, doc in zip(chunk, docs, strict=True):
                yield item, len(wordpiece.encode_ids([doc.text])[0])
            continue
        for item, layout in zip(chunk, layouts, strict=True):
            yield item, 0 if layout is None else sum(layout.lengths)


def build_batch_by_length(size: Iterable[int] | int, buffer: int = 4096) -> Batcher:
    """The batcher `spacy_bert.batch_by_length.v1`: texts of like length together.

    A recurrent layer takes as many steps as the longest text of a batch has tokens: over sentences,
    such batches make `spacy_bert.BiLSTM.v1` about 1.5 times as fast. The batches of a buffer come
    in random order, by the seed of `[training]`.

    Args:
        size: texts in a batch, a number or a schedule.
        buffer: texts that are sorted together; of equally long ones the order stays random.

    Raises:
        ValueError: if a setting is out of range.
    """
    if isinstance(size, int) and size < 1:
        raise ValueError(f"[training.batcher] size must be at least 1 text, got {size}")
    if buffer < 1:
        raise ValueError(f"[training.batcher] buffer must be at least 1 text, got {buffer}")

    def batches(items: Iterable[Any]) -> Iterator[list[Any]]:
        sizes = itertools.repeat(size) if isinstance(size, int) else iter(size)
        stream = iter(items)
        while chunk := list(itertools.islice(stream, buffer)):
            chunk.sort(key=_tokens)
            made, start = [], 0
            while start < len(chunk):
                end = start + next(sizes)
                made.append(chunk[start:end])
                start = end
            random.shuffle(made)
            yield from made

    return batches


def _tokens(item: Item) -> int:
    return len(item.predicted if isinstance(item, Example) else item)
