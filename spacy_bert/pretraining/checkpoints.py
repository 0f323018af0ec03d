"""Checkpoints from which a run goes on as if it had never stopped.

`checkpoints/step-00001000` is a Hugging Face directory (weights with heads, tokenizer) with two
more files: `optimizer.safetensors`, Adam's means, and `state.json`, where the run stands. It is
written under another name and renamed, so that a directory of that name is always complete. All
chance of a step comes from the seed and the step's number: there is no random state to be kept.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.optim import AdamW

from spacy_bert.bert import BertForPreTraining, load_pretraining, save_pretrained
from spacy_bert.files import replacing_directory
from spacy_bert.pretraining.batches import START, Place
from spacy_bert.wordpiece import WordPiece

FOLDER = "checkpoints"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"

_PREFIX = "step-"
_MEANS = ("exp_avg", "exp_avg_sq")


@dataclass(kw_only=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Updates done.
        place: Of the first batch that was not yet used, in the present phase.
        lowest: Lowest dev MLM loss of the phase so far.
        pieces: Real pieces trained on.
        seconds: Time that took, without evaluations.
    """

    step: int = 0
    place: Place = START
    lowest: float = float("inf")
    pieces: int = 0
    seconds: float = 0.0


def save_checkpoint(
    output: Path,
    model: BertForPreTraining,
    optimizer: AdamW,
    wordpiece: WordPiece,
    progress: Progress,
    settings: dict[str, Any],
    *,
    keep: int,
) -> Path:
    """Write a checkpoint, then delete all but the newest `keep`.

    Raises:
        OSError: If it cannot be written; the earlier ones are then as they were.
    """
    directory = output / FOLDER / f"{_PREFIX}{progress.step:08d}"
    names = _names(model)
    tensors = {
        f"{mean}.{names[parameter]}": optimizer.state[parameter][mean].cpu()
        for group in optimizer.param_groups
        for parameter in group["params"]
        for mean in _MEANS
        if mean in optimizer.state[parameter]
    }
    try:
        with replacing_directory(directory) as temporary:
            write_model(model, wordpiece, temporary)
            save_file(tensors, temporary / OPTIMIZER_FILE)
            state = {"progress": asdict(progress), "settings": settings}
            (temporary / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n", "utf8")
    except OSError as error:
        raise OSError(
            f"{directory}: the checkpoint could not be written ({error}); earlier ones are "
            "complete: make room, then go on with --resume"
        ) from error
    for old in find_checkpoints(output)[:-keep]:
        shutil.rmtree(old)
    return directory


def write_model(model: BertForPreTraining, wordpiece: WordPiece, directory: Path) -> None:
    """Write a Hugging Face directory: network with both heads, and tokenizer."""
    wordpiece.save(directory, model_max_length=model.config.max_position_embeddings)
    save_pretrained(model, directory)


def find_checkpoints(output: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((output / FOLDER).glob(f"{_PREFIX}*"))


def restore(
    directory: Path, model: BertForPreTraining, optimizer: AdamW, settings: dict[str, Any]
) -> Progress:
    """Bring network and optimizer to where a checkpoint was written.

    Args:
        directory: The checkpoint.
        model: Takes the weights.
        optimizer: Takes the means; made for this model.
        settings: The decisive settings of the run that goes on.

    Raises:
        ValueError: If a file is missing or damaged, or the settings are not those of the
            checkpoint; names the file or the field.
    """
    file = directory / STATE_FILE
    try:
        state = json.loads(file.read_text(encoding="utf8"))
        progress = Progress(**state["progress"])
        saved = state["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: missing or damaged ({error!r}); delete {directory}") from None
    now = json.loads(json.dumps(settings))
    # The phases follow from other settings: these are named first.
    for name in sorted(saved.keys() | now.keys(), key=lambda name: (name == "[phases]", name)):
        if saved.get(name) != now.get(name):
            raise ValueError(
                f"{name} is {now.get(name)!r}, but the run in {directory.parent.parent} had "
                f"{saved.get(name)!r}: a run goes on with the same settings; to start another "
                f"one from these weights, set [model] checkpoint to {directory}"
            )
    progress.place = Place(*progress.place)
    try:
        model.load_state_dict(load_pretraining(directory).state_dict())
    except ValueError as error:
        raise ValueError(f"{error}; or delete {directory}") from None
    _restore_optimizer(directory / OPTIMIZER_FILE, model, optimizer, progress.step)
    return progress


def _restore_optimizer(file: Path, model: BertForPreTraining, optimizer: AdamW, step: int) -> None:
    try:
        tensors = load_file(file)
    except Exception as error:  # safetensors raises its own kind, and OSError
        raise ValueError(f"{file}: missing or damaged ({error}); delete {file.parent}") from None
    names = _names(model)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            if f"{_MEANS[0]}.{name}" in tensors:
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(step), device=parameter.device),
                    **{mean: tensors[f"{mean}.{name}"].to(parameter.device) for mean in _MEANS},
                }


def _names(model: BertForPreTraining) -> dict[torch.nn.Parameter, str]:
    return {parameter: name for name, parameter in model.named_parameters()}
