"""What a result depends on, kept beside it, so that nothing is done twice and nothing is stale."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spacy_bert.files import replacing

INPUTS_FILE = "inputs.json"


def is_done(directory: Path, inputs: Mapping[str, Any], result: Path) -> bool:
    """Whether a result stands; if not, the directory is made ready for it.

    What was begun with the same inputs is left, to be gone on with; with others it is removed.

    Args:
        directory: Of the work; `inputs.json` is written to it before the work begins.
        inputs: All that the result depends on.
        result: File that is written when the work has ended.

    Raises:
        ValueError: If the directory holds something that was not made so.
    """
    inputs, file = json.loads(json.dumps(inputs)), directory / INPUTS_FILE
    if directory.exists() and any(directory.iterdir()):
        if not file.is_file():
            raise ValueError(f"{directory}: was not made here; name another --output")
        try:
            is_same = json.loads(file.read_text(encoding="utf8")) == inputs
        except ValueError:
            is_same = False
        if is_same and result.is_file():
            return True
        if not is_same:
            shutil.rmtree(directory)
    result.unlink(missing_ok=True)
    with replacing(file) as temporary:
        # Not srsly: it writes 1e-12 as 0.0.
        temporary.write_text(json.dumps(inputs, indent=2) + "\n", encoding="utf8")
    return False


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
