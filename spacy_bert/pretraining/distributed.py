"""Several devices: one process each, started by `torchrun`, joined by DistributedDataParallel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Process:
    """This process among those of the run.

    Attributes:
        rank: Its number; 0 writes files and speaks.
        world_size: How many there are.
        device: Where it computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over all processes; every one has to call it."""
        if self.world_size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total / self.world_size

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in some process; every one has to call it."""
        if self.world_size == 1:
            return flag
        return bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0)

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def joined(device: str) -> Iterator[Process]:
    """Join the processes that `torchrun` started; without it there is this one alone.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:1`. Under `torchrun` each process takes the GPU of
            its local rank.

    Raises:
        ValueError: If there is no such device.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Process(0, 1, select_device(device))
        return
    chosen = select_device(device)
    if chosen.type == "cuda":
        chosen = select_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Process(dist.get_rank(), world_size, chosen)
    finally:
        dist.destroy_process_group()


def select_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA if there is one, else the CPU.

    Raises:
        ValueError: If torch knows no such device or it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"[training] device {name!r} is unknown; use auto, cpu or cuda") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"[training] device {name!r}: there is no such device; use auto or cpu")
    return device
