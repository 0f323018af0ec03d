"""The configuration: presets, Hugging Face's JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spacy_bert.bert import BertConfig, BertModel
from spacy_bert.bert.config import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_valid_shapes(name: str) -> None:
    config = BertConfig.preset(name, vocab_size=99)
    assert config.vocab_size == 99
    assert config.head_size in (64,)
    assert config.intermediate_size == 4 * config.hidden_size


def test_base_has_110_million_parameters() -> None:
    # Google states 110 M for base uncased: 109,482,240 with the pooler, without the heads.
    model = BertModel(BertConfig.preset("base"))
    assert sum(p.numel() for p in model.parameters()) == 109_482_240


def test_round_trip_through_config_json(tmp_path: Path) -> None:
    config = BertConfig.preset("mini", vocab_size=123, hidden_act="relu")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_hf()))
    assert BertConfig.from_hf(path) == config
    assert BertConfig.from_dict(config.to_dict()) == config
    assert (
        BertConfig.from_dict({"preset": "mini", "vocab_size": 123, "hidden_act": "relu"}) == config
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta', only \"bert\""),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"hidden_size": 100, "num_attention_heads": 12}, "multiple of num_attention_heads"),
        ({"hidden_act": "swish"}, "hidden_act must be one of"),
        ({"vocab_size": "many"}, "vocab_size must be an integer"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob must be in"),
        ([1], "should hold a JSON object"),
    ],
)
def test_bad_config_json_names_file_and_field(tmp_path: Path, values: object, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message) as caught:
        BertConfig.from_hf(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of tiny, mini"):
        BertConfig.preset("huge")
    with pytest.raises(ValueError, match="no field 'layers'"):
        BertConfig.from_dict({"layers": 3})
