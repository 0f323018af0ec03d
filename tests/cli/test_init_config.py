"""The command `init-config`, and the starter configs that it made."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import Result
from spacy.cli.init_config import fill_config
from spacy.util import load_config, load_config_from_str, registry
from typer.testing import CliRunner

from spacy_bert.cli.app import app

CONFIGS = Path(__file__).parents[2] / "configs"
MADE = ["textcat_multilabel.cfg", "shared.cfg"]
NAMED = "# Made by: python -m spacy bert "


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["init-config", *map(str, arguments)])


def test_writes_a_config_and_names_the_next_command(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "my configs" / "ner.cfg"
    done = run(path, "--pipeline", "bert, bert_ner", "--encoder", checkpoint, "--gpu")
    assert done.exit_code == 0, done.output
    assert load_config(path)["nlp"]["pipeline"] == ["bert", "bert_ner"]
    assert done.output.splitlines()[-1] == (
        f"python -m spacy train '{path}' --output model "
        "--paths.train train.spacy --paths.dev dev.spacy --gpu-id 0"
    )
    assert "learning rate 0.0005: hidden size 128" in done.output


def test_the_file_is_config_cfg_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("--pipeline", "bert_ner,tagger", "--private")
    assert done.exit_code == 0, done.output
    assert load_config("config.cfg")["nlp"]["pipeline"] == ["bert_ner", "tagger"]
    done = run("--pipeline", "bert_ner")
    assert done.exit_code == 1
    assert done.output == "Error: config.cfg is there already; --overwrite replaces it\n"
    done = run("--pipeline", "bert_ner", "--overwrite")
    assert done.exit_code == 0, done.output
    assert "bert is put first" in done.output
    assert load_config("config.cfg")["nlp"]["pipeline"] == ["bert", "bert_ner"]


def test_features_are_read_where_they_are_asked_for() -> None:
    done = run("-", "--pipeline", "bert_ner", "--features")
    assert done.exit_code == 0, done.output
    tok2vec = load_config_from_str(done.stdout)["components"]["bert_ner"]["model"]["tok2vec"]
    assert tok2vec["embed"]["@architectures"] == "spacy_bert.LayerFeatures.v1"
    done = run("-", "--pipeline", "bert_ner,bert_choice", "--features")
    assert done.exit_code == 1
    assert "bert_choice reads no tokens" in done.output


def test_prints_nothing_but_the_config_to_stdout() -> None:
    done = run("-", "--pipeline", "bert_textcat", "--mode", "multilabel")
    assert done.exit_code == 0, done.output
    config = load_config_from_str(done.stdout)
    assert config["components"]["bert_textcat"]["mode"] == "multilabel"
    assert "bert is put first" in done.stderr
    for options in ((), ("--null-answers",)):
        done = run("-", "--pipeline", "bert_span_qa", *options)
        config = load_config_from_str(done.stdout)
        assert config["components"]["bert_span_qa"]["null_answers"] == bool(options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pipeline", "bert,nerr"], "Error: unknown component 'nerr'; known are bert, "),
        (["--pipeline", "bert_ner,bert"], "Error: bert_ner reads bert, so bert must stand before"),
        (["--pipeline", ","], "Error: the pipeline has nothing to train; choose from "),
        (["--pipeline", "bert_ner", "--encoder", "/no/where"], "Error: /no/where: no such direct"),
        (["--pipeline", "bert_ner", "--lang", "klingon"], "Error: language 'klingon': "),
        (["--pipeline", "bert_ner", "--mode", "multilabel"], "Error: mode is a setting of bert_t"),
        ([".", "--pipeline", "bert_ner", "--overwrite"], "Error: . is a directory"),
        (["--pipeline", "bert_ner", "--max-steps", "0"], "Error: max_steps must be at least 1"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 1
    assert done.output.startswith(message)
    assert len(done.output.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_max_steps_sets_what_goes_by_it() -> None:
    done = run("-", "--pipeline", "bert_ner", "--max-steps", "500")
    assert done.exit_code == 0, done.output
    training = load_config_from_str(done.stdout)["training"]
    learn_rate = training["optimizer"]["learn_rate"]
    assert training["max_steps"] == learn_rate["total_steps"] == 500
    assert learn_rate["warmup_steps"] == 50


def test_help_has_examples() -> None:
    done = run("--help")
    assert done.exit_code == 0
    examples = [line.strip() for line in done.output.splitlines() if "bert init-config" in line]
    assert "python -m spacy bert init-config --pipeline bert,bert_ner --encoder" in examples[1]


@pytest.mark.parametrize("name", MADE)
def test_starter_configs_are_what_the_command_makes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (CONFIGS / name).read_text(encoding="utf8")
    comment = [line for line in text.splitlines() if line.startswith("#")]
    (line,) = [line for line in comment if line.startswith(NAMED)]
    arguments = shlex.split(line.removeprefix(NAMED))
    assert arguments[1] == f"configs/{name}"
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    made = (tmp_path / "configs" / name).read_text(encoding="utf8")
    assert text == "\n".join([*comment, made]), f"make it anew: {line.removeprefix('# Made by: ')}"


@pytest.mark.parametrize("name", [*MADE, "textcat.cfg", "ner.cfg"])
def test_the_optimizer_has_no_variable(name: str) -> None:
    """`nlp.create_optimizer` and what calls it would fail."""
    training = load_config(CONFIGS / name)["training"]
    optimizer = registry.resolve({"optimizer": training["optimizer"]})["optimizer"]
    assert optimizer.layer_decay == 1.0
    assert training["optimizer"]["learn_rate"]["total_steps"] == training["max_steps"]


@pytest.mark.parametrize("name", MADE)
def test_starter_configs_are_complete(name: str, tmp_path: Path) -> None:
    before, after = fill_config(tmp_path / "filled.cfg", CONFIGS / name, silent=True)
    assert before.to_str() == after.to_str()
