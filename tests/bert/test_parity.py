"""The network against Hugging Face's, on real and on random weights."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig as HfConfig
from transformers import BertForPreTraining as HfForPreTraining
from transformers import BertModel as HfModel
from transformers import BertTokenizerFast

from spacy_bert.bert import (
    BertConfig,
    BertForPreTraining,
    PackedBatch,
    load_encoder,
    load_pretraining,
    save_pretrained,
)
from spacy_bert.bert.names import hf_names
from tests.bert.reference import padded, random_sequences, unpad
from tests.weights import MINILM, RXNFP, needs_minilm, needs_rxnfp

TEXT = """the quick brown fox jumps over a lazy dog while unbelievably patient zookeepers watch
photosynthesis, electrons; 1848 Paris (France) isn't far-away: naïve façade 東京 données"""
WORDS = TEXT.split()

# Two fp32 computations each round: on these pairs Hugging Face's own eager and sdpa differ by
# 1.25e-5 where values are large. Against float64, where only ours rounds, 1e-5 is strict.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def sentences(count: int, *, seed: int) -> list[str]:
    """Sentences of 1 to 40 words."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 41, (count,), generator=generator).tolist()
    picks = [torch.randint(0, len(WORDS), (n,), generator=generator).tolist() for n in lengths]
    return [" ".join(WORDS[i] for i in pick) for pick in picks]


@needs_minilm
@pytest.mark.parametrize("kind", ["single sentences", "pairs"])
def test_hidden_states_and_attentions_equal_hf_on_minilm(kind: str) -> None:
    assert MINILM is not None
    tokenizer = BertTokenizerFast.from_pretrained(MINILM)
    first = sentences(256, seed=0)
    second = sentences(256, seed=1) if kind == "pairs" else None
    encoded = tokenizer(first, second)
    sequences, kinds = encoded["input_ids"], encoded["token_type_ids"]
    batch = PackedBatch.from_sequences(sequences, segments=kinds)
    inputs = padded(sequences, kinds)
    ours = load_encoder(MINILM).eval()
    sdpa = HfModel.from_pretrained(MINILM, attn_implementation="sdpa").eval()
    eager = HfModel.from_pretrained(MINILM, attn_implementation="eager").eval()
    with torch.inference_mode():
        fast = ours(batch, output_hidden_states=True)
        explicit = ours(batch, output_hidden_states=True, output_attentions=True)
        theirs = sdpa(**inputs, output_hidden_states=True)
        theirs_eager = eager(**inputs, output_hidden_states=True, output_attentions=True)
        exact = sdpa.double()(**inputs, output_hidden_states=True)
    assert len(fast.hidden_states) == len(theirs.hidden_states) == 7
    for layer in range(7):
        expected = unpad(exact.hidden_states[layer], batch)
        for ours_in_fp32 in (fast, explicit):
            difference = ours_in_fp32.hidden_states[layer].double() - expected
            assert difference.abs().max() < 1e-5
        for reference in (theirs, theirs_eager):
            expected = unpad(reference.hidden_states[layer], batch)
            torch.testing.assert_close(fast.hidden_states[layer], expected, **CLOSE)
            torch.testing.assert_close(explicit.hidden_states[layer], expected, **CLOSE)
    for layer, weights in enumerate(explicit.attentions):
        assert len(weights) == 256
        for row, (weight, length) in enumerate(zip(weights, batch.lengths, strict=True)):
            expected = theirs_eager.attentions[layer][row, :, :length, :length]
            torch.testing.assert_close(weight, expected, atol=1e-5, rtol=0)
    pooled = ours.pooler(fast.last_hidden_state[batch.starts])
    torch.testing.assert_close(pooled, theirs.pooler_output, atol=1e-5, rtol=0)


@needs_rxnfp
def test_pretraining_logits_equal_hf_on_rxnfp() -> None:
    assert RXNFP is not None
    config = json.loads((RXNFP / "config.json").read_text())
    ours = load_pretraining(RXNFP).eval()
    theirs = HfForPreTraining(HfConfig.from_pretrained(RXNFP))
    state = torch.load(RXNFP / "pytorch_model.bin", weights_only=True)
    missing, _ = theirs.load_state_dict(state, strict=False)
    assert not [name for name in missing if "position_ids" not in name and "decoder" not in name]
    theirs.eval()
    sequences, kinds = random_sequences(32, longest=200, vocab=config["vocab_size"], seed=0)
    kinds = [[0] * len(row) for row in kinds] if config["type_vocab_size"] == 1 else kinds
    batch = PackedBatch.from_sequences(sequences, segments=kinds)
    with torch.inference_mode():
        out = ours(batch, torch.arange(sum(batch.lengths)))
        expected = theirs(**padded(sequences, kinds))
    torch.testing.assert_close(
        out.mlm_logits, unpad(expected.prediction_logits, batch), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(out.nsp_logits, expected.seq_relationship_logits, atol=1e-4, rtol=0)


def test_gradients_of_the_pretraining_loss_equal_hf(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig.preset(
        "tiny", vocab_size=101, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    # Larger weights than a fresh model's, so that no gradient is close to nothing.
    ours = BertForPreTraining(config)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_pretrained(ours, tmp_path)
    theirs = HfForPreTraining.from_pretrained(tmp_path).train()
    sequences, kinds = random_sequences(9, longest=40, vocab=101, seed=3)
    batch = PackedBatch.from_sequences(sequences, segments=kinds)
    total = sum(batch.lengths)
    masked = torch.arange(0, total, 6)
    labels = (torch.arange(len(masked)) * 7) % 101
    next_labels = torch.arange(9) % 2

    out = ours.train()(batch, masked)
    loss = F.cross_entropy(out.mlm_logits, labels) + F.cross_entropy(out.nsp_logits, next_labels)
    loss.backward()

    flat = torch.full((total,), -100)
    flat[masked] = labels
    rows = [row.tolist() for row in flat.split(batch.lengths)]
    width = max(batch.lengths)
    padded_labels = torch.tensor([row + [-100] * (width - len(row)) for row in rows])
    expected = theirs(
        **padded(sequences, kinds), labels=padded_labels, next_sentence_label=next_labels
    )
    expected.loss.backward()

    torch.testing.assert_close(loss, expected.loss, rtol=1e-5, atol=0)
    hf_gradients = {name: p.grad for name, p in theirs.named_parameters()}
    seen = set()
    for name, parameter in ours.named_parameters():
        names = hf_names(name)
        seen.update(names)
        reference = torch.cat([hf_gradients[n] for n in names])
        error = (parameter.grad - reference).norm() / reference.norm()
        # A key's bias shifts all scores of a query alike: its gradient is 0 but for rounding,
        # and stands here inside the fused bias beside those of query and value.
        assert error < 1e-4, f"{name}: relative error {error}"
    assert seen == set(hf_gradients)


def test_transformers_loads_what_we_save(tmp_path: Path) -> None:
    torch.manual_seed(1)
    ours = BertForPreTraining(BertConfig.preset("tiny", vocab_size=67)).eval()
    save_pretrained(ours, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs, report = HfForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    sequences, kinds = random_sequences(8, longest=50, vocab=67, seed=0)
    batch = PackedBatch.from_sequences(sequences, segments=kinds)
    with torch.inference_mode():
        out = ours(batch, torch.arange(sum(batch.lengths)))
        expected = theirs.eval()(**padded(sequences, kinds))
    torch.testing.assert_close(
        out.mlm_logits, unpad(expected.prediction_logits, batch), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(out.nsp_logits, expected.seq_relationship_logits, atol=1e-5, rtol=0)
