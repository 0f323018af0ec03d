"""What a result depends on, kept beside it, so that nothing is done twice and nothing is stale."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spacy_bert.files import replacing

logger = logging.getLogger("spacy_bert")

INPUTS_FILE = "inputs.json"


def is_done(directory: Path, inputs: Mapping[str, Any], result: Path) -> bool:
    """Whether a result stands; if not, the directory is made ready for it.

    What was begun with the same inputs is left, to be gone on with. What was finished with others
    is moved to `<directory>.old`, which may have cost hours; what was only begun is removed.

    Args:
        directory: Of the work; `inputs.json` is written to it before the work begins.
        inputs: All that the result depends on.
        result: File that is written when the work has ended.

    Raises:
        ValueError: If the directory holds something that was not made so.
    """
    if is_recorded(directory, inputs):
        if result.is_file():
            return True
    elif result.is_file():
        _set_aside(directory, result)
    elif directory.exists():
        shutil.rmtree(directory)
    record(directory, inputs)
    return False


def is_recorded(directory: Path, inputs: Mapping[str, Any]) -> bool:
    """Whether what a directory holds was made, or begun, of these inputs.

    Raises:
        ValueError: If it holds something that was not made so.
    """
    if directory.is_file():
        raise ValueError(f"{directory}: is a file; name a directory")
    if not directory.exists() or not any(directory.iterdir()):
        return False
    file = directory / INPUTS_FILE
    if not file.is_file():
        raise ValueError(f"{directory}: was not made here; name another --output")
    try:
        found = json.loads(file.read_text(encoding="utf8"))
    except ValueError:
        return False
    return bool(found == json.loads(json.dumps(inputs)))


def _set_aside(directory: Path, result: Path) -> None:
    old = directory.with_name(f"{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)  # a result without its directory is kept too
    if not result.is_relative_to(directory):
        result.replace(directory / result.name)
    directory.replace(old)
    logger.warning("%s was made of other inputs: done anew, the old one is in %s", directory, old)


def record(directory: Path, inputs: Mapping[str, Any]) -> None:
    """Note what a directory is made of."""
    with replacing(directory / INPUTS_FILE) as temporary:
        # Not srsly: it writes 1e-12 as 0.0.
        temporary.write_text(json.dumps(inputs, indent=2) + "\n", encoding="utf8")


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a directory and their names.

    Raises:
        FileNotFoundError: If it is missing.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(path)}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    return total.hexdigest()
