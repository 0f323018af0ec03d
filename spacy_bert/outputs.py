"""Where results may be written: what a user has there is not overwritten unasked."""

from __future__ import annotations

from pathlib import Path

from spacy_bert.mistaken import CHECKPOINT_FILES, is_pipeline
from spacy_bert.wordpiece import SETTINGS_FILE, TOKENIZER_FILE, VOCABULARY_FILE

_TOKENIZER_FILES = (VOCABULARY_FILE, TOKENIZER_FILE, SETTINGS_FILE)
_MODEL_FILES = (*CHECKPOINT_FILES, "model.safetensors", "pytorch_model.bin")


def refuse_file(directory: Path) -> None:
    """Refuse a file where a directory is to be written.

    Raises:
        ValueError: Names the file.
    """
    for path in (directory, *directory.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path}: is a file; name a directory")


def refuse_tokenizer_output(directory: Path, *, overwrite: bool) -> None:
    """Refuse a directory that a new tokenizer would spoil.

    Args:
        directory: Need not be there.
        overwrite: Whether a tokenizer may be replaced. That of a model never is: the weights go
            with its vocabulary.

    Raises:
        ValueError: Says what stands there.
    """
    refuse_file(directory)
    model = [name for name in _MODEL_FILES if (directory / name).exists()]
    if model or is_pipeline(directory):
        found = ", ".join(model) or "a spaCy pipeline"
        raise ValueError(
            f"{directory}: holds a model ({found}), which goes with its own vocabulary; name "
            "another directory"
        )
    tokenizer = [name for name in _TOKENIZER_FILES if (directory / name).exists()]
    if tokenizer and not overwrite:
        raise ValueError(
            f"{directory}: a tokenizer is there already ({', '.join(tokenizer)}); name another "
            "directory, or give --overwrite"
        )
