"""Losses and scores of `spacy train` in TensorBoard, beside spaCy's table."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from spacy.language import Language
from spacy.util import registry

LogStep = Callable[[dict[str, Any] | None], None]
Logger = Callable[..., tuple[LogStep, Callable[[], None]]]


def build_tensorboard_logger(folder: str, progress_bar: str | None = None) -> Logger:
    """The logger `spacy_bert.TensorBoardLogger.v1`: what spaCy's table says, as curves.

    At each evaluation the loss of each component, every number among the scores and the weighted
    score are written under `loss/`, `score/` and `score`, as they are (spaCy's table has percent).

    Args:
        folder: directory of the event files, such as "training/tensorboard"; each training needs
            one of its own below the directory that `tensorboard --logdir` is given.
        progress_bar: as in `spacy.ConsoleLogger.v3`: "train", "eval" or null.

    Raises:
        ValueError: if tensorboard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError(
            "[training.logger] spacy_bert.TensorBoardLogger.v1 needs the package tensorboard, "
            "which is not installed: pip install tensorboard"
        )
    console = registry.get("loggers", "spacy.ConsoleLogger.v3")(progress_bar)

    def setup(
        nlp: Language, stdout: IO[str] = sys.stdout, stderr: IO[str] = sys.stderr
    ) -> tuple[LogStep, Callable[[], None]]:
        from torch.utils.tensorboard import SummaryWriter

        print_step, print_end = console(nlp, stdout, stderr)
        writer = SummaryWriter(str(Path(folder)))

        def log_step(info: dict[str, Any] | None) -> None:
            print_step(info)
            if info is None:  # no evaluation at this step
                return
            figures = {f"loss/{name}": float(loss) for name, loss in info["losses"].items()}
            for name, value in info["other_scores"].items():
                if isinstance(value, (int, float)):
                    figures[f"score/{name}"] = float(value)
            for name, value in {**figures, "score": float(info["score"])}.items():
                writer.add_scalar(name, value, info["step"])
            writer.flush()

        def finish() -> None:
            print_end()
            writer.close()

        return log_step, finish

    return setup
