"""`convert` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
import torch
from typer.testing import CliRunner

from spacy_bert.bert import BertForPreTraining, load_pretraining
from spacy_bert.cli.app import app
from spacy_bert.wordpiece import WordPiece
from tests.bert.tensor_bundle import write_google
from tests.bert.test_checkpoint import assert_same


def run(*arguments: object):
    return CliRunner().invoke(app, ["convert", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> BertForPreTraining:
    return load_pretraining(checkpoint)


@pytest.fixture(scope="module")
def google(
    tmp_path_factory: pytest.TempPathFactory, model: BertForPreTraining, wordpiece: WordPiece
) -> Path:
    path = tmp_path_factory.mktemp("google")
    write_google(path, model, wordpiece)
    return path


def test_google_to_hugging_face(google: Path, model: BertForPreTraining, tmp_path: Path) -> None:
    done = run(google, tmp_path / "out")
    assert done.exit_code == 0, done.output
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert done.output.splitlines() == [
        f"{tmp_path / 'out'}: 2 layers, hidden size 128, {parameters:,} parameters",
        "with the heads of pre-training: masked language model, next sentence",
        f"{model.config.vocab_size} pieces, uncased",
    ]
    assert_same(load_pretraining(tmp_path / "out"), model)
    done = run(google, tmp_path / "out", "--cased", "--overwrite")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"{model.config.vocab_size} pieces, cased"


def test_a_pipeline(checkpoint: Path, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    encoder = {"@architectures": "spacy_bert.Encoder.v1", "name": str(checkpoint)}
    for name in ("one", "two"):
        nlp.add_pipe("bert", name=name, config={"model": encoder})
    nlp.initialize()
    nlp.to_disk(tmp_path / "pipeline")
    done = run(tmp_path / "pipeline", tmp_path / "out", "--component", "two")
    assert done.exit_code == 0, done.output
    assert "the encoder alone, without the heads of pre-training\n" in done.output


def test_what_is_left_behind_is_told(
    checkpoint: Path, wordpiece: WordPiece, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    wordpiece.save(source)
    (source / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    state = {
        name: tensor
        for name, tensor in torch_state(checkpoint).items()
        if "pooler" not in name and "seq_relationship" not in name
    }
    torch.save(state, source / "pytorch_model.bin")
    done = run(source, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "without the heads of pre-training, without pooler: the source has none" in done.output
    assert "left behind: cls.predictions.bias, cls.predictions.transform" in done.output
    state["a"] = state["b"] = torch.zeros(1)
    torch.save(state, source / "pytorch_model.bin")
    assert "left behind: a, b, " in (output := run(source, tmp_path / "more").output)
    assert output.endswith(" and 1 more\n")


def torch_state(checkpoint: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(checkpoint / "model.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/place", "out"], "Error: /no/such/place: no such directory"),
        (["tests", "out"], "Error: tests: holds neither tokenizer.json nor vocab.txt"),
        (["tests", "README.md"], "Error: README.md: is a file; name a directory"),
        (["tests", "spacy_bert"], "Error: spacy_bert: is not empty; name another, or give"),
        (["tests", "out", "--component", "bert"], "Error: tests: is no saved pipeline; leave"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not Path("out").exists()


def test_help_has_an_example() -> None:
    done = run("--help")
    assert done.exit_code == 0
    text = " ".join(done.output.split())
    assert "Example: python -m spacy bert convert" in text
    assert "--cased" in text
    assert "--uncased" in text
