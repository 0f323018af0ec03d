"""Traces: equal to the network's own outputs, aligned, bounded, saved and read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from transformers import AutoTokenizer, GPT2Config, GPT2Model, RobertaConfig, RobertaModel
from transformers import BertModel as HfModel

import spacy_bert
from spacy_bert.analysis import passes, tracing
from spacy_bert.analysis.alignment import average_rows, merge_attention
from spacy_bert.analysis.trace import Trace
from spacy_bert.analysis.trace_files import load_traces, save_traces
from tests.conftest import SENTENCES

LONG = " ".join(SENTENCES * 3)


def test_equal_to_hugging_face(nlp: Language, checkpoint: Path) -> None:
    theirs = HfModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for trace in spacy_bert.trace(nlp, SENTENCES):
        encoded = tokenizer(trace.doc.text, return_tensors="pt")
        with torch.inference_mode():
            output = theirs(**encoded, output_hidden_states=True, output_attentions=True)
        assert trace.pieces == tokenizer.convert_ids_to_tokens(encoded.input_ids[0].tolist())
        hidden = torch.cat(output.hidden_states).numpy()
        np.testing.assert_allclose(trace.hidden, hidden, atol=1e-5)
        attention = torch.cat(output.attentions).numpy()
        np.testing.assert_allclose(trace.attention, attention, atol=1e-5)
        np.testing.assert_allclose(trace.layer(-1), hidden[-1], atol=1e-5)


def test_a_batch_equals_one_by_one(narrow: Language) -> None:
    texts = [*SENTENCES, LONG, "x"]
    for together, text in zip(spacy_bert.trace(narrow, texts), texts, strict=True):
        alone = spacy_bert.trace(narrow, text)
        assert isinstance(alone, Trace)
        assert alone.doc.text == together.doc.text
        np.testing.assert_allclose(alone.hidden, together.hidden, atol=1e-5)
        for one, other in zip(alone.attentions, together.attentions, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_nothing_is_computed_before_it_is_asked_for(
    nlp: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    look = passes.look

    def counted(*args: object, attention: bool) -> object:
        calls.append(attention)
        return look(*args, attention=attention)  # type: ignore[arg-type]

    monkeypatch.setattr(tracing, "look", counted)
    monkeypatch.setattr(tracing, "PIECES", 40)
    traces = spacy_bert.trace(nlp, SENTENCES * 4)
    first = traces[0]
    assert not calls
    assert first.pieces[0] == "[CLS]"
    assert len(first.hidden) == 3
    assert calls == [False]
    assert len(first.attention) == len(first.hidden) - 1 == len(first.tokens().attention)
    assert calls == [False, True]
    calls.clear()
    traces = spacy_bert.trace(nlp, SENTENCES * 4)
    batches = len(traces._batches)
    assert 3 < batches < len(traces)
    for trace in traces:  # in order: one pass for each batch
        assert len(trace.attention) == len(trace.hidden) - 1
    assert calls == [True] * batches


def tokens_by_hand(trace: Trace) -> Iterator[list[int]]:
    """The pieces of each token, found by their characters."""
    for token in trace.doc:
        end = token.idx + len(token)
        yield [
            i
            for i, (start, stop) in enumerate(trace.reading.offsets.tolist())
            if start >= 0 and start < end and stop > token.idx
        ]


def test_tokens_sum_to_and_mean_from(nlp: Language) -> None:
    trace = spacy_bert.trace(nlp, SENTENCES[3])
    pieces = list(tokens_by_hand(trace))
    assert max(map(len, pieces)) > 1
    units, attention = trace.tokens(), trace.attention
    assert units.labels == [token.text for token in trace.doc]
    assert units.attention.shape == (2, 2, len(trace.doc), len(trace.doc))
    for i, row in enumerate(pieces):
        np.testing.assert_allclose(units.hidden[:, i], trace.hidden[:, row].mean(axis=1), atol=1e-6)
        for j, column in enumerate(pieces):
            shares = [1 / sum(piece in other for other in pieces) for piece in column]
            expected = (attention[:, :, row][..., column] @ np.float32(shares)).mean(axis=-1)
            np.testing.assert_allclose(units.attention[:, :, i, j], expected, atol=1e-6)
    special = trace.tokens(special=True)
    assert special.labels == ["[CLS]", *units.labels, "[SEP]"]
    np.testing.assert_allclose(special.attention.sum(axis=-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(special.attention[:, :, 1:-1, 1:-1], units.attention, atol=1e-6)
    assert special.token_of_unit.tolist() == [-1, *range(len(trace.doc)), -1]


def test_representations_name_what_they_hold(nlp: Language) -> None:
    trace = spacy_bert.trace(nlp, "the quick brown fox")
    assert repr(trace).endswith("1 window>")
    assert repr(trace.tokens()) == "<UnitTrace of 4: 'the', 'quick', 'brown', 'fox'>"
    assert repr(spacy_bert.trace(nlp, "the " * 13).tokens()).endswith("'the', ...>")


def test_windows(narrow: Language) -> None:
    trace = spacy_bert.trace(narrow, LONG)
    assert len(trace.reading.lengths) > 3
    assert trace.hidden.shape[1] == sum(trace.reading.lengths) == len(trace.pieces)
    with pytest.raises(ValueError, match=r"read in \d+ windows"):
        trace.attention  # noqa: B018
    units = trace.tokens(special=True)
    np.testing.assert_allclose(units.attention.sum(axis=-1), 1.0, atol=1e-5)
    plain = trace.tokens()
    assert plain.labels == [token.text for token in trace.doc]
    counts = trace.reading.align_lengths
    starts = np.cumsum(counts) - counts
    for i, (start, count) in enumerate(zip(starts, counts, strict=True)):
        own = trace.reading.align_pieces[start : start + count]
        expected = trace.hidden[:, own].mean(axis=1)
        np.testing.assert_allclose(plain.hidden[:, i], expected, atol=1e-6)
    # What the component leaves on the Doc is the last layer.
    doc = narrow(narrow.make_doc(LONG))
    rows = doc._.trf_data.model_output.last_hidden_state.reshape(-1, 128)
    last = rows[doc._.trf_data.align.dataXd]
    np.testing.assert_allclose(trace.layer(-1)[trace.reading.align_pieces], last, atol=1e-5)


def test_segments_and_parts(nlp: Language) -> None:
    doc = spacy_bert.join(nlp, "Does the function return?", "A list keeps values in order.")
    trace = spacy_bert.trace(nlp, doc)
    units = trace.segments()
    assert units.labels == ["segment 1", "segment 2", "[CLS]", "[SEP]", "[SEP]"]
    np.testing.assert_allclose(units.attention.sum(axis=-1), 1.0, atol=1e-5)
    kinds = trace.reading.segment_ids
    first = np.flatnonzero((kinds == 0) & (trace.reading.offsets[:, 0] >= 0))
    second = np.flatnonzero((kinds == 1) & (trace.reading.offsets[:, 0] >= 0))
    expected = trace.attention[:, :, first][..., second].sum(axis=-1).mean(axis=-1)
    np.testing.assert_allclose(units.attention[:, :, 0, 1], expected, atol=1e-6)

    span = doc[6:9]
    part, whole = trace[span], trace.tokens()
    assert part.labels == [token.text for token in span]
    np.testing.assert_allclose(part.hidden, whole.hidden[:, 6:9], atol=1e-6)
    np.testing.assert_allclose(part.attention, whole.attention[:, :, 6:9, 6:9], atol=1e-6)
    assert trace[doc[3]].labels == trace[3].labels == [doc[3].text]
    assert trace[-2:].labels == [token.text for token in doc[-2:]]
    border = [token.i for token in doc if token.is_space]
    assert not whole.hidden[:, border].any()
    with pytest.raises(ValueError, match="another Doc"):
        trace[nlp.make_doc("A list")[0]]


def test_any_encoder_of_spacy_transformers(tmp_path: Path, wordpiece: object) -> None:
    texts = [SENTENCES[0], "Naïve readers of façades."]
    for kind in ("gpt2", "roberta"):
        path = stock_model(tmp_path / kind, kind)
        nlp = spacy.blank("en")
        model = {
            "@architectures": "spacy-transformers.TransformerModel.v3",
            "name": str(path),
            "tokenizer_config": {"use_fast": True},
            "get_spans": {
                "@span_getters": "spacy-transformers.strided_spans.v1",
                "window": 6,
                "stride": 4,
            },
        }
        nlp.add_pipe("transformer", config={"model": model})
        nlp.initialize()
        for trace in spacy_bert.trace(nlp, texts):
            doc = nlp(nlp.make_doc(trace.doc.text))
            data = doc._.trf_data
            rows = data.model_output.last_hidden_state
            assert trace.hidden.shape == (3, sum(trace.reading.lengths), 32)
            longest = rows.shape[1]
            unpadded = np.concatenate(
                [row[:n] for row, n in zip(rows, trace.reading.lengths, strict=True)]
            )
            np.testing.assert_allclose(trace.layer(-1), unpadded, atol=1e-5)
            units = trace.tokens()
            for i in range(len(doc)):  # of a token's first span
                own = data.align[i].dataXd.reshape(-1)
                own = own[own // longest == own.min() // longest]
                expected = rows.reshape(-1, 32)[own].mean(axis=0)
                np.testing.assert_allclose(units.hidden[-1, i], expected, atol=1e-5)
            with pytest.raises(ValueError, match="hidden states alone"):
                trace.attentions  # noqa: B018


def stock_model(path: Path, kind: str) -> Path:
    """A random model of two layers with a tokenizer of bytes."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2TokenizerFast, RobertaTokenizerFast

    tokens = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
    tokens.train_from_iterator(SENTENCES, vocab_size=300, special_tokens=special)
    path.mkdir()
    tokens.save_model(str(path))
    torch.manual_seed(0)
    files = str(path / "vocab.json"), str(path / "merges.txt")
    size = tokens.get_vocab_size()
    if kind == "gpt2":
        GPT2TokenizerFast(*files, pad_token="<pad>").save_pretrained(path)
        config = GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=64)
        GPT2Model(config).save_pretrained(path)
    else:
        RobertaTokenizerFast(*files).save_pretrained(path)
        RobertaModel(
            RobertaConfig(
                vocab_size=size,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=66,
            )
        ).save_pretrained(path)
    return path


def test_saved_and_loaded(narrow: Language, tmp_path: Path) -> None:
    traces = spacy_bert.trace(narrow, [*SENTENCES, LONG])
    file = tmp_path / "traces.safetensors"
    save_traces(traces, file)
    loaded = load_traces(file)
    assert len(loaded) == len(traces)
    for one, other in zip(traces, loaded, strict=True):
        assert [t.text for t in one.doc] == [t.text for t in other.doc]
        assert one.pieces == other.pieces
        np.testing.assert_array_equal(one.hidden, other.hidden)
        for a, b in zip(one.attentions, other.attentions, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(one.tokens().attention, other.tokens().attention)
    save_traces(traces, file, attention=False)
    with pytest.raises(ValueError, match="hidden states alone"):
        load_traces(file)[0].attentions  # noqa: B018
    for content in (b"", b"{}", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"traces\.safetensors: "):
            load_traces(file)


def test_what_cannot_be_traced(nlp: Language) -> None:
    with pytest.raises(ValueError, match="the Doc has no tokens"):
        spacy_bert.trace(nlp, "")
    with pytest.raises(ValueError, match="Doc 1 has no tokens"):
        spacy_bert.trace(nlp, ["a", ""])
    for wrong in (5, nlp.make_doc("one two")[:1]):
        with pytest.raises(TypeError, match="give a Doc, a text, or several of them"):
            spacy_bert.trace(nlp, wrong)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="no encoder of spacy_bert's"):
        spacy_bert.trace(spacy.blank("en"), "a")
    with pytest.raises(ValueError, match="no component 'bort': it has bert"):
        spacy_bert.trace(nlp, "a", component="bort")
    with pytest.raises(ValueError, match="no layer 3: 0 is the embeddings, 2 the last"):
        spacy_bert.trace(nlp, "a").layer(3)
    assert list(spacy_bert.trace(nlp, [])) == []


def test_merging_by_hand() -> None:
    weights = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.0, 0.5, 0.5]])
    units = np.array([[1, 0], [0, 1], [0, 1]], dtype=bool)
    merged = merge_attention(weights, units)
    np.testing.assert_allclose(merged, [[0.5, 0.5], [0.05, 0.95]])
    left_out = merge_attention(weights, np.array([[0, 0], [1, 0], [1, 0]], dtype=bool))
    np.testing.assert_allclose(left_out, [[0.95, 0.0], [0.0, 0.0]])
    rows = average_rows(np.array([[1.0], [2.0], [4.0]]), units)
    np.testing.assert_allclose(rows, [[1.0], [3.0]])
    # The second piece is of both units.
    both = np.array([[1, 0], [1, 1], [0, 1]], dtype=bool)
    merged = merge_attention(weights, both)
    np.testing.assert_allclose(merged.sum(axis=1), 1.0)
    np.testing.assert_allclose(merged[0], [0.4125, 0.5875])
    np.testing.assert_allclose(average_rows(np.array([[1.0], [2.0], [4.0]]), both), [[1.5], [3.0]])
