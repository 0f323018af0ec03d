"""Read a user's config for `spacy train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spacy.util import load_config
from thinc.api import Config


def read_train_config(
    file: Path, overrides: Mapping[str, Any] | None = None, *, interpolate: bool
) -> Config:
    """Read it, and turn what may be wrong into one line.

    Args:
        file: The config.
        overrides: Its fields by dotted name.
        interpolate: Whether to fill in its variables.

    Raises:
        ValueError: If it is missing or malformed; names the file.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such config file")
    try:
        config: Config = load_config(file, overrides=dict(overrides or {}), interpolate=interpolate)
    except ValueError as error:
        raise ValueError(f"{file}: {' '.join(str(error).split())}") from None
    return config
