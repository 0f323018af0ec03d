"""What a run tells while it runs: a JSONL file, a progress bar, and losses without a wait."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from spacy_bert.pretraining.objective import Losses


class Means(NamedTuple):
    """Means over the steps since the last line of the log.

    Attributes:
        loss: Sum of both losses.
        mlm: Masked language model, nats a masked piece.
        nsp: Next sentence prediction, nats a pair.
        gradient_norm: Global norm before clipping.
        pieces_per_second: Real pieces (there is no padding) a second of training.
    """

    loss: float
    mlm: float
    nsp: float
    gradient_norm: float
    pieces_per_second: float


class Meter:
    """Collects figures of the steps on the device and reads them only when a line is due.

    Reading a figure waits for the device; doing so at every step would leave it idle.
    """

    def __init__(self) -> None:
        self._figures: list[Tensor] = []
        self._pieces = 0
        self._seconds = 0.0
        self._total_pieces = 0
        self._total_seconds = 0.0
        self._started = time.perf_counter()

    def add(self, losses: Losses, gradient_norm: Tensor, pieces: int) -> None:
        """Note a step."""
        figures = [losses.total, losses.mlm, losses.nsp, gradient_norm]
        self._figures.append(torch.stack([figure.detach().float() for figure in figures]))
        self._pieces += pieces

    def read(self, step: int) -> Means:
        """Means over the steps noted since the last call, of which `step` is the last one.

        Raises:
            FloatingPointError: If a loss or gradient norm is not finite; names the first step.
        """
        rows = torch.stack(self._figures).cpu()
        seconds = time.perf_counter() - self._started
        for number, row in enumerate(rows.tolist(), start=step - len(rows) + 1):
            if not all(map(math.isfinite, row)):
                raise FloatingPointError(
                    f"step {number}: the loss is {row[0]} and the gradient norm {row[3]}; lower "
                    "[training] learning_rate (a checkpoint, if there is one, is from before)"
                )
        loss, mlm, nsp, norm = rows.mean(0).tolist()
        means = Means(loss, mlm, nsp, norm, self._pieces / seconds)
        self._total_pieces += self._pieces
        self._total_seconds += seconds
        self.restart()
        return means

    def restart(self) -> None:
        """Forget what was noted and start the clock, e.g. after an evaluation."""
        self._figures.clear()
        self._pieces = 0
        self._started = time.perf_counter()

    @property
    def pieces_per_second(self) -> float:
        """Real pieces a second of training, over all steps read so far."""
        return self._total_pieces / self._total_seconds


class TrainingLog:
    """Writes `log.jsonl` line by line and keeps a progress bar (only on a terminal)."""

    def __init__(self, file: Path, *, steps: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream = file.open("w", encoding="utf8")
        self._bar = tqdm(total=steps, unit="step", disable=None, dynamic_ncols=True)

    def __enter__(self) -> TrainingLog:
        """Give the log itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file and the bar."""
        self._stream.close()
        self._bar.close()

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a line of figures at a step."""
        self._stream.write(json.dumps({"step": step, **figures}) + "\n")
        self._stream.flush()
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in figures.items()})

    def advance(self) -> None:
        """Move the bar by one step."""
        self._bar.update()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line)
