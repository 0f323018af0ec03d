"""The directory of a pre-training run: what stands in it, and what may be deleted for a new run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from spacy_bert.pretraining.checkpoints import FOLDER
from spacy_bert.pretraining.config import PretrainConfig
from spacy_bert.pretraining.shards import MANIFEST_FILE

CONFIG_FILE = "config.cfg"
LOG_FILE = "log.jsonl"
METRICS_FILE = "metrics.json"
LAST, BEST = "model-last", "model-best"


def clear_earlier_run(
    output: Path, config: PretrainConfig, *, overwrite: bool, resume: bool
) -> None:
    """Make sure that old results never stand beside new ones, and that nothing else is lost.

    Args:
        output: Of the run that is about to begin.
        config: Of that run.
        overwrite: Delete what an earlier run left.
        resume: Delete it if it has learned nothing yet.

    Raises:
        ValueError: If what stands there must stay; says what can be done.
    """
    if (output / MANIFEST_FILE).exists():
        raise ValueError(f"{output}: holds shards; name another directory for the run")
    old = [output / name for name in (LOG_FILE, METRICS_FILE, LAST, BEST, FOLDER)]
    old = [path for path in old if path.exists()]
    own = output / CONFIG_FILE
    if own.exists() and not (output / LOG_FILE).exists() and own.read_text("utf8") != config.text:
        raise ValueError(f"{own}: is of no earlier run; name another directory for this one")
    if resume and _has_learned(output):
        raise ValueError(
            f"{output}: holds what an earlier run has learned, but no checkpoint to go on from; "
            "name another directory, or pass --overwrite to delete it"
        )
    start = config.checkpoint
    if start is not None and any(start.resolve().is_relative_to(path.resolve()) for path in old):
        raise ValueError(
            f"[model] checkpoint {start} would be deleted with the earlier run in {output}; "
            "name another directory"
        )
    if old and not (overwrite or resume):
        names = ", ".join(path.name for path in old)
        raise ValueError(
            f"{output}: holds an earlier run ({names}); name another directory, or pass --resume "
            "to go on with it or --overwrite to delete it"
        )
    for path in old:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _has_learned(output: Path) -> bool:
    """Whether results stand there that a run has come to: more than it was begun with."""
    if (output / METRICS_FILE).exists():
        return True
    if not any((output / name).exists() for name in (LAST, BEST)):
        return False
    if not (output / LOG_FILE).exists():  # nobody knows what it is
        return True
    with (output / LOG_FILE).open(encoding="utf8") as lines:
        return any(_is_later_figure(line) for line in lines)


def _is_later_figure(line: str) -> bool:
    """Whether a line of the log is a figure of the development set after step 0."""
    if '"dev_mlm"' not in line:
        return False
    try:
        return bool(json.loads(line)["step"] > 0)
    except json.JSONDecodeError:  # the last line, cut off as the power went: nobody knows
        return True
