"""The thinc encoder: chunks, recomputation, gradients, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import Doc
from thinc.api import set_dropout_rate

import spacy_bert
from spacy_bert.bert import load_encoder
from spacy_bert.bert.precision import has_bf16
from spacy_bert.models.encoder import EncoderModel, build_encoder, encoder_shim
from spacy_bert.wordpiece import WordPiece
from tests.conftest import SENTENCES

NLP = spacy.blank("en")


@pytest.fixture
def docs() -> list[Doc]:
    texts = [*SENTENCES, "", "word", " \n", " ".join(SENTENCES)]
    pair = spacy_bert.join(NLP, "Does it return?", SENTENCES[0])
    return [*map(NLP, texts), pair]


def encoder(checkpoint: Path, **options: Any) -> EncoderModel:
    model = build_encoder(name=str(checkpoint), **options)
    model.initialize()
    return model


def states(model: EncoderModel, docs: list[Doc]) -> list[np.ndarray]:
    data = model.predict(docs).doc_data
    return [d.model_output.last_hidden_state for d in data if "last_hidden_state" in d.model_output]


def test_results_do_not_depend_on_batch_order_or_chunks(checkpoint: Path, docs: list[Doc]) -> None:
    model = encoder(checkpoint)
    together = states(model, docs)
    alone = [state for doc in docs for state in states(model, [doc])]
    backwards = states(model, docs[::-1])[::-1]
    chunked = states(encoder(checkpoint, max_batch_pieces=10), docs)
    assert len(together) == len(docs) - 1
    for other in (alone, backwards, chunked):
        for one, two in zip(together, other, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)


def test_output_is_what_spacy_transformers_defines(checkpoint: Path, docs: list[Doc]) -> None:
    batch = encoder(checkpoint).predict(docs)
    for doc, data in zip(docs, batch.doc_data, strict=True):
        assert len(data.align.lengths) == len(doc)
        if not len(doc):
            continue
        rows, longest, width = data.model_output.last_hidden_state.shape
        assert width == 128
        assert data.wordpieces.input_ids.shape == (rows, longest)
        assert data.wordpieces.lengths == data.wordpieces.attention_mask.sum(1).tolist()
        assert all(strings[0] == "[CLS]" for strings in data.wordpieces.strings)
        flat = [piece for strings in data.wordpieces.strings for piece in strings]
        for token, pieces in zip(
            doc, np.split(data.align.dataXd, np.cumsum(data.align.lengths)[:-1]), strict=True
        ):
            spelled = "".join(flat[i].removeprefix("##") for i in pieces)
            if token.is_ascii and not token.is_space and "[UNK]" not in spelled:
                assert token.lower_ in spelled  # a piece may span tokens: "isn"
    assert len(batch.doc_data[-2].model_output.last_hidden_state) > 1, "a Doc of several windows"


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_chunks_give_the_gradient_of_one_graph(
    checkpoint: Path, docs: list[Doc], dropout: float
) -> None:
    """With dropout the two runs draw other masks: then only that the chunked run is its own."""
    gradients = []
    for budget in (10_000, 40, 40):
        model = encoder(checkpoint, max_batch_pieces=budget)
        set_dropout_rate(model, dropout)
        torch.manual_seed(7)
        batch, backprop = model.begin_update(docs)
        generator = np.random.default_rng(0)
        arrays = [
            [generator.standard_normal(d.model_output.last_hidden_state.shape, dtype="f")]
            for d in batch.doc_data
            if "last_hidden_state" in d.model_output
        ]
        before = torch.get_rng_state()
        backprop(batch.unsplit_by_doc(arrays))
        assert torch.equal(before, torch.get_rng_state()), "recomputing must not move the generator"
        network = encoder_shim(model).network
        assert not network.training
        gradients.append([p.grad for n, p in network.named_parameters() if "pooler" not in n])
    one, chunked, again = gradients
    for a, b in zip(chunked, again, strict=True):
        torch.testing.assert_close(a, b)
    if dropout == 0.0:
        for a, b in zip(one, chunked, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_recomputation_uses_the_same_dropout_masks(checkpoint: Path) -> None:
    """Of f(x) = sum of the outputs, forward and recomputed values must be the same."""
    model = encoder(checkpoint, max_batch_pieces=40)
    set_dropout_rate(model, 0.5)
    network = encoder_shim(model).network
    seen: list[torch.Tensor] = []
    network.register_forward_hook(lambda _m, _i, out: seen.append(out.last_hidden_state.detach()))
    batch, backprop = model.begin_update([NLP(" ".join(SENTENCES))])
    states = batch.doc_data[0].model_output.last_hidden_state
    first = len(seen)
    assert first > 1
    backprop(batch.unsplit_by_doc([[np.ones_like(states)]]))
    assert len(seen) == 2 * first
    for forward, recomputed in zip(seen[:first], seen[first:], strict=True):
        torch.testing.assert_close(forward, recomputed, rtol=0, atol=0)


def test_saved_encoder_loads_without_its_source(checkpoint: Path, docs: list[Doc]) -> None:
    model = encoder(checkpoint)
    expected = states(model, docs)
    loaded = build_encoder(name="/no/such/place").from_bytes(model.to_bytes())
    assert loaded.get_dim("nO") == 128
    loaded.initialize()
    for one, two in zip(expected, states(loaded, docs), strict=True):
        np.testing.assert_array_equal(one, two)
    assert model.to_bytes() == loaded.to_bytes()


def test_a_copy_has_weights_of_its_own(checkpoint: Path) -> None:
    model = encoder(checkpoint)
    copied = model.copy()
    one, two = encoder_shim(model).network, encoder_shim(copied).network
    two.embeddings.piece.weight.data.zero_()
    assert one.embeddings.piece.weight.abs().sum() > 0
    assert encoder_shim(copied).wordpiece.tokens == encoder_shim(model).wordpiece.tokens


def test_fresh_weights_by_config_and_by_pretrained_false(checkpoint: Path) -> None:
    torch.manual_seed(0)
    fresh = build_encoder(config={"preset": "tiny"}, vocab=str(checkpoint / "vocab.txt"))
    assert fresh.get_dim("nO") == 128
    fresh.initialize()
    assert encoder_shim(fresh).network.config.num_hidden_layers == 2
    random = encoder_shim(encoder(checkpoint, pretrained=False)).network
    stored = load_encoder(checkpoint)
    assert random.config == stored.config
    weights = (random.embeddings.piece.weight, stored.embeddings.piece.weight)
    assert not torch.equal(*weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "names no encoder"),
        ({"name": "/no/such/place"}, "/no/such/place: no such directory"),
        ({"config": {"preset": "tiny"}}, "no `vocab`"),
        ({"config": {"layers": 3}, "vocab": "{}"}, "no field 'layers'"),
        ({"config": {"preset": "tiny", "vocab_size": 9}, "vocab": "{}"}, "embeds only 9"),
        ({"name": "{}", "window": 65}, "window is 65 pieces, the network has positions for 64"),
        ({"name": "{}", "stride": 63}, "stride must be at most 62 pieces"),
        ({"name": "{}", "max_batch_pieces": 0}, "max_batch_pieces must be at least 1"),
        ({"name": "{}", "slide": "middle"}, 'slide must be "first" or "last"'),
    ],
)
def test_wrong_settings_are_named(checkpoint: Path, options: dict[str, Any], message: str) -> None:
    filled = {k: str(checkpoint) if v == "{}" else v for k, v in options.items()}
    with pytest.raises(ValueError, match=message):
        build_encoder(**filled).predict([NLP("text")])


def test_a_stride_wider_than_its_window_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"stride must be at most 48 pieces .*, got 50"):
        build_encoder("nothing/is-read", window=50, stride=50)
    assert build_encoder("nothing/is-read", stride=700), "a network may have 1,024 positions"


def test_a_wrong_window_is_told_when_the_network_is_loaded(checkpoint: Path) -> None:
    for setting in ({"window": 65}, {"stride": 63}):
        with pytest.raises(ValueError, match=r"window is 65|stride must be at most 62"):
            build_encoder(str(checkpoint), **setting).initialize()


def test_damaged_weights_are_named(checkpoint: Path) -> None:
    shim = encoder_shim(encoder(checkpoint))
    data = shim.to_bytes()
    with pytest.raises(ValueError, match="damaged or not spacy_bert's"):
        shim.from_bytes(data[: len(data) // 2])


def test_a_vocabulary_larger_than_the_network_is_refused(
    checkpoint: Path, tmp_path: Path, wordpiece: WordPiece
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*wordpiece.tokens, "more"]), encoding="utf8")
    with pytest.raises(ValueError, match="they do not belong together"):
        build_encoder(name=str(checkpoint), vocab=str(tmp_path / "vocab.txt")).initialize()


def trained_parameters(model: EncoderModel, docs: list[Doc]) -> set[str]:
    """Those that one update gives a gradient."""
    batch, backprop = model.begin_update(docs)
    arrays = [
        [np.ones_like(d.model_output.last_hidden_state)]
        for d in batch.doc_data
        if "last_hidden_state" in d.model_output
    ]
    backprop(batch.unsplit_by_doc(arrays))
    named = encoder_shim(model).network.named_parameters()
    return {name for name, parameter in named if parameter.grad is not None}


@pytest.mark.parametrize("max_batch_pieces", [4096, 40])
def test_frozen_layers_get_no_gradient(
    checkpoint: Path, docs: list[Doc], max_batch_pieces: int
) -> None:
    def trained(frozen: int | None) -> set[str]:
        options = {"frozen_layers": frozen, "max_batch_pieces": max_batch_pieces}
        return trained_parameters(encoder(checkpoint, **options), docs)

    everything = trained(None)
    assert {name.split(".")[0] for name in everything} == {"embeddings", "layers"}
    assert trained(0) == {n for n in everything if not n.startswith("embeddings")}
    assert trained(1) == {n for n in everything if n.startswith("layers.1.")}
    assert trained(2) == set()


def test_freezing_holds_for_loaded_and_copied_weights(checkpoint: Path, docs: list[Doc]) -> None:
    data = encoder(checkpoint).to_bytes()
    loaded = build_encoder(name="/no/such/place", frozen_layers=1).from_bytes(data)
    for model in (loaded, loaded.copy()):
        assert all(name.startswith("layers.1.") for name in trained_parameters(model, docs))


@pytest.mark.parametrize(("layers", "message"), [(3, "only 2 layers"), (-1, "at least 0")])
def test_impossible_freezing_is_named(checkpoint: Path, layers: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"frozen_layers .*{message}"):
        encoder(checkpoint, frozen_layers=layers)


def test_depth_counts_from_the_top(checkpoint: Path) -> None:
    shim = encoder_shim(encoder(checkpoint))
    depths = {name: shim.depth(name) for name, _ in shim.network.named_parameters()}
    assert {d for n, d in depths.items() if n.startswith("embeddings.")} == {3}
    assert {d for n, d in depths.items() if n.startswith("layers.0.")} == {2}
    assert {d for n, d in depths.items() if n.startswith("layers.1.")} == {1}
    assert set(depths.values()) == {0, 1, 2, 3}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_mixed_precision_trains_close_to_fp32(
    checkpoint: Path, docs: list[Doc], device: str
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    if not has_bf16(torch.device(device)):
        pytest.skip("this CPU has no instructions for bf16")
    if device == "cuda":
        spacy.require_gpu()
    outputs, gradients = [], []
    for mixed in (False, True):
        model = encoder(checkpoint, mixed_precision=mixed)
        set_dropout_rate(model, 0.0)
        batch, backprop = model.begin_update(docs)
        outputs.append(batch.doc_data[0].model_output.last_hidden_state)
        assert outputs[-1].dtype == "float32"
        generator = np.random.default_rng(0)
        arrays = [
            [generator.standard_normal(d.model_output.last_hidden_state.shape, dtype="f")]
            for d in batch.doc_data
            if "last_hidden_state" in d.model_output
        ]
        backprop(batch.unsplit_by_doc(arrays))
        weight = encoder_shim(model).network.layers[0].feed_forward.up.weight
        assert weight.dtype == weight.grad.dtype == torch.float32
        gradients.append(weight.grad)
    assert 0 < float(abs(outputs[0] - outputs[1]).max()) < 0.1
    assert torch.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.99


def test_mixed_precision_is_ignored_where_it_is_slower(
    checkpoint: Path, docs: list[Doc], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = encoder(checkpoint, mixed_precision=True)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    with encoder_shim(model).autocast():
        assert not torch.is_autocast_enabled("cpu")
    assert trained_parameters(model, docs)


def test_the_pieces_at_once_suit_the_device(checkpoint: Path) -> None:
    given, default = (
        encoder_shim(encoder(checkpoint, max_batch_pieces=n)).settings for n in (70, None)
    )
    for device in map(torch.device, ("cpu", "cuda:0", "meta")):
        assert given.pieces_at_once(device) == 70
        assert default.pieces_at_once(device) == (16384 if device.type == "cuda" else 2048)
