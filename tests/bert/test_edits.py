"""What analyses change inside the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from spacy_bert.bert import BertConfig, BertModel, PackedBatch
from spacy_bert.bert.edits import Edits
from tests.bert.reference import random_sequences


@pytest.fixture
def model() -> BertModel:
    torch.manual_seed(0)
    return BertModel(BertConfig.preset("tiny", vocab_size=50)).eval()


@pytest.fixture
def batch() -> PackedBatch:
    return PackedBatch.from_sequences(random_sequences(7, longest=20, vocab=50, seed=3)[0])


def encode(model: BertModel, batch: PackedBatch, edits: Edits | None = None) -> Tensor:
    with torch.inference_mode():
        return model(batch, edits=edits).last_hidden_state


def test_edits_that_change_nothing(model: BertModel, batch: PackedBatch) -> None:
    edits = Edits(attention={0: lambda w, _: w}, states={0: torch.clone, 2: torch.clone})
    torch.testing.assert_close(encode(model, batch, edits), encode(model, batch), atol=1e-5, rtol=0)


def test_states_stand_in_the_order_of_the_batch(model: BertModel, batch: PackedBatch) -> None:
    with torch.inference_mode():
        states = model(batch, output_hidden_states=True).hidden_states
    seen: dict[int, Tensor] = {}

    def look(layer: int) -> object:
        return lambda hidden: seen.setdefault(layer, hidden)

    encode(model, batch, Edits(states={layer: look(layer) for layer in range(3)}))
    for layer, state in enumerate(states):
        torch.testing.assert_close(seen[layer], state, atol=1e-5, rtol=0)


def test_a_changed_sequence_leaves_the_others_alone(model: BertModel, batch: PackedBatch) -> None:
    start, length = int(batch.starts[3]), batch.lengths[3]
    rows = slice(start, start + length)

    def erase(hidden: Tensor) -> Tensor:
        hidden = hidden.clone()
        hidden[rows] = 0.0
        return hidden

    plain, changed = encode(model, batch), encode(model, batch, Edits(states={1: erase}))
    same = torch.ones(len(plain), dtype=torch.bool)
    same[rows] = False
    torch.testing.assert_close(changed[same], plain[same], atol=1e-5, rtol=0)
    assert not torch.allclose(changed[rows], plain[rows], atol=1e-2)


def test_attention_is_told_which_sequences_it_sees(model: BertModel, batch: PackedBatch) -> None:
    target = 3

    def uniform(weights: Tensor, sequences: np.ndarray) -> Tensor:
        changed = weights.clone()
        found = torch.from_numpy(sequences == target)
        changed[found] = 1.0 / weights.shape[-1]
        return changed

    edits = Edits(attention={1: uniform})
    with torch.inference_mode():
        out = model(batch, edits=edits, output_attentions=True)
        plain = model(batch, output_attentions=True)
    for sequence, length in enumerate(batch.lengths):
        after, before = out.attentions[1][sequence], plain.attentions[1][sequence]
        if sequence == target:
            torch.testing.assert_close(after, torch.full_like(after, 1 / length))
        else:
            torch.testing.assert_close(after, before)
    rows = np.repeat(np.arange(len(batch.lengths)), batch.lengths) == target
    difference = (out.last_hidden_state - plain.last_hidden_state).abs().amax(dim=1).numpy()
    assert (difference[rows] > 1e-4).all()
    assert (difference[~rows] < 1e-5).all()


def test_rows_do_not_go_with_edits(model: BertModel, batch: PackedBatch) -> None:
    with pytest.raises(ValueError, match="rows go together neither"):
        model(batch, rows=torch.tensor([0]), edits=Edits())
