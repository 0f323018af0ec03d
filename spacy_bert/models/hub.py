"""Where a checkpoint is: a local directory, or a repository of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

FILES = (
    "config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
)


def find_checkpoint(name: str | Path) -> Path:
    """The local directory of a checkpoint; a hub id ("bert-base-uncased") is downloaded once.

    Raises:
        ValueError: if `name` is neither a directory nor a repository that can be reached.
    """
    path = Path(name)
    if path.is_dir():
        return path
    refuse_path(str(name))
    try:
        folder = Path(snapshot_download(str(name), allow_patterns=list(FILES)))
        if not list(folder.glob("model*.safetensors*")):
            folder = Path(
                snapshot_download(str(name), allow_patterns=[*FILES, "pytorch_model.bin"])
            )
    except Exception as error:  # the hub client raises many kinds, all of which mean "not there"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{name}: no such directory, and not to be had from the Hugging Face Hub ({reason})"
        ) from None
    return folder


def refuse_path(name: str) -> None:
    """Refuse a name that is no directory and can be no hub id, or is rather a mistyped path.

    Raises:
        ValueError: says why it is not looked for in the hub.
    """
    path = Path(name)
    if path.is_file():
        raise ValueError(f"{name}: is a file; expected a checkpoint directory or a hub id")
    if name.startswith("~"):
        raise ValueError(f"{name}: no such directory (~ is not expanded: write the path in full)")
    if name.startswith((".", "/")) or name.count("/") > 1:
        raise ValueError(f"{name}: no such directory")
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise ValueError(f"{name}: no such directory, and not like a hub id") from None
