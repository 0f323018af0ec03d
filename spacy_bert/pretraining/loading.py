"""Batches made ahead of the device by worker processes, in the same order whatever their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from spacy_bert.bert import PackedBatch
from spacy_bert.pretraining.batches import BatchMaker, Place, PreTrainingBatch

_AHEAD = 4  # batches that each worker keeps ready


def load_batches(
    maker: BatchMaker,
    start: Place,
    *,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> Iterator[PreTrainingBatch]:
    """Yield the batches of one rank from a place on, without end.

    Batch `i` behind the start goes to rank `i % world_size`.

    Args:
        maker: Makes them.
        start: Of the first batch over all ranks.
        workers: Processes that make them ahead; 0 makes each in this process when it is wanted.
        rank: Which share is wanted.
        world_size: Into how many shares the batches are divided.
        pin_memory: Give them in page-locked memory.
    """
    if workers == 0:
        batches = maker.stream(start, offset=rank, stride=world_size)
        return map(PreTrainingBatch.pin_memory, batches) if pin_memory else batches
    loader = DataLoader(
        _Stream(maker, start, rank, world_size),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_AHEAD,
        pin_memory=pin_memory,
        # Spawned, not forked: this process may hold threads and a CUDA context.
        multiprocessing_context="spawn",
    )
    return map(_Parcel.unwrap, loader)


class _Parcel(NamedTuple):
    """A batch as one tensor: each tensor on its way from a worker costs as much as making it."""

    numbers: Tensor
    sizes: tuple[int, ...]
    has_nsp: bool
    place: Place

    @classmethod
    def wrap(cls, batch: PreTrainingBatch) -> _Parcel:
        """Lay the parts of a batch end to end."""
        packed = batch.packed
        lengths = torch.tensor(packed.lengths)
        parts = [packed.pieces, packed.positions, packed.segments, batch.masked, batch.targets]
        parts += [lengths] if batch.is_random is None else [lengths, batch.is_random]
        sizes = tuple(len(part) for part in parts)
        return cls(torch.cat(parts), sizes, batch.is_random is not None, batch.place)

    def unwrap(self) -> PreTrainingBatch:
        """The batch, its tensors views of the one that came."""
        parts = torch.split(self.numbers, list(self.sizes))
        pieces, positions, segments, masked, targets, lengths = parts[:6]
        return PreTrainingBatch(
            packed=PackedBatch(
                pieces=pieces,
                positions=positions,
                segments=segments,
                lengths=tuple(lengths.tolist()),
            ),
            masked=masked,
            targets=targets,
            is_random=parts[6] if self.has_nsp else None,
            place=self.place,
        )


class _Stream(IterableDataset[_Parcel]):
    """What each worker does: every so many-th batch. The loader asks the workers in turn."""

    def __init__(self, maker: BatchMaker, start: Place, rank: int, world_size: int) -> None:
        self._maker = maker
        self._start = start
        self._rank = rank
        self._world_size = world_size

    def __iter__(self) -> Iterator[_Parcel]:
        """Yield the batches of this worker."""
        info = get_worker_info()
        number, workers = (0, 1) if info is None else (info.id, info.num_workers)
        torch.set_num_threads(1)
        batches = self._maker.stream(
            self._start,
            offset=self._rank + self._world_size * number,
            stride=self._world_size * workers,
        )
        return map(_Parcel.wrap, batches)
