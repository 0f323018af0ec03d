"""What a run tells while it runs: a JSONL file, a progress bar, and losses without a wait."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TextIO

import torch
from torch import Tensor
from tqdm import tqdm

from spacy_bert.files import replacing
from spacy_bert.pretraining.batches import Place, PreTrainingBatch
from spacy_bert.pretraining.checkpoints import Progress
from spacy_bert.pretraining.distributed import Process
from spacy_bert.pretraining.objective import Losses
from spacy_bert.pretraining.tracking import Tracker

_QUIET_SECONDS = 60.0  # without a bar, a line is printed at least so often


class Means(NamedTuple):
    """Means over the steps since the last line of the log.

    Attributes:
        loss: Sum of the losses.
        mlm: Language model, nats a prediction.
        nsp: Next sentence prediction, nats a pair; 0 for objectives without it.
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

    def __init__(self, process: Process) -> None:
        self._process = process
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._places: list[tuple[int, Place]] = []
        self._pieces = 0
        self._started = time.perf_counter()

    def add_batch(self, losses: Losses, step: int, batch: PreTrainingBatch) -> None:
        """Note the losses of a batch."""
        nsp = torch.zeros_like(losses.mlm) if losses.nsp is None else losses.nsp
        self._losses.append(torch.stack([losses.mlm.detach(), nsp.detach()]).float())
        self._places.append((step, batch.place))
        self._pieces += len(batch.packed.pieces) * self._process.world_size

    def add_step(self, gradient_norm: Tensor) -> None:
        """Note an update."""
        self._norms.append(gradient_norm.detach().float())

    def read(self, progress: Progress) -> Means:
        """Means over what was noted since the last call; time and pieces go to `progress`.

        Raises:
            FloatingPointError: If a loss or gradient norm is not finite; names the first step and
                its batch.
        """
        rows = torch.cat([torch.stack(self._losses).sum(1), torch.stack(self._norms)])
        finite = rows.isfinite().cpu()
        if self._process.any(not bool(finite.all())):
            self._report(finite.tolist())
        mlm, nsp = self._process.mean(torch.stack(self._losses).mean(0)).tolist()
        norm = torch.stack(self._norms).mean().item()
        seconds = time.perf_counter() - self._started
        means = Means(mlm + nsp, mlm, nsp, norm, self._pieces / seconds)
        progress.pieces += self._pieces
        progress.seconds += seconds
        self.restart()
        return means

    def restart(self) -> None:
        """Forget what was noted and start the clock, e.g. after an evaluation."""
        self._losses.clear()
        self._norms.clear()
        self._places.clear()
        self._pieces = 0
        self._started = time.perf_counter()

    def _report(self, finite: list[bool]) -> None:
        advice = (
            "nothing was saved since the last checkpoint; begin anew with a lower [training] "
            "learning_rate or max_gradient_norm, or name that checkpoint in [model] checkpoint"
        )
        for (step, place), good in zip(self._places, finite, strict=False):
            if not good:
                raise FloatingPointError(
                    f"step {step}: the loss is not finite, at the batch of {place}; {advice}"
                )
        last = self._places[-1][0]
        norms = finite[len(self._places) :]
        step = last - len(norms) + 1 + (norms.index(False) if False in norms else 0)
        raise FloatingPointError(f"step {step}: the gradient norm is not finite; {advice}")


class TrainingLog:
    """Writes `log.jsonl` line by line, tells trackers, and keeps a progress bar.

    Where there is no terminal for a bar, a line is printed now and then.

    Of several processes only the main one has a file and a bar.
    """

    def __init__(
        self,
        file: Path,
        *,
        first_step: int,
        steps: int,
        process: Process,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        """Open the log; lines behind `first_step`, of a run that goes on, are dropped."""
        self._stream: TextIO | None = None
        if process.is_main:
            file.parent.mkdir(parents=True, exist_ok=True)
            kept = _lines_until(file, first_step)
            with replacing(file) as temporary:
                temporary.write_text("".join(kept), encoding="utf8")
            self._stream = file.open("a", encoding="utf8")
        self._bar = tqdm(
            total=steps,
            initial=first_step,
            unit="step",
            disable=None if process.is_main else True,
            dynamic_ncols=True,
        )
        self._is_main = process.is_main
        self._trackers = trackers
        self._said = time.monotonic()

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
        if self._stream is not None:
            self._stream.close()
        self._bar.close()
        for tracker in self._trackers:
            tracker.close()

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a line of figures at a step."""
        if self._stream is not None:
            self._stream.write(json.dumps({"step": step, **figures}) + "\n")
            self._stream.flush()
            for tracker in self._trackers:
                tracker.add(step, figures)
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in figures.items()})
            is_quiet = self._bar.disable and time.monotonic() - self._said > _QUIET_SECONDS
            if is_quiet and "loss" in figures:
                self.say(
                    f"step {step:>7,}  loss {figures['loss']:.3f}, "
                    f"{figures['pieces_per_second']:,.0f} pieces/s"
                )

    def advance(self) -> None:
        """Move the bar by one step."""
        self._bar.update()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._is_main:
            self._bar.write(line)
            self._said = time.monotonic()


def _lines_until(file: Path, step: int) -> list[str]:
    """The lines of a log up to a step; a line that was cut off is dropped."""
    kept = []
    if step and file.is_file():
        for line in file.read_text(encoding="utf8").splitlines(keepends=True):
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError):
                continue
    return kept
