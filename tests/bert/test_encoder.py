"""Properties of the packed encoder that need no reference."""

from __future__ import annotations

import pytest
import torch

from spacy_bert.bert import BertConfig, BertModel, PackedBatch
from spacy_bert.bert.aligned import _mask
from spacy_bert.bert.attention import AttentionPlan, packed_attention, select_backend
from tests.bert.reference import random_sequences


@pytest.fixture
def model() -> BertModel:
    torch.manual_seed(0)
    return BertModel(BertConfig.preset("tiny", vocab_size=50)).eval()


@pytest.fixture
def sequences() -> list[list[int]]:
    return random_sequences(12, longest=30, vocab=50, seed=5)[0]


def encode(model: BertModel, sequences: list[list[int]], **kwargs: object) -> torch.Tensor:
    with torch.inference_mode():
        return model(PackedBatch.from_sequences(sequences), **kwargs).last_hidden_state


def test_a_batch_equals_its_sequences_one_by_one(
    model: BertModel, sequences: list[list[int]]
) -> None:
    alone = torch.cat([encode(model, [sequence]) for sequence in sequences])
    torch.testing.assert_close(encode(model, sequences), alone, atol=1e-5, rtol=0)


def test_order_of_the_sequences_does_not_matter(
    model: BertModel, sequences: list[list[int]]
) -> None:
    lengths = [len(sequence) for sequence in sequences]
    forward = encode(model, sequences).split(lengths)
    backward = encode(model, sequences[::-1]).split(lengths[::-1])
    for first, second in zip(forward, backward[::-1], strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


def test_attentions_are_distributions_in_batch_order(
    model: BertModel, sequences: list[list[int]]
) -> None:
    with torch.inference_mode():
        out = model(PackedBatch.from_sequences(sequences), output_attentions=True)
    assert out.hidden_states is None
    assert len(out.attentions) == 2
    for weights in out.attentions:
        for weight, sequence in zip(weights, sequences, strict=True):
            assert weight.shape == (2, len(sequence), len(sequence))
            torch.testing.assert_close(weight.sum(-1), torch.ones(2, len(sequence)))


@pytest.mark.parametrize(
    "lengths",
    [
        (5, 3, 5, 17, 1, 3),
        (1,),
        (30,),
        (7, 7, 7, 7, 7, 7),  # share rows of scores, with some left over and none before or after
        (40, 40, 40),
        (1, 2, 50),  # the last looks back, but not far enough
        (16, 16, 32, 48),
        (9, 33, 33, 70),
        tuple(range(1, 66)),
    ],
)
def test_grouped_and_explicit_attention_agree(lengths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(sum(lengths), 3, 4, 8)
    device = torch.device("cpu")
    plans = [
        AttentionPlan.build(lengths, backend=backend, device=device, longest=128)
        for backend in ("grouped", "explicit")
    ]
    grouped, explicit = (
        plan.restore(packed_attention(plan.arrange(qkv), plan, dropout=0.0)[0]) for plan in plans
    )
    torch.testing.assert_close(grouped, explicit, atol=1e-5, rtol=0)


def test_masks_live_on_the_cpu_whatever_the_default_device() -> None:
    lengths = (7, 7, 19, 40)
    qkv = torch.randn(sum(lengths), 3, 4, 8)
    plan = AttentionPlan.build(lengths, backend="grouped", device=torch.device("cpu"), longest=64)
    _mask.cache_clear()
    with torch.device("meta"):
        found, _ = packed_attention(qkv, plan, dropout=0.0)
    assert found.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neighbours_do_not_leak_into_a_sequence(dtype: torch.dtype) -> None:
    """What stands next to a sequence must not matter, however large it is."""
    torch.manual_seed(0)
    lengths = (3, 5, 5, 20, 37)
    qkv = torch.randn(sum(lengths), 3, 4, 8, dtype=dtype)
    plan = AttentionPlan.build(lengths, backend="grouped", device=torch.device("cpu"), longest=64)
    before, _ = packed_attention(qkv, plan, dropout=0.0)
    qkv[8:13] = 1e6
    after, _ = packed_attention(qkv, plan, dropout=0.0)
    untouched = torch.ones(len(qkv), dtype=torch.bool)
    untouched[8:13] = False
    assert torch.equal(before[untouched], after[untouched])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_varlen_attention_agrees_on_cuda() -> None:
    lengths = (5, 3, 64, 17, 1, 3)
    device = torch.device("cuda")
    qkv = torch.randn(sum(lengths), 3, 4, 64, device=device, dtype=torch.bfloat16)
    varlen = AttentionPlan.build(lengths, backend="varlen", device=device, longest=64)
    grouped = AttentionPlan.build(lengths, backend="grouped", device=device, longest=64)
    one, _ = packed_attention(qkv, varlen, dropout=0.0)
    other, _ = packed_attention(grouped.arrange(qkv), grouped, dropout=0.0)
    torch.testing.assert_close(one, grouped.restore(other), atol=2e-2, rtol=2e-2)


def test_backend_follows_device_precision_and_demand() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert select_backend(device=cpu, dtype=torch.bfloat16, dropout=0, weights=False) == "explicit"
    with torch.no_grad():
        half = select_backend(device=cpu, dtype=torch.bfloat16, dropout=0, weights=False)
    assert half == "grouped"
    assert select_backend(device=cuda, dtype=torch.float32, dropout=0, weights=False) == "grouped"
    assert select_backend(device=cuda, dtype=torch.bfloat16, dropout=0, weights=True) == "explicit"


def test_unit_gates_change_nothing_and_zero_gates_close_a_head(
    model: BertModel, sequences: list[list[int]]
) -> None:
    plain = encode(model, sequences)
    ones = torch.ones(2, 2)
    torch.testing.assert_close(encode(model, sequences, gates=ones), plain, atol=1e-6, rtol=0)
    closed = ones.clone()
    closed[1, 0] = 0.0
    gated = encode(model, sequences, gates=closed)
    # The same by hand: no weight leaves the head for the output projection.
    model.layers[1].attention.output.weight.data[:, :64] = 0.0
    torch.testing.assert_close(gated, encode(model, sequences), atol=1e-6, rtol=0)
    assert not torch.allclose(gated, plain, atol=1e-3)


def test_gates_for_each_sequence_equal_batches_of_one(
    model: BertModel, sequences: list[list[int]]
) -> None:
    gates = torch.rand(len(sequences), 2, 2, generator=torch.Generator().manual_seed(0))
    together = encode(model, sequences, gates=gates)
    alone = [encode(model, [s], gates=g) for s, g in zip(sequences, gates, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


def test_gradient_of_a_gate_equals_the_central_difference(sequences: list[list[int]]) -> None:
    torch.manual_seed(0)
    model = BertModel(BertConfig.preset("tiny", vocab_size=50)).double().eval()
    batch = PackedBatch.from_sequences(sequences)
    gates = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    model(batch, gates=gates).last_hidden_state.pow(3).sum().backward()
    step = torch.zeros(2, 2, dtype=torch.float64)
    step[0, 1] = 1e-6
    with torch.no_grad():
        up, down = (
            model(batch, gates=gates + sign * step).last_hidden_state.pow(3).sum()
            for sign in (1, -1)
        )
    torch.testing.assert_close(gates.grad[0, 1], (up - down) / 2e-6, rtol=1e-6, atol=0)


def test_dropout_works_in_training_only_and_can_be_set(
    model: BertModel, sequences: list[list[int]]
) -> None:
    plain = encode(model, sequences)
    model.train()
    assert not torch.allclose(encode(model, sequences), plain)
    model.set_dropout(0.0)
    torch.testing.assert_close(encode(model, sequences), plain)


def test_initialisation_is_a_truncated_normal_of_std_002() -> None:
    torch.manual_seed(0)
    model = BertModel(BertConfig.preset("mini", vocab_size=3000))
    weight = model.embeddings.piece.weight
    assert weight.abs().max() <= 0.04
    # A normal cut at two standard deviations keeps .774 of its variance.
    assert weight.std().item() == pytest.approx(0.02 * 0.774**0.5, rel=0.02)
    assert model.layers[0].feed_forward.up.bias.abs().max() == 0.0


def test_wrong_input_is_refused_with_a_reason(model: BertModel) -> None:
    with pytest.raises(ValueError, match=r"513 pieces.*positions for 512"):
        model(PackedBatch.from_sequences([[1] * 513]))
    with pytest.raises(ValueError, match="holds no sequence"):
        model(PackedBatch.from_sequences([]))
    with pytest.raises(ValueError, match=r"gates have shape \(3, 2\)"):
        model(PackedBatch.from_sequences([[1, 2]]), gates=torch.ones(3, 2))
    one = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"PackedBatch.pieces has shape \(3,\)"):
        PackedBatch(pieces=one, positions=one, segments=one, lengths=(2, 2))
