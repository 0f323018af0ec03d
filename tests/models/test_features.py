"""A frozen encoder's layers as features: equal to Hugging Face's, kept between epochs."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import Doc
from thinc.api import Model
from transformers import AutoTokenizer, BertModel

from spacy_bert.bert import PackedBatch
from spacy_bert.models.encoder import EncoderShim, build_encoder, encoder_shim
from spacy_bert.models.feature_cache import FeatureCache, content_key
from spacy_bert.models.features import LayerChoice, build_layer_features
from spacy_bert.models.scalar_mix import ScalarMix
from spacy_bert.models.segments import join
from tests.conftest import SENTENCES
from tests.weights import MINILM, needs_minilm

NLP = spacy.blank("en")
TEXTS = [*SENTENCES, "two  spaces", " ", "", "dog"]


def features(checkpoint: Path, layers: list[int] | None, **options: Any) -> Model[Any, Any]:
    encoder = {key: options.pop(key) for key in ("window", "max_batch_pieces") if key in options}
    model = build_layer_features(build_encoder(str(checkpoint), **encoder), layers, **options)
    model.initialize(X=[NLP(SENTENCES[0])])
    return model


def shim_of(model: Model[Any, Any]) -> EncoderShim:
    return encoder_shim(model.layers[0].layers[0])


def cache_of(model: Model[Any, Any]) -> FeatureCache:
    cache = model.layers[0].attrs["cache"]
    assert isinstance(cache, FeatureCache)
    return cache


class Passes:
    """Counts the encoder's passes."""

    def __init__(self, batches: list[PackedBatch]) -> None:
        self.batches = batches
        batches.clear()

    def take(self) -> int:
        """How many since the last call."""
        count = len(self.batches)
        self.batches.clear()
        return count


@needs_minilm
@pytest.mark.parametrize("layers", [[0], [-2], [-1], [-4, -3, -2, -1], [6, 1]])
def test_concatenated_layers_are_hugging_faces_at_first_pieces(layers: list[int]) -> None:
    assert MINILM is not None
    docs = [NLP(text) for text in SENTENCES]
    ours = features(MINILM, layers).predict(docs)
    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    theirs = BertModel.from_pretrained(MINILM).eval()
    for doc, vectors in zip(docs, ours, strict=True):
        encoded = tokenizer(doc.text, return_tensors="pt", return_offsets_mapping=True)
        offsets = encoded.pop("offset_mapping")[0]
        with torch.no_grad():
            states = theirs(**encoded, output_hidden_states=True).hidden_states
        joined = torch.cat([states[layer][0] for layer in layers], dim=1).numpy()
        assert vectors.shape == (len(doc), len(layers) * 384)
        for token in doc:
            inside = (offsets[:, 1] > token.idx) & (offsets[:, 0] < token.idx + len(token))
            first = int(inside.nonzero()[0])
            np.testing.assert_allclose(vectors[token.i], joined[first], atol=1e-5)


def test_chunks_and_windows_give_the_same_as_one_by_one(checkpoint: Path) -> None:
    docs = [NLP(text) for text in [*TEXTS, " ".join(SENTENCES)]]  # the last in several windows
    docs.append(join(NLP, "one segment", "and another"))
    small = features(checkpoint, [0, 1, 2], max_batch_pieces=50)
    together = small.predict(docs)
    for doc, vectors in zip(docs, together, strict=True):
        (alone,) = features(checkpoint, [0, 1, 2]).predict([doc])
        np.testing.assert_allclose(vectors, alone, atol=1e-5)
        spaces = [token.is_space for token in doc]
        assert not vectors[spaces].any()
        assert vectors[np.logical_not(spaces)].any(axis=1).all()


def test_weighted_begins_as_the_mean_and_null_is_all_layers(checkpoint: Path) -> None:
    docs = [NLP(text) for text in SENTENCES]
    every = features(checkpoint, None, combine="weighted").predict(docs)
    apart = features(checkpoint, [1, 2]).predict(docs)
    for mixed, vectors in zip(every, apart, strict=True):
        expected = vectors.reshape(len(vectors), 2, -1).mean(axis=1)
        np.testing.assert_allclose(mixed, expected, atol=1e-5)


def test_the_second_epoch_needs_no_encoder(checkpoint: Path, batches: list[PackedBatch]) -> None:
    model = features(checkpoint, [-1, -2])
    passes = Passes(batches)
    first = model.begin_update([NLP(text) for text in TEXTS])[0]
    assert passes.take() == 1
    # Docs are new objects, in other batches, of another vocabulary; and dev is predicted.
    other = spacy.blank("en")
    again = model.begin_update([other(text) for text in reversed(TEXTS)])[0]
    assert passes.take() == 0
    predicted = model.predict([other(text) for text in reversed(TEXTS)])
    assert passes.take() == 0
    for one, two, three in zip(first, reversed(again), reversed(predicted), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    # What goes out may be changed without harm.
    again[0][:] = 7.0
    np.testing.assert_array_equal(model.predict([NLP(TEXTS[-1])])[0], first[-1])
    # Another text misses, alone; so does another tokenization of the same, and a dev set is kept.
    cut = Doc(NLP.vocab, words=["d", "og"], spaces=[False, False])
    for docs, expected in (([NLP("A new text"), NLP("dog")], 1), ([cut], 1), ([cut], 0)):
        model.predict(docs)
        assert passes.take() == expected


def test_the_same_text_twice_in_a_batch_is_read_once(
    checkpoint: Path, batches: list[PackedBatch]
) -> None:
    model = features(checkpoint, [-1])
    batches.clear()
    one, two = model.predict([NLP("dog"), NLP("dog")])
    np.testing.assert_array_equal(one, two)
    model.predict([NLP("dog")])
    both, alone = batches
    assert len(both.pieces) == len(alone.pieces)


def test_who_only_predicts_keeps_nothing(checkpoint: Path, batches: list[PackedBatch]) -> None:
    model = features(checkpoint, [-1])
    passes = Passes(batches)
    for _ in range(2):
        model.predict([NLP(text) for text in SENTENCES])
    assert passes.take() == 2
    assert not len(cache_of(model))


def test_cached_and_computed_agree(checkpoint: Path) -> None:
    with_cache, without = (features(checkpoint, [0, 2], cache_mb=mb) for mb in (10, 0))
    for _ in range(2):
        docs = [NLP(text) for text in TEXTS]
        pairs = zip(with_cache.begin_update(docs)[0], without.begin_update(docs)[0], strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert len(cache_of(with_cache)) == len(TEXTS)
    assert len(cache_of(without)) == 0


def test_what_does_not_fit_is_computed_again(checkpoint: Path, batches: list[PackedBatch]) -> None:
    model = features(checkpoint, [0, 1, 2], cache_mb=1)
    docs = [NLP(f"{i} " * 50) for i in range(20)]
    passes = Passes(batches)
    with pytest.warns(UserWarning, match=r"has kept the features of \d+ texts, cache_mb = 1 megab"):
        model.begin_update(docs)
    kept = len(cache_of(model))
    assert 0 < kept < 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        passes.take()
        model.begin_update(docs[:kept])
        assert passes.take() == 0
        model.begin_update(docs)
        assert passes.take() == 1
    assert len(cache_of(model)) == kept


def test_other_weights_empty_the_cache(checkpoint: Path) -> None:
    model = features(checkpoint, [-1])
    doc = NLP(SENTENCES[0])
    model.begin_update([doc])
    saved = model.to_bytes()
    assert len(cache_of(model)) == 1
    network = shim_of(model).network
    torch.manual_seed(3)
    with torch.no_grad():
        other = {name: torch.randn_like(w) * 0.02 for name, w in network.state_dict().items()}
    network.load_state_dict(other)
    (changed,) = model.begin_update([doc])[0]
    fresh = features(checkpoint, [-1])
    shim_of(fresh).network.load_state_dict(other)
    np.testing.assert_allclose(changed, fresh.predict([doc])[0], atol=1e-5)
    model.from_bytes(saved)
    (back,) = model.predict([doc])
    assert len(cache_of(model)) == 0
    np.testing.assert_allclose(back, features(checkpoint, [-1]).predict([doc])[0], atol=1e-6)


def test_the_cache_is_neither_saved_nor_copied(checkpoint: Path) -> None:
    model = features(checkpoint, [-1], combine="weighted")
    before = model.to_bytes()
    model.begin_update([NLP(text) for text in SENTENCES])
    assert len(cache_of(model)) == len(SENTENCES)
    assert model.to_bytes() == before
    for other in (model.copy(), copy.deepcopy(cache_of(model)), pickle.loads(pickle.dumps(model))):
        assert len(other if isinstance(other, FeatureCache) else cache_of(other)) == 0
    np.testing.assert_allclose(
        pickle.loads(pickle.dumps(model)).predict([NLP("dog")])[0],
        model.predict([NLP("dog")])[0],
        atol=1e-6,
    )


def test_nothing_trains_the_encoder_and_nothing_drops(checkpoint: Path) -> None:
    model = features(checkpoint, [1, 2], combine="weighted", cache_mb=0)
    for node in model.walk():
        if "dropout_rate" in node.attrs:
            node.attrs["dropout_rate"] = 0.9
    docs = [NLP(text) for text in SENTENCES]
    outputs, backprop = model.begin_update(docs)
    for trained, predicted in zip(outputs, model.predict(docs), strict=True):
        np.testing.assert_allclose(trained, predicted, atol=1e-6)
    assert backprop(outputs) == docs
    assert all(parameter.grad is None for parameter in shim_of(model).network.parameters())
    (mix,) = (s.module for n in model.walk() for s in n.shims if not isinstance(s, EncoderShim))
    assert isinstance(mix, ScalarMix)
    assert mix.weights.grad is not None


def test_indices_count_from_both_ends() -> None:
    assert LayerChoice((0, 1, 12, -2)).resolve(12) == [0, 1, 12, 11]
    assert LayerChoice((-13, -1)).resolve(12) == [0, 12]
    assert LayerChoice(None).resolve(3) == [1, 2, 3]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([3], r"layers has 3, but the encoder has 2 layers: an index goes from 0 .* to 2, or from"),
        ([-1, -4], r"layers has -4, but .* or from -1 \(the last layer\) to -3"),
        ([-1, 2], r"layers names a layer twice: \[-1, 2\], in an encoder of 2 layers"),
    ],
)
def test_a_layer_that_is_not_there(checkpoint: Path, layers: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        features(checkpoint, layers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, "layers is empty"),
        ({"combine": "sum"}, 'combine must be "concat" or "weighted", got \'sum\''),
        ({"cache_mb": -1}, "cache_mb must be at least 0"),
    ],
)
def test_a_setting_out_of_range(checkpoint: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        features(checkpoint, **{"layers": [-1], **options})


def test_keys_tell_texts_tokens_and_segments_apart() -> None:
    def docs() -> Iterator[Doc]:
        yield NLP("a b")
        yield NLP("a b ")
        yield NLP("ab")
        yield NLP("b a")
        yield Doc(NLP.vocab, words=["a", "b"], spaces=[False, False])
        yield join(NLP, "a", "b")
        yield NLP("")

    keys = [content_key(doc) for doc in docs()]
    assert len(set(keys)) == len(keys)
    assert keys == [content_key(doc) for doc in docs()]
