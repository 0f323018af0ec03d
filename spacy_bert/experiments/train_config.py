"""Users' configs for `spacy train`: read them, refuse what would be passed over, set the steps."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spacy.util import load_config, load_model_from_config
from thinc.api import Config

WARMUP = 0.1  # share of the steps, where the config's own schedule does not say


def read_train_config(
    file: Path, overrides: Mapping[str, Any] | None = None, *, interpolate: bool
) -> Config:
    """Read it, and turn what may be wrong into one line.

    Args:
        file: The config.
        overrides: Its fields by dotted name.
        interpolate: Whether to fill in its variables.

    Raises:
        ValueError: If it is missing or malformed, or has no field of an override; names the file.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such config file")
    try:
        plain = load_config(file, interpolate=False)
        config: Config = load_config(file, overrides=dict(overrides or {}), interpolate=interpolate)
    except ValueError as error:
        raise ValueError(f"{file}: {' '.join(str(error).split())}") from None
    _require_fields(file, plain, overrides or {})
    return config


def require_corpora(file: Path, config: Config) -> None:
    """Refuse corpora without files, before anything is done.

    Args:
        file: The config's, for the message.
        config: With its variables filled in.

    Raises:
        ValueError: Names the corpus, and what to give.
    """
    training = config.get("training", {})
    for split in ("train", "dev"):
        corpus = str(training.get(f"{split}_corpus", "")).rpartition(".")[2]
        block = config.get("corpora", {}).get(corpus)
        if not isinstance(block, Mapping) or "path" not in block:
            continue
        if not block["path"]:
            raise ValueError(f"{file}: [corpora.{corpus}] path is empty: give --paths.{split} FILE")
        if not Path(str(block["path"])).exists():
            raise ValueError(f"{file}: [corpora.{corpus}] path: {block['path']} does not exist")


def set_schedule(training: dict[str, Any], steps: int) -> None:
    """Let the learning rate rise and fall over so many steps, with its share of warm-up.

    A rate that is a number, or a schedule without an end, stays as it is.
    """
    schedule = training["optimizer"].get("learn_rate")
    if not isinstance(schedule, dict) or "total_steps" not in schedule:
        return
    total, warmup = schedule["total_steps"], schedule["warmup_steps"]
    share = warmup / total if total > 1 else WARMUP
    schedule["total_steps"], schedule["warmup_steps"] = steps, int(share * steps)


def _require_fields(file: Path, config: Config, overrides: Mapping[str, Any]) -> None:
    """Refuse overrides of nothing: spaCy would take them, and change nothing.

    Raises:
        ValueError: Names the field, and the one that may have been meant.
    """
    unknown = [name for name in overrides if name not in set(_fields(config))]
    if not unknown:
        return
    try:
        filled = load_model_from_config(config, auto_fill=True).config
    except ValueError:
        filled = config  # what is wrong with it shows when it is trained
    known = list(_fields(filled))
    for name in unknown:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean --{close[0]}?" if close else ""
            raise ValueError(f"{file}: has no field {name}, which --{name} would set{hint}")


def _fields(block: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The dotted names of all fields, of sections too."""
    for key, value in block.items():
        yield f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _fields(value, f"{before}{key}.")
