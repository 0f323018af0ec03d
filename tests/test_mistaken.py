"""A directory that is no checkpoint is told from one, wherever a checkpoint is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import spacy

from spacy_bert.bert import load_config
from spacy_bert.mistaken import refuse_runs
from spacy_bert.models.batchers import build_batch_by_pieces
from spacy_bert.models.conversion import convert
from spacy_bert.models.encoder import build_encoder
from spacy_bert.pipeline.starter import make_starter
from spacy_bert.wordpiece import WordPiece

READERS: dict[str, Callable[[Path], object]] = {
    "config": load_config,
    "vocabulary": WordPiece.load,
    "encoder": lambda path: build_encoder(str(path)).initialize(),
    "batcher": lambda path: list(build_batch_by_pieces(9, str(path))([spacy.blank("en")("a")])),
    "starter": lambda path: make_starter(["bert_ner"], str(path)),
}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "output" / "model-best"
    path.parent.mkdir()
    spacy.blank("en").to_disk(path)
    return path


@pytest.mark.parametrize("reader", READERS)
def test_a_pipeline_is_named_with_the_command_that_converts_it(reader: str, pipeline: Path) -> None:
    advice = f"is a spaCy pipeline.*: `python -m spacy bert convert {pipeline} OUT` makes an enc"
    with pytest.raises(ValueError, match=f"^{pipeline}: {advice}"):
        READERS[reader](pipeline)
    with pytest.raises(ValueError, match=f"^{pipeline.parent}: is no .*, but {pipeline} {advice}"):
        READERS[reader](pipeline.parent)


def test_convert_names_the_pipeline_inside(pipeline: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"but {pipeline} is a spaCy pipeline"):
        convert(pipeline.parent, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_inside_is_named(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "model-last")
    for read in READERS.values():
        with pytest.raises(ValueError, match=f"Did you mean {tmp_path / 'model-last'}\\?$"):
            read(tmp_path)


def test_what_else_lies_in_a_checkpoint_does_no_harm(
    checkpoint: Path, pipeline: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both"
    shutil.copytree(checkpoint, both)
    shutil.copytree(pipeline, both, dirs_exist_ok=True)
    shutil.copytree(pipeline, both / "model-best")
    for read in READERS.values():
        read(both)


def test_the_output_of_a_training_is_told_from_its_pipelines(pipeline: Path) -> None:
    refuse_runs(pipeline)
    refuse_runs(pipeline / "missing")
    with pytest.raises(ValueError, match=rf"is no pipeline, but holds one: give {pipeline}$"):
        refuse_runs(pipeline.parent)
