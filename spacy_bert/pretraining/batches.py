"""Packed batches: pairs laid out as `[CLS] A [SEP] B [SEP]`, to a fixed budget of pieces.

Everything is a function of the seed and of a batch's place: batch `i` of block `b` of epoch `e` is
the same in every run, whatever happened before it and whoever makes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from spacy_bert.bert import PackedBatch, positions_of, ranges
from spacy_bert.pretraining.masking import Masked, Masker, Masking
from spacy_bert.pretraining.pairs import Pairing, draw_pairs
from spacy_bert.pretraining.segment_pairs import Pairs
from spacy_bert.pretraining.shards import IntArray, Split
from spacy_bert.wordpiece import WordPiece

SPECIAL_PIECES = 3  # [CLS] and two [SEP]
SENTENCES_AT_A_TIME = 1 << 18  # pairs are drawn for about so many sentences, to bound memory

Objective = Literal["mlm+nsp", "mlm", "ltr"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
NSP_PAIRS = ("exchange", "reference")


class Place(NamedTuple):
    """Where a batch stands in the endless sequence of batches.

    Attributes:
        epoch: Counted from 0.
        block: Block of documents of the epoch.
        batch: Batch of the block; one past its end is in the next block.
    """

    epoch: int = 0
    block: int = 0
    batch: int = 0

    def __str__(self) -> str:
        """For messages."""
        return f"epoch {self.epoch}, block {self.block}, batch {self.batch}"


START = Place()


@dataclass(frozen=True, kw_only=True, eq=False)
class PreTrainingBatch:
    """A batch and what is to be predicted of it.

    Attributes:
        packed: The sequences, with masks in place.
        masked: Which pieces the network predicts from: flat indices into `packed.pieces`,
            (predictions,) int64.
        targets: What it must predict there, the ids that stood there or (`ltr`) those that follow,
            (predictions,) int64.
        is_random: NSP labels: 0 = B follows A, 1 = B is from another document, (sequences,) int64;
            None for objectives without next sentence prediction.
        place: Where the batch comes from.
    """

    packed: PackedBatch
    masked: Tensor
    targets: Tensor
    is_random: Tensor | None
    place: Place = START

    def to(self, device: torch.device) -> PreTrainingBatch:
        """The same batch on a device."""
        return replace(
            self,
            packed=self.packed.to(device),
            masked=self.masked.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            is_random=_moved(self.is_random, device),
        )

    def pin_memory(self) -> PreTrainingBatch:
        """The same batch in page-locked memory, from which copies to a GPU do not wait."""
        packed = self.packed
        return replace(
            self,
            packed=replace(
                packed,
                pieces=packed.pieces.pin_memory(),
                positions=packed.positions.pin_memory(),
                segments=packed.segments.pin_memory(),
            ),
            masked=self.masked.pin_memory(),
            targets=self.targets.pin_memory(),
            is_random=None if self.is_random is None else self.is_random.pin_memory(),
        )


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """The shape of a batch.

    Attributes:
        sequence_length: Most pieces of a sequence, [CLS] and [SEP] included.
        batch_pieces: Pieces of a batch, all of them real.
        short_share: Share of the sequences that are deliberately short.
        nsp_pairs: How random next sentences are drawn: `exchange` (balanced; lengths tell nothing)
            or `reference` (as Google's code does).
    """

    sequence_length: int = 128
    batch_pieces: int = 4096
    short_share: float = 0.1
    nsp_pairs: str = "exchange"

    def __post_init__(self) -> None:
        """Refuse impossible shapes.

        Raises:
            ValueError: Names the field.
        """
        if self.sequence_length < SPECIAL_PIECES + 2:
            raise ValueError(
                f"sequence_length must be at least {SPECIAL_PIECES + 2}, got {self.sequence_length}"
            )
        if self.batch_pieces < 2 * self.sequence_length:
            raise ValueError(
                f"batch_pieces must be at least twice the sequence_length "
                f"({self.sequence_length}), got {self.batch_pieces}"
            )
        if not 0.0 <= self.short_share <= 1.0:
            raise ValueError(f"short_share must be between 0 and 1, got {self.short_share}")
        if self.nsp_pairs not in NSP_PAIRS:
            raise ValueError(
                f"nsp_pairs must be one of {', '.join(NSP_PAIRS)}, got {self.nsp_pairs!r}"
            )

    @property
    def max_pieces(self) -> int:
        """Most pieces of A and B together."""
        return self.sequence_length - SPECIAL_PIECES


class BatchMaker:
    """Makes batches of one split. It can be sent to a process."""

    def __init__(
        self,
        split: Split,
        wordpiece: WordPiece,
        *,
        settings: BatchSettings,
        masking: Masking,
        seed: int,
        objective: Objective = "mlm+nsp",
    ) -> None:
        self._split = split
        self._cls_id, self._sep_id = wordpiece.cls_id, wordpiece.sep_id
        self._settings = settings
        self._masking = masking
        self._masker = Masker(masking, wordpiece)
        self._seed = seed
        self._objective = objective
        # Of objectives without next sentence prediction the pairs are the same, but for the label.
        self._pairing: Pairing = "consecutive"
        if objective == "mlm+nsp":
            self._pairing = "reference" if settings.nsp_pairs == "reference" else "exchange"

    def stream(
        self, start: Place = START, *, offset: int = 0, stride: int = 1
    ) -> Iterator[PreTrainingBatch]:
        """Yield batches from a place on, without end.

        Args:
            start: Of the first batch.
            offset: How many batches to leave out first.
            stride: Give only every so many-th batch; with `offset`, the share of one of several
                workers.
        """
        skip = start.batch + offset
        for epoch in count(start.epoch):
            blocks = self._blocks(epoch)
            for block in range(start.block if epoch == start.epoch else 0, len(blocks)):
                plan = self._plan(epoch, block, blocks[block])
                for number in range(skip, len(plan.borders), stride):
                    skip = number + stride
                    yield self._make(plan, Place(epoch, block, number))
                skip -= len(plan.borders)

    def epoch(self, number: int) -> Iterator[PreTrainingBatch]:
        """Yield the batches of one epoch: every document, in an order of its own."""
        for block, documents in enumerate(self._blocks(number)):
            plan = self._plan(number, block, documents)
            for batch in range(len(plan.borders)):
                yield self._make(plan, Place(number, block, batch))

    def whole_pairs(self, pairs: Pairs, rng: np.random.Generator) -> Iterator[PreTrainingBatch]:
        """Yield pairs in their order, untrimmed, in batches of nearly equal size within the budget.

        This is for evaluation: every pair once, as it is.
        """
        ends = np.cumsum(pairs.lengths + SPECIAL_PIECES)
        # A batch overshoots its even share by less than one sequence.
        room = self._settings.batch_pieces - self._settings.sequence_length
        number = math.ceil(int(ends[-1]) / room)
        borders = np.searchsorted(ends, np.arange(1, number) * (ends[-1] / number)) + 1
        for first, last in zip([0, *borders], [*borders, len(pairs)], strict=True):
            if first < last:
                yield self._lay_out(pairs.take(slice(first, last)), None, rng, START)

    def pairs(self, documents: IntArray, rng: np.random.Generator) -> Pairs:
        """Draw the pairs of some documents."""
        return draw_pairs(
            self._split,
            documents,
            max_pieces=self._settings.max_pieces,
            short_share=self._settings.short_share,
            rng=rng,
            pairing=self._pairing,
        )

    def _rng(self, *place: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=place))

    def _blocks(self, epoch: int) -> list[IntArray]:
        """The documents of an epoch in blocks of equal size, so that none is left too small."""
        documents = self._rng(epoch).permutation(self._split.document_count)
        blocks = math.ceil(self._split.sentence_count / SENTENCES_AT_A_TIME)
        return np.array_split(documents, blocks)

    def _plan(self, epoch: int, block: int, documents: IntArray) -> _Plan:
        """Draw the pairs of a block and say which of them stand in which batch."""
        rng = self._rng(epoch, block)
        pairs = self.pairs(documents, rng)
        pairs = pairs.take(rng.permutation(len(pairs)))
        lengths = pairs.lengths + SPECIAL_PIECES
        total, budget = int(lengths.sum()), self._settings.batch_pieces
        # The last batch is filled up with pairs that were used already: it gets other masks.
        repeats = math.ceil(math.ceil(total / budget) * budget / total) + 1
        ends = np.cumsum(np.tile(lengths, repeats))
        borders = []
        first, done = 0, 0
        while first < len(pairs):
            last = int(np.searchsorted(ends, done + budget)) + 1
            borders.append((first, last))
            first, done = last, int(ends[last - 1])
        ordinary = (total - SPECIAL_PIECES * len(pairs)) / total * budget
        return _Plan(pairs, borders, max(1, round(self._masking.share * ordinary)))

    def _make(self, plan: _Plan, place: Place) -> PreTrainingBatch:
        rng = self._rng(*place)
        first, last = plan.borders[place.batch]
        pairs = plan.pairs.take(np.arange(first, last) % len(plan.pairs))
        surplus = int((pairs.lengths + SPECIAL_PIECES).sum()) - self._settings.batch_pieces
        return self._lay_out(_shortened(pairs, surplus), plan.predictions, rng, place)

    def _lay_out(
        self, pairs: Pairs, predictions: int | None, rng: np.random.Generator, place: Place
    ) -> PreTrainingBatch:
        segments = np.stack([pairs.a, pairs.b], axis=1).reshape(-1, 2)  # A, B, A, B, ...
        sizes = segments[:, 1] - segments[:, 0]
        # Each A is preceded by [CLS], each segment followed by [SEP].
        spans = sizes + np.tile([2, 1], len(pairs))
        ends = np.cumsum(spans)
        total = int(ends[-1])
        maskable = ranges(ends - 1 - sizes, sizes)
        pieces = np.empty(total, dtype=np.int64)
        pieces[maskable] = self._split.pieces[ranges(segments[:, 0], sizes)]
        pieces[ends - 1] = self._sep_id
        pieces[(ends - spans)[::2]] = self._cls_id
        if self._objective == "ltr":
            masked = _following(pieces, ends[1::2])
        else:
            masked = self._masker(pieces, maskable, rng, count=predictions)
        lengths = tuple((spans[::2] + spans[1::2]).tolist())
        labels = torch.from_numpy(pairs.is_random.astype(np.int64))
        return PreTrainingBatch(
            packed=PackedBatch(
                pieces=torch.from_numpy(masked.pieces),
                positions=torch.from_numpy(positions_of(lengths)),
                segments=torch.from_numpy(np.repeat(np.tile([0, 1], len(pairs)), spans)),
                lengths=lengths,
            ),
            masked=torch.from_numpy(masked.positions),
            targets=torch.from_numpy(masked.targets),
            is_random=labels if self._objective == "mlm+nsp" else None,
            place=place,
        )


class _Plan(NamedTuple):
    """The batches of a block: pairs, first and last pair of each batch, and predictions in each."""

    pairs: Pairs
    borders: list[tuple[int, int]]
    predictions: int


def _following(pieces: IntArray, ends: IntArray) -> Masked:
    """From every piece but the last of a sequence predict the next one; nothing is hidden."""
    positions = np.delete(np.arange(len(pieces)), ends - 1)
    return Masked(pieces, positions, pieces[positions + 1])


def _shortened(pairs: Pairs, surplus: int) -> Pairs:
    """Pairs that have lost `surplus` pieces: the longest ones are cut down to one length.

    B loses its last pieces, A its first ones where B is no longer than half of the pair. A pair
    keeps at least a piece a segment.
    """
    if surplus <= 0:
        return pairs
    lengths = pairs.lengths
    order = np.argsort(-lengths, kind="stable")
    descending = lengths[order]
    # saved[i]: pieces lost if the i + 1 longest were cut to the length of the next.
    following = np.append(descending[1:], 2)
    saved = np.cumsum((descending - following) * np.arange(1, len(order) + 1))
    affected = min(int(np.searchsorted(saved, surplus)) + 1, len(order))
    target = int(descending[:affected].sum()) - surplus
    low, higher = divmod(max(target, 2 * affected), affected)
    shorter = lengths.copy()
    shorter[order[:affected]] = low
    shorter[order[:higher]] += 1
    a, b = pairs.a.copy(), pairs.b.copy()
    size_a, size_b = (spans[:, 1] - spans[:, 0] for spans in (a, b))
    kept_a = np.minimum(size_a, np.maximum(shorter - size_b, (shorter + 1) // 2))
    a[:, 0] = a[:, 1] - kept_a
    b[:, 1] = b[:, 0] + shorter - kept_a
    return replace(pairs, a=a, b=b, whole=pairs.whole & (shorter == lengths))


def _moved(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device, non_blocking=True)
