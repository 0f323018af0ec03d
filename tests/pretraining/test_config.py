"""The config: what is read, and one clear line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from spacy_bert.bert import BertConfig, BertForPreTraining, save_pretrained
from spacy_bert.pretraining.config import PretrainConfig, parse_overrides

TEXT = """
[paths]
shards = "some/shards"

[model]
preset = "tiny"
max_position_embeddings = ${data.sequence_length}

[data]
shards = ${paths.shards}
tokenizer = "some/tokenizer"
sequence_length = 64

[training]
steps = 10
learning_rate = 1
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "pretrain.cfg"
    path.write_text(TEXT)
    return path


def test_values_interpolation_and_defaults(file):
    config = PretrainConfig.load(file)
    assert config.data.shards == Path("some/shards")
    assert config.model.hidden_size == 128
    assert config.model.max_position_embeddings == config.data.sequence_length == 64
    assert config.training.learning_rate == 1.0
    assert isinstance(config.training.learning_rate, float)
    assert (config.masking.share, config.masking.mask, config.masking.random) == (0.15, 0.8, 0.1)
    assert (config.training.beta2, config.training.epsilon) == (0.999, 1e-6)


def test_overrides_reach_interpolated_values_and_the_saved_text(file, tmp_path):
    config = PretrainConfig.load(file, {"paths.shards": "other", "training.seed": 5})
    assert config.data.shards == Path("other")
    assert config.training.seed == 5
    (tmp_path / "again.cfg").write_text(config.text)
    assert PretrainConfig.load(tmp_path / "again.cfg") == config


def test_units_of_masking_are_read_and_defaults_are_saved(file):
    config = PretrainConfig.load(file, {"masking.unit": "span", "tracking.tensorboard": False})
    assert config.masking.unit == "span"
    for line in ('unit = "span"', "share = 0.15", "keep_checkpoints = 1", "short_share = 0.1"):
        assert line in config.text.splitlines()


def test_overrides_are_read_from_a_command_line():
    arguments = ["--training.steps", "5", "--paths.shards=a=b", "--model.x", "true", "--a.b", "-1"]
    assert parse_overrides(arguments) == {
        "training.steps": 5,
        "paths.shards": "a=b",
        "model.x": True,
        "a.b": -1,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stray"], "'stray' is no option"),
        (["--steps", "5"], "'--steps' is no option"),
        (["--training.steps"], "--training.steps lacks a value"),
    ],
)
def test_other_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse_overrides(arguments)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "steps = 10",
            "stps = 10",
            r"\[training\] has no field 'stps'; its fields: steps, objective",
        ),
        ("steps = 10", "", r"\[training\] steps is missing; it must be an integer"),
        ("steps = 10", "steps = 1.5", r"\[training\] steps must be an integer, got 1\.5"),
        ("steps = 10", "steps = true", r"\[training\] steps must be an integer, got True"),
        ("steps = 10", "steps = 0", r"\[training\] steps must be at least 1, got 0"),
        ("learning_rate = 1", 'learning_rate = "x"', r"learning_rate must be a number, got 'x'"),
        ("learning_rate = 1", "learning_rate = 0", r"learning_rate must be greater than 0"),
        ('"some/tokenizer"', "7", r"\[data\] tokenizer must be a path, got 7"),
        ("sequence_length = 64", "sequence_length = 3", r"\[data\] sequence_length must be at lea"),
        ("${data.sequence_length}", "32", r"sequence_length 64 is more than \[model\]"),
        ('preset = "tiny"', 'preset = "giant"', r"\[model\] Unknown BERT preset 'giant'"),
        ('preset = "tiny"', "widht = 3", r"\[model\] BertConfig has no field 'widht'"),
        ('preset = "tiny"', "vocab_size = 3", r"\[model\] vocab_size is decided by the tokenizer"),
        (
            'preset = "tiny"',
            "is_decoder = true",
            r"\[model\] is_decoder is decided by \[training\]",
        ),
        (
            "[training]",
            '[masking]\nunit = "words"\n[training]',
            r"\[masking\] unit must be one of",
        ),
        ("[training]", "[trainign]", r"\[trainign\] is no known section"),
        ("${paths.shards}", "${paths.nope}", "paths.nope"),
        ("[paths]", "", "no section headers"),
        ("[training]", "[data]", "section 'data' already exists"),
    ],
)
def test_a_mistake_is_named_in_one_line(file, old, new, message):
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        PretrainConfig.load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_an_override_of_no_section_and_a_missing_file_are_named(file, tmp_path):
    with pytest.raises(ValueError, match=r"\[nowhere\] is no known section; there are paths"):
        PretrainConfig.load(file, {"nowhere.x": 1})
    with pytest.raises(ValueError, match=r"none\.cfg: no such config file"):
        PretrainConfig.load(tmp_path / "none.cfg")


@pytest.mark.parametrize("path", sorted(Path("configs").glob("pretrain*.cfg")), ids=str)
def test_the_configs_that_ship_are_valid(path, tmp_path):
    overrides = {}
    if "checkpoint = " in path.read_text("utf8"):  # which other commands make
        shape = BertConfig.preset("tiny", vocab_size=10)
        save_pretrained(BertForPreTraining(shape), tmp_path)
        overrides["model.checkpoint"] = str(tmp_path)
    PretrainConfig.load(path, overrides)
