"""The encoder's `precision`: of predictions alone, and always of the weights of the day."""

from __future__ import annotations

import copy
import logging
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language

from spacy_bert.bert import precision
from spacy_bert.bert.fused import can_fuse
from spacy_bert.models import encoder as encoder_module
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.optimizer import build_adamw
from tests.conftest import SENTENCES
from tests.pipeline.lifecycle import examples

pytestmark = pytest.mark.filterwarnings("ignore:this CPU has no instructions for bf16")


def pipeline(checkpoint: Path, wanted: str) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint), "precision": wanted}})
    return nlp


def vectors(nlp: Language) -> np.ndarray:
    docs = [nlp.make_doc(text) for text in SENTENCES]
    data = nlp.get_pipe("bert").predict(docs).doc_data
    return np.concatenate([one.model_output.last_hidden_state[0] for one in data])


@pytest.fixture(params=["bf16", "int8"])
def low(request: pytest.FixtureRequest, checkpoint: Path) -> Language:
    """A pipeline with random weights, after its first predictions."""
    torch.manual_seed(0)
    nlp = pipeline(checkpoint, request.param)
    nlp.add_pipe("bert_textcat")
    nlp.initialize(lambda: examples(nlp), sgd=build_adamw(1e-3))
    vectors(nlp)
    return nlp


def in_fp32(low: Language) -> Language:
    """The same weights."""
    nlp = spacy.util.load_model_from_config(
        low.config.merge({"components": {"bert": {"model": {"precision": "fp32"}}}})
    )
    return nlp.from_bytes(low.to_bytes())


def assert_low(low: Language, exact: Language) -> None:
    """Close, but not the same."""
    error = np.abs(vectors(low) - vectors(exact)).mean()
    assert 1e-5 < error < 0.05


def test_predictions_are_low_and_weights_are_not(low: Language) -> None:
    exact = in_fp32(low)
    assert_low(low, exact)
    for name, weights in encoder_shim(exact.get_pipe("bert").model).network.state_dict().items():
        own = encoder_shim(low.get_pipe("bert").model).network.state_dict()[name]
        assert own.dtype == torch.float32
        assert torch.equal(own, weights)


def test_training_is_that_of_fp32(low: Language) -> None:
    exact = in_fp32(low)
    losses: list[dict[str, float]] = []
    for nlp in (low, exact):
        torch.manual_seed(1)
        optimizer = nlp.resume_training(sgd=build_adamw(1e-3))
        losses.append(nlp.update(examples(nlp), sgd=optimizer, losses={}))
    assert losses[0] == pytest.approx(losses[1])


def test_changed_weights_are_noticed(low: Language) -> None:
    before = vectors(low)
    optimizer = low.resume_training(sgd=build_adamw(1e-2))
    for _ in range(3):
        low.update(examples(low), sgd=optimizer)
    after = vectors(low)
    assert np.abs(after - before).mean() > 0.1
    assert_low(low, in_fp32(low))
    np.testing.assert_array_equal(vectors(low), after)


def test_an_interruption_leaves_no_old_weights(
    low: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    before = vectors(low)
    with torch.no_grad():
        for layer in encoder_shim(low.get_pipe("bert").model).network.layers:
            bias = layer.feed_forward.down.bias
            bias.add_(torch.linspace(-1.0, 1.0, len(bias)))
    with monkeypatch.context() as patch:
        patch.setattr(encoder_module, "lowered", interrupt)
        with pytest.raises(KeyboardInterrupt):
            vectors(low)
    assert np.abs(vectors(low) - before).mean() > 0.1
    assert_low(low, in_fp32(low))


def test_fp32_is_that_of_the_network_before_and_after_training(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    nlp = pipeline(checkpoint, "fp32")
    nlp.add_pipe("bert_textcat")
    optimizer = nlp.initialize(lambda: examples(nlp), sgd=build_adamw(1e-2))
    shim = encoder_shim(nlp.get_pipe("bert").model)

    def plainly() -> np.ndarray:
        with monkeypatch.context() as patch:
            patch.setattr(precision, "can_fuse", lambda weight: False)
            return vectors(in_fp32(nlp))

    before = vectors(nlp)
    np.testing.assert_allclose(before, plainly(), atol=1e-5)
    with shim.predicting() as network:
        assert (network is not shim.network) == can_fuse(torch.zeros(1))
    for _ in range(3):
        nlp.update(examples(nlp), sgd=optimizer)
    after = vectors(nlp)
    assert np.abs(after - before).mean() > 0.1
    np.testing.assert_allclose(after, plainly(), atol=1e-5)


def test_the_low_copy_is_made_once(low: Language) -> None:
    shim = encoder_shim(low.get_pipe("bert").model)
    with shim.predicting() as first, shim.predicting() as second:
        assert first is second
        assert first is not shim.network


def test_the_low_copy_is_made_again_on_another_device(low: Language) -> None:
    shim = encoder_shim(low.get_pipe("bert").model)
    expected = vectors(low)
    with shim.predicting() as first:
        pass
    shim.to_device("cpu", 0)
    with shim.predicting() as second:
        assert second is not first
    np.testing.assert_array_equal(vectors(low), expected)


def test_copies_and_pickles_have_their_own(low: Language) -> None:
    model = low.get_pipe("bert").model
    expected = vectors(low)
    for other in (copy.deepcopy(encoder_shim(model)), pickle.loads(pickle.dumps(model.shims[0]))):
        with other.predicting() as own, encoder_shim(model).predicting() as network:
            assert own is not network
            assert (
                own.layers[0].feed_forward_norm.weight
                is other.network.layers[0].feed_forward_norm.weight
            )
    np.testing.assert_array_equal(vectors(low), expected)


def test_auto_says_what_it_picked(
    checkpoint: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "automatic", lambda device: "int8")
    nlp = pipeline(checkpoint, "auto")
    with caplog.at_level(logging.INFO, logger="spacy_bert"):
        vectors(nlp)
        vectors(nlp)
    assert [r.message for r in caplog.records] == [
        'the encoder predicts in int8 (picked by "auto")'
    ]
    assert nlp.get_pipe("bert").precision == "int8"
    monkeypatch.setattr(encoder_module, "automatic", lambda device: "fp32")
    assert nlp.get_pipe("bert").precision == "fp32"
    np.testing.assert_array_equal(vectors(nlp), vectors(pipeline(checkpoint, "fp32")))


def test_bf16_without_instructions_warns_once(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "has_bf16", lambda device: False)
    nlp = pipeline(checkpoint, "bf16")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vectors(nlp)
        vectors(nlp)
    assert sum('precision = "auto"' in str(one.message) for one in caught) == 1


def test_another_word_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="fp16"):
        pipeline(checkpoint, "fp16")


def test_overridden_at_load(low: Language, tmp_path: Path) -> None:
    exact = in_fp32(low)
    exact.to_disk(tmp_path / "model")
    precision = encoder_shim(low.get_pipe("bert").model).precision
    override = {"components.bert.model.precision": precision}
    loaded = spacy.load(tmp_path / "model", config=override)
    np.testing.assert_array_equal(vectors(loaded), vectors(low))
