"""Where a checkpoint is: a local directory, or a repository of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

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
    try:
        folder = Path(snapshot_download(str(name), allow_patterns=list(FILES)))
        if not list(folder.glob("model*.safetensors*")):
            folder = Path(
                snapshot_download(str(name), allow_patterns=[*FILES, "pytorch_model.bin"])
            )
    except HFValidationError:
        raise ValueError(f"{name}: no such directory, and not the id of a hub repository") from None
    except Exception as error:  # the hub client raises many kinds, all of which mean "not there"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{name}: no such directory, and not to be had from the Hugging Face Hub ({reason})"
        ) from None
    return folder
