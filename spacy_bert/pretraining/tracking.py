"""Figures of a run to TensorBoard and Weights & Biases, for those who watch them there."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spacy_bert.files import replacing

TENSORBOARD_FOLDER = "tensorboard"
WANDB_ID_FILE = "wandb_id"


@dataclass(frozen=True, kw_only=True)
class TrackingSettings:
    """Section `[tracking]`: where the figures go beside `log.jsonl`.

    Attributes:
        tensorboard: Write them to `OUTPUT/tensorboard`; needs the package tensorboard.
        wandb_project: Send them to this project of Weights & Biases, the run being named as
            OUTPUT; needs the package wandb, and `wandb login` or WANDB_MODE=offline.
    """

    tensorboard: bool = False
    wandb_project: str = ""

    def __post_init__(self) -> None:
        """Refuse what is not installed, before anything is done.

        Raises:
            ValueError: Names the field and the package.
        """
        wanted = {"tensorboard": self.tensorboard, "wandb": bool(self.wandb_project)}
        for (package, is_wanted), field in zip(wanted.items(), vars(self), strict=True):
            if is_wanted and importlib.util.find_spec(package) is None:
                raise ValueError(
                    f"{field} needs the package {package}, which is not installed: "
                    f"pip install {package}"
                )


class Tracker(Protocol):
    """A place for figures."""

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Note the figures of a step."""

    def close(self) -> None:
        """Send or write what is left."""


def start_trackers(settings: TrackingSettings, output: Path, *, first_step: int) -> list[Tracker]:
    """Open the trackers that the settings name.

    Args:
        settings: Which ones.
        output: Directory of the run.
        first_step: Where the run goes on; later figures of an interrupted run are dropped or
            written anew.
    """
    trackers: list[Tracker] = []
    if settings.tensorboard:
        trackers.append(_TensorBoard(output, first_step))
    if settings.wandb_project:
        trackers.append(_WandB(settings.wandb_project, output, first_step))
    return trackers


class _TensorBoard:
    def __init__(self, output: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(
            str(output / TENSORBOARD_FOLDER), purge_step=first_step + 1 if first_step else None
        )

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, project: str, output: Path, first_step: int) -> None:
        import wandb

        file = output / WANDB_ID_FILE
        known = file.read_text(encoding="utf8").strip() if first_step and file.is_file() else None
        self._run = wandb.init(
            project=project, name=output.name, id=known, resume="allow", dir=str(output)
        )
        with replacing(file) as temporary:
            temporary.write_text(self._run.id, encoding="utf8")

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()
