"""Packed batches: pairs laid out as `[CLS] A [SEP] B [SEP]`, masked, up to a budget of pieces.

Everything is a function of the seed: batch `i` of epoch `e` is the same in every run, whatever
happened before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor

from spacy_bert.bert import PackedBatch, positions_of, ranges
from spacy_bert.pretraining.masking import Masker, Masking
from spacy_bert.pretraining.pairs import Pairs, draw_pairs
from spacy_bert.pretraining.shards import IntArray, Split
from spacy_bert.wordpiece import WordPiece

SPECIAL_PIECES = 3  # [CLS] and two [SEP]
SENTENCES_AT_A_TIME = 1 << 18  # pairs are drawn for about so many sentences, to bound memory


@dataclass(frozen=True, kw_only=True, eq=False)
class PreTrainingBatch:
    """A batch and what is to be predicted of it.

    Attributes:
        packed: The sequences, with masks in place.
        masked: Which pieces to predict: flat indices into `packed.pieces`, (masked,) int64.
        targets: The ids that stood there, (masked,) int64.
        is_random: NSP labels: 0 = B follows A, 1 = B is from another document, (sequences,) int64.
    """

    packed: PackedBatch
    masked: Tensor
    targets: Tensor
    is_random: Tensor

    def to(self, device: torch.device) -> PreTrainingBatch:
        """The same batch on a device."""
        return PreTrainingBatch(
            packed=self.packed.to(device),
            masked=self.masked.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            is_random=self.is_random.to(device, non_blocking=True),
        )


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """The shape of a batch.

    Attributes:
        sequence_length: Most pieces of a sequence, [CLS] and [SEP] included.
        batch_pieces: Most pieces of a batch; batches come close to it.
        short_share: Share of the sequences that are deliberately short.
    """

    sequence_length: int = 128
    batch_pieces: int = 4096
    short_share: float = 0.1

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

    @property
    def max_pieces(self) -> int:
        """Most pieces of A and B together."""
        return self.sequence_length - SPECIAL_PIECES


class BatchMaker:
    """Makes batches of one split."""

    def __init__(
        self,
        split: Split,
        wordpiece: WordPiece,
        *,
        settings: BatchSettings,
        masking: Masking,
        seed: int,
    ) -> None:
        self._split = split
        self._cls_id, self._sep_id = wordpiece.cls_id, wordpiece.sep_id
        self._settings = settings
        self._masker = Masker(masking, wordpiece)
        self._seed = seed

    def epochs(self) -> Iterator[PreTrainingBatch]:
        """Yield the batches of one epoch after another, without end."""
        for number in count():
            yield from self.epoch(number)

    def epoch(self, number: int) -> Iterator[PreTrainingBatch]:
        """Yield the batches of an epoch: every document once, in an order of its own."""
        documents = np.random.default_rng([self._seed, number]).permutation(
            self._split.document_count
        )
        # Blocks of equal size, so that no block is left with too few documents to pair.
        blocks = math.ceil(self._split.sentence_count / SENTENCES_AT_A_TIME)
        for block, members in enumerate(np.array_split(documents, blocks)):
            rng = np.random.default_rng([self._seed, number, block])
            pairs = self.pairs(members, rng)
            yield from self.batches(pairs.take(rng.permutation(len(pairs))), rng)

    def pairs(self, documents: IntArray, rng: np.random.Generator) -> Pairs:
        """Draw the pairs of some documents."""
        return draw_pairs(
            self._split,
            documents,
            max_pieces=self._settings.max_pieces,
            short_share=self._settings.short_share,
            rng=rng,
        )

    def batches(self, pairs: Pairs, rng: np.random.Generator) -> Iterator[PreTrainingBatch]:
        """Yield pairs in their order, in batches of nearly equal size within the budget."""
        ends = np.cumsum(pairs.lengths + SPECIAL_PIECES)
        # A batch overshoots its even share by less than one sequence.
        room = self._settings.batch_pieces - self._settings.sequence_length
        number = math.ceil(int(ends[-1]) / room)
        borders = np.searchsorted(ends, np.arange(1, number) * (ends[-1] / number)) + 1
        for first, last in zip([0, *borders], [*borders, len(pairs)], strict=True):
            if first < last:
                yield self._lay_out(pairs.take(slice(first, last)), rng)

    def _lay_out(self, pairs: Pairs, rng: np.random.Generator) -> PreTrainingBatch:
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
        masked = self._masker(pieces, maskable, rng)
        lengths = tuple((spans[::2] + spans[1::2]).tolist())
        return PreTrainingBatch(
            packed=PackedBatch(
                pieces=torch.from_numpy(masked.pieces),
                positions=torch.from_numpy(positions_of(lengths)),
                segments=torch.from_numpy(np.repeat(np.tile([0, 1], len(pairs)), spans)),
                lengths=lengths,
            ),
            masked=torch.from_numpy(masked.positions),
            targets=torch.from_numpy(masked.targets),
            is_random=torch.from_numpy(pairs.is_random.astype(np.int64)),
        )
