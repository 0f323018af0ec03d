"""Directories that are mistaken for a checkpoint, and what to say of them."""

from __future__ import annotations

from pathlib import Path

PIPELINE_FILES = ("config.cfg", "meta.json")
CHECKPOINT_FILES = ("config.json", "bert_config.json")
RUNS = ("model-best", "model-last")  # what training leaves in the directory that it is given


def is_pipeline(path: Path) -> bool:
    """Whether a directory is a saved spaCy pipeline."""
    return all((path / name).is_file() for name in PIPELINE_FILES)


def refuse_mistaken(path: Path) -> None:
    """Refuse a directory if it can be told what it is instead of a checkpoint.

    Raises:
        ValueError: says what it is, or where the checkpoint is.
    """
    if is_pipeline(path):
        raise ValueError(f"{path}: is a spaCy pipeline, no BERT checkpoint: {_advice(path)}")
    for run in (path / name for name in RUNS):
        if is_pipeline(run):
            raise ValueError(
                f"{path}: is no BERT checkpoint, but {run} is a spaCy pipeline: {_advice(run)}"
            )
        if any((run / name).is_file() for name in CHECKPOINT_FILES):
            raise ValueError(f"{path}: is no BERT checkpoint. Did you mean {run}?")


def refuse_runs(path: Path) -> None:
    """Refuse a directory that holds pipelines of a training, but is none.

    Raises:
        ValueError: says where one is.
    """
    run = next((path / name for name in RUNS if is_pipeline(path / name)), None)
    if run is not None and not is_pipeline(path):
        raise ValueError(f"{path}: is no pipeline, but holds one: give {run}")


def _advice(pipeline: Path) -> str:
    return f"`python -m spacy bert convert {pipeline} OUT` makes an encoder directory of it"
