"""Checkpoints as they are found in the wild, and broken ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from spacy_bert.bert import (
    BertConfig,
    BertForPreTraining,
    load_encoder,
    load_pretraining,
    save_pretrained,
)

WEIGHTS = "model.safetensors"
CONFIG = BertConfig.preset("tiny", vocab_size=60)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[BertForPreTraining, Path]:
    torch.manual_seed(0)
    model = BertForPreTraining(CONFIG)
    save_pretrained(model, tmp_path)
    return model, tmp_path


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(path / WEIGHTS)), path / WEIGHTS)


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for (name, a), (other_name, b) in zip(
        one.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(a, b), name


def test_round_trip_is_exact(saved: tuple[BertForPreTraining, Path]) -> None:
    model, path = saved
    assert_same(load_pretraining(path), model)
    assert_same(load_encoder(path), model.bert)
    assert sorted(p.name for p in path.iterdir()) == ["config.json", WEIGHTS]


def test_a_bare_encoder_round_trips(saved: tuple[BertForPreTraining, Path], tmp_path: Path) -> None:
    model, _ = saved
    save_pretrained(model.bert, tmp_path / "bare")
    assert_same(load_encoder(tmp_path / "bare"), model.bert)


@pytest.mark.parametrize(
    "rename",
    [
        lambda n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ),
        lambda n: n.removeprefix("bert."),
        lambda n: f"module.{n}",
    ],
    ids=["gamma and beta", "no prefix", "module prefix"],
)
def test_old_spellings_are_read(
    saved: tuple[BertForPreTraining, Path], rename: Callable[[str], str]
) -> None:
    model, path = saved
    rewrite(path, lambda tensors: {rename(name): tensor for name, tensor in tensors.items()})
    assert_same(load_pretraining(path), model)


def test_pickled_and_sharded_weights_are_read(saved: tuple[BertForPreTraining, Path]) -> None:
    model, path = saved
    tensors = load_file(path / WEIGHTS)
    tensors["bert.embeddings.position_ids"] = torch.arange(512)
    names = sorted(tensors)
    for i, part in enumerate((names[:20], names[20:])):
        save_file({name: tensors[name] for name in part}, path / f"part-{i}.safetensors")
    index = {name: f"part-{int(i >= 20)}.safetensors" for i, name in enumerate(names)}
    (path / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": index}))
    (path / WEIGHTS).unlink()
    assert_same(load_pretraining(path), model)
    (path / f"{WEIGHTS}.index.json").unlink()
    torch.save(tensors, path / "pytorch_model.bin")
    assert_same(load_pretraining(path), model)


def test_missing_pooler_and_heads(saved: tuple[BertForPreTraining, Path]) -> None:
    model, path = saved
    rewrite(
        path,
        lambda tensors: {n: t for n, t in tensors.items() if "cls." not in n and "pooler" not in n},
    )
    assert load_encoder(path).pooler is None
    with pytest.warns(UserWarning, match="has no bert.pooler, mlm, nsp: drawn afresh"):
        fresh = load_pretraining(path)
    assert_same(fresh.bert.layers, model.bert.layers)


def drop(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {n: t for n, t in tensors.items() if n != name}


def test_a_missing_tensor_is_named(saved: tuple[BertForPreTraining, Path]) -> None:
    _, path = saved
    rewrite(path, drop("bert.encoder.layer.1.attention.self.key.weight"))
    with pytest.raises(
        ValueError, match=r"layer\.1\.attention\.self\.key\.weight' is missing"
    ) as e:
        load_encoder(path)
    assert str(path / WEIGHTS) in str(e.value)


def test_half_a_head_is_not_called_absent(saved: tuple[BertForPreTraining, Path]) -> None:
    _, path = saved
    rewrite(path, drop("cls.predictions.transform.dense.weight"))
    with pytest.raises(ValueError, match=r"cls.predictions.transform.dense.weight' is missing"):
        load_pretraining(path)


def test_a_wrong_shape_is_named(saved: tuple[BertForPreTraining, Path]) -> None:
    _, path = saved
    config = json.loads((path / "config.json").read_text()) | {"vocab_size": 61}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=r"word_embeddings.weight' has shape \(60, 128\).*\(61, 128\)"
    ):
        load_encoder(path)


def test_an_untied_decoder_is_refused(saved: tuple[BertForPreTraining, Path]) -> None:
    _, path = saved
    rewrite(path, lambda tensors: tensors | {"cls.predictions.decoder.weight": torch.ones(60, 128)})
    with pytest.raises(ValueError, match="untied MLM decoder"):
        load_pretraining(path)


@pytest.mark.parametrize("name", [WEIGHTS, "pytorch_model.bin"])
def test_truncated_weights_name_the_file(saved: tuple[BertForPreTraining, Path], name: str) -> None:
    _, path = saved
    if name != WEIGHTS:
        torch.save(load_file(path / WEIGHTS), path / name)
        (path / WEIGHTS).unlink()
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged") as caught:
        load_encoder(path)
    assert str(path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_directories_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such directory"):
        load_encoder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"config.json: not found"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_hf()))
    with pytest.raises(ValueError, match="holds no weights"):
        load_encoder(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match=r"pytorch_model.bin: damaged, or more than plain tensors"):
        load_encoder(tmp_path)


def test_failed_writing_leaves_the_old_file(
    saved: tuple[BertForPreTraining, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = saved

    def fail(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("spacy_bert.bert.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        save_pretrained(model, path)
    assert_same(load_pretraining(path), model)
    assert sorted(p.name for p in path.iterdir()) == ["config.json", WEIGHTS]
