"""TensorFlow's checkpoints: the format, Google's names, damaged files."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
import torch

from spacy_bert.bert import (
    BertConfig,
    BertForPreTraining,
    load_config,
    load_encoder,
    load_pretraining,
)
from spacy_bert.bert.google import find_prefix, hf_name
from spacy_bert.bert.tensor_bundle import TensorBundle
from tests.bert import tensor_bundle as writer
from tests.bert.tensor_bundle import google_variables, write_bundle, write_google
from tests.bert.test_checkpoint import assert_same

CONFIG = BertConfig.preset(
    "tiny", vocab_size=30, hidden_size=8, intermediate_size=12, max_position_embeddings=10
)
INDEX = "bert_model.ckpt.index"

# What TensorFlow 2.21 wrote (tf.raw_ops.SaveV2): six tensors of six types.
REAL_INDEX = """
AAAGCAEaAggBAAwTbGF5ZXIvYmZsb2F0CA4SCBICCAISAggDKAw1U+H67wYFFWZsb2F0CAESCBICCAISAggDIAwoGD
WN75MUBgQVaGFsZggTEggSAggCEgIIAyAkKAw10n+/tAYDEWludAgDEgQSAggCIDAoCDVrSt5EAAQNc3RlcAgJEgAg
OCgINQeVEZoABA10ZXh0CAcSACBAKAg1+DmELwAAAAABAAAAAK5O4ZYAAAAAAQAAAADA8qGwAAEDdQCrAQAAAAABAA
AAAL4jsIKwAQi9AQ8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAV/uAiyR1R9s=
"""
REAL_DATA = """
wD8AwEBAgD4AAIC/AADAPwAAAMAAAEBAAACAPgAAAAAAAIC/AD4AwABCADQAAAC8AQAAAP7////oAwAAAAAAAANjP3
8ob2Rk
"""


def make_model() -> BertForPreTraining:
    """Every parameter random, so that no two can be confused."""
    torch.manual_seed(0)
    model = BertForPreTraining(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> tuple[BertForPreTraining, Path]:
    model = make_model()
    write_google(tmp_path, model)
    return model, tmp_path


def test_what_tensorflow_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.index").write_bytes(base64.b64decode(REAL_INDEX))
    (tmp_path / "x.data-00000-of-00001").write_bytes(base64.b64decode(REAL_DATA))
    bundle = TensorBundle(tmp_path / "x")
    matrix = torch.tensor([[1.5, -2.0, 3.0], [0.25, 0.0, -1.0]])
    expected = {
        "layer/bfloat": matrix.bfloat16(),
        "layer/float": matrix,
        "layer/half": matrix.half(),
        "layer/int": torch.tensor([1, -2], dtype=torch.int32),
        "step": torch.tensor(1000),
    }
    assert list(bundle) == [*expected, "text"]
    for name, tensor in expected.items():
        assert bundle[name].dtype == tensor.dtype
        assert torch.equal(bundle[name], tensor)
    with pytest.raises(ValueError, match=r"x\.index: tensor 'text' is of a type that is not read"):
        bundle["text"]
    with pytest.raises(KeyError):
        bundle["nothing"]


@pytest.mark.parametrize("block_size", [1, 100, 10**6])
@pytest.mark.parametrize("restart_interval", [1, 3, 16])
def test_blocks_and_shared_prefixes(tmp_path: Path, block_size: int, restart_interval: int) -> None:
    generator = np.random.default_rng(0)
    tensors = {
        f"{'layer' * (number % 4)}/{number % 7}/{number}": generator.normal(size=(number % 3, 2))
        for number in range(60)
    }
    write_bundle(
        tmp_path / "x",
        tensors,
        shards=3,
        block_size=block_size,
        restart_interval=restart_interval,
    )
    bundle = TensorBundle(tmp_path / "x")
    assert list(bundle) == sorted(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(bundle[name].numpy(), array)


def test_tensors_need_not_be_aligned(tmp_path: Path) -> None:
    odd = np.zeros(3, np.float16)
    write_bundle(tmp_path / "x", {"a": odd, "b": np.arange(5.0), "c": np.array(7)})
    bundle = TensorBundle(tmp_path / "x")
    assert bundle["b"].tolist() == [0, 1, 2, 3, 4]
    assert bundle["c"].tolist() == 7


@pytest.mark.parametrize("shards", [1, 2])
def test_google_directories_are_read(tmp_path: Path, shards: int) -> None:
    model = make_model()
    write_google(tmp_path, model, shards=shards)
    assert load_config(tmp_path) == CONFIG
    assert_same(load_pretraining(tmp_path), model)
    assert_same(load_encoder(tmp_path), model.bert)


def test_loaded_weights_are_no_views_of_the_file(
    saved: tuple[BertForPreTraining, Path],
) -> None:
    model, path = saved
    data = path / "bert_model.ckpt.data-00000-of-00001"
    before = data.read_bytes()
    loaded = load_pretraining(path)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    assert data.read_bytes() == before
    assert_same(load_pretraining(path), model)


def test_an_encoder_without_heads_is_read(tmp_path: Path) -> None:
    model = make_model()
    write_google(tmp_path, model)
    variables = google_variables(model)
    kept = {name: array for name, array in variables.items() if not name.startswith("cls/")}
    kept["output_weights"] = np.zeros((3, 8), np.float32)  # of a fine-tuned classifier
    write_bundle(tmp_path / "bert_model.ckpt", kept)
    assert_same(load_encoder(tmp_path), model.bert)
    with pytest.warns(UserWarning, match="has no mlm, nsp: drawn afresh"):
        load_pretraining(tmp_path)


def test_hugging_face_files_go_first(saved: tuple[BertForPreTraining, Path]) -> None:
    _, path = saved
    torch.save(
        {"bert.embeddings.word_embeddings.weight": torch.ones(1)}, path / "pytorch_model.bin"
    )
    with pytest.raises(ValueError, match=r"pytorch_model.bin: tensor .* has shape \(1,\)"):
        load_encoder(path)


def test_names() -> None:
    assert hf_name("output_bias") == "output_bias"  # of a fine-tuned classifier
    assert hf_name("bert/encoder/layer_11/output/dense/kernel") == (
        "bert.encoder.layer.11.output.dense.weight"
    )
    assert hf_name("cls/predictions/output_bias") == "cls.predictions.bias"


def test_which_checkpoint_of_a_directory(tmp_path: Path) -> None:
    assert find_prefix(tmp_path) is None
    (tmp_path / "model.ckpt-10.index").touch()
    assert find_prefix(tmp_path) == tmp_path / "model.ckpt-10"
    (tmp_path / "model.ckpt-20.index").touch()
    with pytest.raises(
        ValueError, match=r"several .*\(model.ckpt-10, model.ckpt-20\); name one in"
    ):
        find_prefix(tmp_path)
    state = tmp_path / "checkpoint"
    state.write_text(
        'model_checkpoint_path: "/far/away/model.ckpt-20"\n'
        'all_model_checkpoint_paths: "model.ckpt-10"\n'
    )
    assert find_prefix(tmp_path) == tmp_path / "model.ckpt-20"
    state.write_text('model_checkpoint_path: "model.ckpt-30"\n')
    with pytest.raises(ValueError, match="several"):
        find_prefix(tmp_path)
    (tmp_path / INDEX).touch()
    assert find_prefix(tmp_path) == tmp_path / "bert_model.ckpt"


def test_a_missing_tensor_and_a_wrong_shape_are_named(
    saved: tuple[BertForPreTraining, Path],
) -> None:
    model, path = saved
    variables = google_variables(model)
    del variables["bert/encoder/layer_1/attention/self/key/kernel"]
    write_bundle(path / "bert_model.ckpt", variables)
    with pytest.raises(ValueError, match=rf"{INDEX}: .*layer\.1\..*key\.weight' is missing"):
        load_encoder(path)
    variables["bert/encoder/layer_1/attention/self/key/kernel"] = np.zeros((8, 9), np.float32)
    write_bundle(path / "bert_model.ckpt", variables)
    with pytest.raises(ValueError, match=r"key\.weight' has shape \(9, 8\), .* asks for \(8, 8\)"):
        load_encoder(path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["model/kernel"], r"no tensor 'bert/embeddings/word_embeddings'; take one in the form of"),
        (["_CHECKPOINTABLE_OBJECT_GRAPH"], r"an object checkpoint of TensorFlow 2 is not read"),
    ],
)
def test_other_checkpoints_are_refused(
    saved: tuple[BertForPreTraining, Path], names: list[str], message: str
) -> None:
    _, path = saved
    write_bundle(path / "bert_model.ckpt", {name: np.zeros(1) for name in names})
    with pytest.raises(ValueError, match=message):
        load_encoder(path)


def test_a_partitioned_variable_is_refused(tmp_path: Path) -> None:
    entry = writer.field(1, 1) + writer.field(2, b"") + writer.field(7, b"\x0a\x00")
    entries = [(b"", writer.field(1, 1)), (b"\x00w\xff", b""), (b"w", entry)]
    (tmp_path / "x.index").write_bytes(writer.table(entries, block_size=100))
    with pytest.raises(ValueError, match="'w' is a partitioned variable"):
        TensorBundle(tmp_path / "x")["w"]


def test_a_compressed_block_and_another_byte_order_are_refused(tmp_path: Path) -> None:
    entries = [(b"", writer.field(1, 1) + writer.field(2, 1))]
    plain = writer.table(entries, block_size=100)
    (tmp_path / "x.index").write_bytes(plain)
    with pytest.raises(ValueError, match=r"x\.index: written on a big-endian machine"):
        TensorBundle(tmp_path / "x")
    first = writer.block(entries, 3)
    compressed = writer.sealed(first, compression=1)
    (tmp_path / "x.index").write_bytes(compressed + plain[len(compressed) :])
    with pytest.raises(ValueError, match=r"x\.index: its blocks are compressed"):
        TensorBundle(tmp_path / "x")


def test_damage_anywhere_in_the_index_is_told_in_one_line(
    saved: tuple[BertForPreTraining, Path],
) -> None:
    model, path = saved
    write_bundle(path / "bert_model.ckpt", google_variables(model))
    content = (path / INDEX).read_bytes()
    footer = len(content) - 48
    # The footer has two places, each of two varints, then zeros. The first place is that of a
    # block which is empty, so that nobody looks there.
    ends = [at for at in range(footer, len(content)) if content[at] < 128]
    places = [*range(0, footer, 37), *range(ends[1] + 1, ends[3] + 1), len(content) - 1]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        (path / INDEX).write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"^{path / INDEX}: [^\n]+$"):
            load_encoder(path)
    for length in (0, 10, 47, footer, len(content) - 1):
        (path / INDEX).write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"{INDEX}: not the index .* truncated"):
            load_encoder(path)


def test_truncated_and_missing_data_are_named(tmp_path: Path) -> None:
    write_google(tmp_path, make_model(), shards=2)
    second = tmp_path / "bert_model.ckpt.data-00001-of-00002"
    content = second.read_bytes()
    for length in (0, len(content) // 2):
        second.write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"{second.name}: truncated: has {length} bytes"):
            load_encoder(tmp_path)
    second.unlink()
    with pytest.raises(ValueError, match=rf"{second.name}: not found; {INDEX} says"):
        load_encoder(tmp_path)
    (tmp_path / INDEX).unlink()
    with pytest.raises(ValueError, match=rf"holds no weights; expected .* or {INDEX}"):
        load_encoder(tmp_path)
    with pytest.raises(ValueError, match=rf"{INDEX}: not found"):
        TensorBundle(tmp_path / "bert_model.ckpt")
