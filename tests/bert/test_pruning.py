"""Pruned heads: the same as masked ones, whole layers included, and kept by checkpoints."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from transformers import BertModel as HfModel

from spacy_bert.bert import BertConfig, BertModel, PackedBatch, load_encoder, save_pretrained
from spacy_bert.bert.pruning import prune_heads
from tests.bert.reference import padded, random_sequences, unpad

HEADS = [
    {0: [1]},
    {0: [0, 2, 3], 2: [1, 2]},
    {1: [0, 1, 2, 3]},
    {0: [0, 1, 2, 3], 1: [3], 2: [0, 1, 2, 3]},
]


@pytest.fixture
def model() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=40,
    )  # fmt: skip
    model = BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases, too, that are 0 in new networks
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture
def batch() -> PackedBatch:
    sequences, kinds = random_sequences(9, longest=30, vocab=50, seed=1)
    return PackedBatch.from_sequences(sequences, segments=kinds)


def encode(model: BertModel, batch: PackedBatch, **options: object) -> torch.Tensor:
    with torch.inference_mode():
        return model(batch, **options).last_hidden_state


def closed(heads: dict[int, list[int]]) -> torch.Tensor:
    gates = torch.ones(3, 4)
    for layer, numbers in heads.items():
        gates[layer, numbers] = 0.0
    return gates


@pytest.mark.parametrize("heads", HEADS)
def test_pruned_equals_masked(
    model: BertModel, batch: PackedBatch, heads: dict[int, list[int]]
) -> None:
    plain = encode(model, batch)
    masked = encode(model, batch, gates=closed(heads))
    assert not torch.allclose(masked, plain, atol=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruned = prune_heads(model, heads)
    torch.testing.assert_close(encode(pruned, batch), masked, atol=1e-5, rtol=0)
    torch.testing.assert_close(encode(model, batch), plain)  # the source is as it was
    cut = sum(map(len, heads.values()))
    before = sum(p.numel() for p in model.parameters())
    after = sum(p.numel() for p in pruned.parameters())
    assert before - after == cut * 8 * (3 * 32 + 3 + 32)


def test_prunes_again_by_the_old_numbers(model: BertModel, batch: PackedBatch) -> None:
    once = prune_heads(model, {0: [0, 2], 1: [1]})
    twice = prune_heads(once, {0: [2, 3], 2: [0]})
    assert twice.config.pruned_heads == {0: [0, 2, 3], 1: [1], 2: [0]}
    masked = encode(model, batch, gates=closed({0: [0, 2, 3], 1: [1], 2: [0]}))
    torch.testing.assert_close(encode(twice, batch), masked, atol=1e-5, rtol=0)
    # Gates count all heads, those of pruned ones do nothing.
    gates = torch.ones(3, 4)
    gates[0, [0, 2, 3]] = 7.0
    torch.testing.assert_close(encode(twice, batch, gates=gates), masked, atol=1e-5, rtol=0)
    gates = torch.ones(len(batch.lengths), 3, 4)
    gates[0, 2, 1] = 0.0
    changed = encode(twice, batch, gates=gates)
    expected = encode(model, batch, gates=gates * closed(dict(twice.config.pruned_heads)))
    torch.testing.assert_close(changed, expected, atol=1e-5, rtol=0)


def test_attentions_are_of_the_heads_that_are_left(model: BertModel, batch: PackedBatch) -> None:
    pruned = prune_heads(model, {0: [0, 2], 2: [0, 1, 2, 3]})
    with torch.inference_mode():
        attentions = pruned(batch, output_attentions=True).attentions
    for sequence, length in enumerate(batch.lengths):
        shapes = [tuple(layer[sequence].shape) for layer in attentions]
        assert shapes == [(2, length, length), (4, length, length), (0, length, length)]


@pytest.mark.parametrize("heads", HEADS)
def test_saved_loaded_and_read_by_hugging_face(
    model: BertModel, batch: PackedBatch, heads: dict[int, list[int]], tmp_path: Path
) -> None:
    pruned = prune_heads(model, heads)
    save_pretrained(pruned, tmp_path)
    loaded = load_encoder(tmp_path).eval()
    assert loaded.config == pruned.config
    expected = encode(pruned, batch)
    torch.testing.assert_close(encode(loaded, batch), expected, atol=0, rtol=0)
    if not hasattr(HfModel, "_prune_heads"):
        pytest.skip("this transformers has no pruned heads")
    if any(len(numbers) == 4 for numbers in heads.values()):
        return  # a layer without heads is beyond it
    sequences, kinds = random_sequences(9, longest=30, vocab=50, seed=1)
    theirs = HfModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.inference_mode():
        hidden = theirs(**padded(sequences, kinds)).last_hidden_state
    torch.testing.assert_close(unpad(hidden, batch), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({3: [0]}, "names layer 3, the network has layers 0 to 2"),
        ({0: [4]}, "names head 4 of layer 0, which has heads 0 to 3"),
        ({-1: [0]}, "names layer -1"),
    ],
)
def test_heads_that_are_not_there(
    model: BertModel, heads: dict[int, list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prune_heads(model, heads)
