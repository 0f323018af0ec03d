"""`from-hf` and `to-hf` as a user types them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import spacy
from typer.testing import CliRunner

import spacy_bert
from spacy_bert.cli.app import app
from tests.pipeline import hf_models


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_models.make_model(tmp_path_factory.mktemp("hf") / "source", "bert_textcat")


def test_there_and_back(source: Path, tmp_path: Path) -> None:
    pipeline, back = tmp_path / "pipeline", tmp_path / "back"
    done = run("from-hf", source, pipeline, "--lang", "de", "--window", 100)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        f"{pipeline}: bert, bert_textcat (exclusive: GOOD, BAD, Übel), from a "
        "BertForSequenceClassification of 2 layers, hidden size 32",
        f"nlp = spacy.load('{pipeline}'); nlp(\"A text.\").cats",
    ]
    nlp = spacy.load(pipeline)
    assert nlp.lang == "de"
    assert nlp.meta["labels"]["bert_textcat"] == ["GOOD", "BAD", "Übel"]
    assert nlp.meta["description"].startswith("bert, bert_textcat (exclusive: GOOD")
    done = run("to-hf", pipeline, back)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        f"{back}: BertForSequenceClassification, from bert_textcat",
        f"transformers.BertForSequenceClassification.from_pretrained('{back}')",
    ]
    assert sorted(file.name for file in back.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    hf_models.load_model(back, "bert_textcat")
    done = run("from-hf", back, tmp_path / "again", "--task", "encoder")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[1:] == [
        "left behind: classifier.bias, classifier.weight",
        f"nlp = spacy.load('{tmp_path / 'again'}'); nlp(\"A text.\")._.trf_data",
    ]
    assert spacy.load(tmp_path / "again").pipe_names == ["bert"]


def test_options_reach_the_pipeline(source: Path, tmp_path: Path) -> None:
    done = run("from-hf", source, tmp_path / "out", "--problem-type", "multi_label_classification")
    assert done.exit_code == 0, done.output
    assert "(multilabel: " in done.output
    done = run("from-hf", source, tmp_path / "out", "--null-answers", "--overwrite")
    assert done.exit_code == 1
    assert spacy.load(tmp_path / "out").get_pipe("bert_textcat").mode == "multilabel"
    done = run("from-hf", source, tmp_path / "out", "--overwrite")
    assert done.exit_code == 0, done.output
    assert spacy.load(tmp_path / "out").get_pipe("bert_textcat").mode == "exclusive"


def test_tags_that_a_model_lacks_are_told(tmp_path: Path) -> None:
    tags = {0: "O", 1: "I-THING"}
    source = hf_models.make_model(tmp_path / "source", "bert_ner", id2label=tags)
    done = run("from-hf", source, tmp_path / "out")
    assert "tags that it does not have, and never predicts: B-THING\n" in done.output


def test_components_that_are_left_out_are_told(source: Path, tmp_path: Path) -> None:
    nlp = spacy_bert.from_hf(source)
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "pipeline")
    done = run("to-hf", tmp_path / "pipeline", tmp_path / "out", "--component", "bert")
    assert done.output.splitlines()[0].endswith(
        ": BertModel, from bert; left out: bert_textcat, sentencizer"
    )


@pytest.mark.parametrize("command", ["from-hf", "to-hf"])
def test_help_has_an_example(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    assert f"Example: python -m spacy bert {command} " in " ".join(done.output.split())


def mistake(message: str, *arguments: object) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_a_mistake_is_one_line_and_exit_code_1(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mistake("Error: /no/such/place: no such directory", "from-hf", "/no/such/place", out)
    mistake("Can't find model '/no/such/place'", "to-hf", "/no/such/place", out)
    mistake("Could not read", "to-hf", source, out)
    spacy.blank("en").to_disk(tmp_path / "blank")
    mistake('no component "bert"', "to-hf", tmp_path / "blank", out)
    assert not out.exists()
    out.mkdir()
    assert run("from-hf", source, out).exit_code == 0  # into an empty directory
    mistake(f"{out}: is not empty; name another, or give --overwrite", "from-hf", source, out)
    copy = shutil.copytree(source, tmp_path / "copy")
    message = f"{copy}: holds the source itself; name another directory"
    mistake(message, "from-hf", copy, copy, "--overwrite")
    other = shutil.copytree(source, tmp_path / "other")
    message = f"{other}: holds files but no config.cfg: not a pipeline to be replaced"
    mistake(message, "from-hf", source, other, "--overwrite")
    (tmp_path / "file").touch()
    mistake("is a file; name a directory", "from-hf", source, tmp_path / "file")
