"""The component `bert` in a pipeline."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Linear

import spacy_bert
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.heads import head_shim
from spacy_bert.models.optimizer import build_adamw
from spacy_bert.pipeline.bert import Bert
from tests.conftest import SENTENCES


@pytest.fixture
def nlp(checkpoint: Path) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    return nlp


def state(doc: Doc) -> np.ndarray:
    return doc._.trf_data.model_output.last_hidden_state


def test_works_without_initialize(nlp: Language) -> None:
    doc = nlp(SENTENCES[0])
    assert state(doc).shape == (1, len(doc._.trf_data.wordpieces.strings[0]), 128)


def test_pipe_equals_one_by_one_in_any_batch_size(nlp: Language) -> None:
    texts = [*SENTENCES, "", " ".join(SENTENCES), "a"]
    alone = [nlp(text) for text in texts]
    for batch_size in (1, 3, 100):
        for one, doc in zip(alone, nlp.pipe(texts, batch_size=batch_size), strict=True):
            assert doc.text == one.text
            if len(doc):
                np.testing.assert_allclose(state(doc), state(one), atol=1e-5)


def test_errors_go_to_the_error_handler(nlp: Language) -> None:
    failed: list[str] = []
    nlp.set_error_handler(lambda name, proc, docs, error: failed.append(f"{name}: {error}"))
    # 80 pieces in the fixed segment do not fit a window of 64
    bad = spacy_bert.join(nlp, "the dog " * 40, "the fox " * 40)
    done = list(nlp.pipe([nlp.make_doc("fine"), bad, nlp.make_doc("fine")], batch_size=1))
    assert [doc.text for doc in done] == ["fine", "fine"]
    assert len(failed) == 1
    assert failed[0].startswith("bert: the Doc 'the dog the dog")


def test_disk_and_bytes_round_trips_without_the_source(
    nlp: Language, tmp_path: Path, checkpoint: Path
) -> None:
    expected = state(nlp(SENTENCES[1]))
    nlp.config["components"]["bert"]["model"]["name"] = "/no/such/place"
    nlp.to_disk(tmp_path / "model")
    np.testing.assert_array_equal(state(spacy.load(tmp_path / "model")(SENTENCES[1])), expected)
    other = spacy.blank("en")
    other.add_pipe("bert", config={"model": {"name": "/no/such/place"}})
    other.from_bytes(nlp.to_bytes())
    np.testing.assert_array_equal(state(other(SENTENCES[1])), expected)


def test_loading_never_reads_the_source(
    nlp: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nlp.initialize()
    nlp.to_disk(tmp_path / "model")

    def forbidden(self: object) -> None:
        raise AssertionError("spacy.load read the source")

    monkeypatch.setattr("spacy_bert.models.encoder.EncoderSource.load", forbidden)
    spacy.load(tmp_path / "model")(SENTENCES[0])


def test_settings_can_be_overridden_at_load(nlp: Language, tmp_path: Path) -> None:
    nlp.to_disk(tmp_path / "model")
    text = " ".join(SENTENCES)
    changed = spacy.load(tmp_path / "model", config={"components.bert.model.window": 40})
    assert state(nlp(text)).shape[1] == 64
    assert state(changed(text)).shape[1] == 40


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_pipeline_names_the_file(nlp: Language, tmp_path: Path, damage: str) -> None:
    nlp.to_disk(tmp_path)
    file = tmp_path / "bert" / "model"
    content = file.read_bytes()
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="bert/model: "):
        spacy.load(tmp_path)


def test_our_architecture_serves_in_the_stock_transformer(nlp: Language, checkpoint: Path) -> None:
    stock = spacy.blank("en")
    model = {"@architectures": "spacy_bert.Encoder.v1", "name": str(checkpoint)}
    stock.add_pipe("transformer", config={"model": model})
    stock.initialize()
    np.testing.assert_allclose(state(stock(SENTENCES[0])), state(nlp(SENTENCES[0])), atol=1e-6)


def test_stock_components_train_on_it(nlp: Language) -> None:
    listener = {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": 1.0,
        "pooling": {"@layers": "reduce_mean.v1"},
    }
    for factory in ("tagger", "ner"):
        architecture = {
            "tagger": {"@architectures": "spacy.Tagger.v2", "tok2vec": listener},
            "ner": {
                "@architectures": "spacy.TransitionBasedParser.v2",
                "state_type": "ner",
                "extra_state_tokens": False,
                "hidden_width": 16,
                "maxout_pieces": 2,
                "use_upper": False,
                "tok2vec": listener,
            },
        }
        nlp.add_pipe(factory, config={"model": architecture[factory]})
    words = ["Ada", "wrote", "it", "."]
    gold = {"words": words, "tags": ["N", "V", "P", "."], "entities": ["U-PER", "O", "O", "O"]}
    docs = [Doc(nlp.vocab, words=words), Doc(nlp.vocab, words=[]), Doc(nlp.vocab, words=words)]
    empty = Example(docs[1], docs[1].copy())
    examples = [Example.from_dict(docs[0], gold), empty, Example.from_dict(docs[2], gold)]
    optimizer = nlp.initialize(lambda: [examples[0]])
    bert = nlp.get_pipe("bert")
    assert isinstance(bert, Bert)
    before = encoder_shim(bert.model).network.embeddings.piece.weight.detach().clone()
    for _ in range(25):
        losses: dict[str, float] = {}
        nlp.update(examples, sgd=optimizer, losses=losses)
    assert losses["bert"] > 0
    after = encoder_shim(bert.model).network.embeddings.piece.weight
    assert not before.equal(after.detach())
    doc = nlp("Ada wrote it .")
    assert [t.tag_ for t in doc] == ["N", "V", "P", "."]
    assert [(e.text, e.label_) for e in doc.ents] == [("Ada", "PER")]


def test_two_listeners_give_the_sum_of_their_gradients(checkpoint: Path) -> None:
    """Two equal heads send back twice what one does."""
    gradients = []
    for heads in (1, 2):
        nlp = spacy.blank("en")
        nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
        for i in range(heads):
            nlp.add_pipe("bert_textcat", name=f"textcat{i}")
        texts = [*SENTENCES[:3], ""]
        cats = [{"A": float(i % 2), "B": float(1 - i % 2)} for i in range(4)]
        examples = [
            Example.from_dict(nlp.make_doc(t), {"cats": c})
            for t, c in zip(texts, cats, strict=True)
        ]
        nlp.initialize(lambda examples=examples: examples)
        for name in nlp.pipe_names[1:]:
            head = head_shim(nlp.get_pipe(name).model).module
            torch.nn.init.eye_(head.output.weight)
        nlp.update(examples, sgd=False)
        network = encoder_shim(nlp.get_pipe("bert").model).network
        gradients.append([p.grad for n, p in network.named_parameters() if "pooler" not in n])
    for one, two in zip(*gradients, strict=True):
        assert one is not None
        np.testing.assert_allclose(2 * one.numpy(), two.numpy(), rtol=1e-3, atol=1e-6)


def two_heads(checkpoint: Path) -> tuple[Language, list[Example]]:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    for i in range(2):
        nlp.add_pipe("bert_textcat", name=f"textcat{i}")
    examples = [
        Example.from_dict(nlp.make_doc(t), {"cats": {"A": float(i % 2), "B": float(1 - i % 2)}})
        for i, t in enumerate([*SENTENCES[:3], ""])
    ]
    torch.manual_seed(0)
    nlp.initialize(lambda: examples)
    return nlp, examples


def encoder_weights(nlp: Language) -> list[torch.Tensor]:
    network = encoder_shim(nlp.get_pipe("bert").model).network
    return [p.detach().clone() for n, p in network.named_parameters() if "pooler" not in n]


@pytest.mark.parametrize("way", ["spacy train", "nlp.update", "nlp.update with Adam"])
@pytest.mark.parametrize("frozen", ["textcat0", "textcat1"])
def test_a_frozen_listener_does_not_stop_the_encoder(
    checkpoint: Path, frozen: str, way: str
) -> None:
    """Stock `transformer` never trains if the last listener does not answer.

    The step must be the very one that a pipeline without the frozen component takes.
    """
    results = []
    for removed in (False, True):
        nlp, examples = two_heads(checkpoint)
        if removed:
            nlp.remove_pipe(frozen)
        exclude = [] if removed else [frozen]
        before = encoder_weights(nlp)
        optimizer = nlp.create_optimizer() if way.endswith("Adam") else build_adamw(1e-3)
        for _ in range(2):
            if way == "spacy train":
                nlp.update(examples, sgd=False, exclude=exclude)
                for name in set(nlp.pipe_names) - set(exclude):
                    nlp.get_pipe(name).finish_update(optimizer)
                optimizer.step_schedules()
            else:
                nlp.update(examples, sgd=optimizer, exclude=exclude)
        nlp(SENTENCES[0])
        results.append(encoder_weights(nlp))
        assert not all(map(torch.equal, before, results[-1]))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_annotating_does_not_end_the_update(checkpoint: Path) -> None:
    """A bare nlp.update in which `bert` also annotates: the encoder steps with its own gradient."""
    results = []
    for annotates in ([], ["bert"]):
        nlp, examples = two_heads(checkpoint)
        optimizer = build_adamw(1e-3)
        for _ in range(3):
            torch.manual_seed(1)
            nlp.update(examples, sgd=optimizer, annotates=annotates)
        nlp(SENTENCES[0])
        results.append(encoder_weights(nlp))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_an_update_leaves_nothing_behind(checkpoint: Path) -> None:
    """No Doc, graph or output of the batch is held by the component afterwards."""
    nlp, examples = two_heads(checkpoint)
    nlp.update(examples, sgd=False)
    bert = nlp.get_pipe("bert")
    assert encoder_shim(bert.model)._late is None
    assert all(x._outputs is None and x._backprop is None for x in bert.listeners)


def test_accumulated_sub_batches_average(checkpoint: Path) -> None:
    """Twice the same sub-batch is the same as once."""
    gradients = []
    for times in (1, 2):
        nlp, examples = two_heads(checkpoint)
        for _ in range(times):
            nlp.update(examples, sgd=False)
        shims = [encoder_shim(nlp.get_pipe("bert").model)]
        shims += [head_shim(nlp.get_pipe(f"textcat{i}").model) for i in range(2)]
        gradients.append([p.grad for shim in shims for p in shim.average_gradients()])
    assert len(gradients[0]) == len(gradients[1]) > 30
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-7)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be spacy_bert.Encoder.v1, not 'linear'"):
        Bert(spacy.blank("en").vocab, Linear())


def test_stock_textcat_trains_beside_ours(checkpoint: Path) -> None:
    """Its ensemble adds up what the listener's backward pass gives back."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    nlp.add_pipe("bert_textcat", name="ours")
    model = deepcopy(nlp.get_factory_meta("textcat").default_config["model"])
    model["tok2vec"] = {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": 1.0,
        "pooling": {"@layers": "reduce_mean.v1"},
    }
    nlp.add_pipe("textcat", config={"model": model})
    examples = [
        Example.from_dict(nlp.make_doc(text), {"cats": {"A": a, "B": 1.0 - a}})
        for text, a in (("the fox", 1.0), ("the dog", 0.0))
    ]
    optimizer = nlp.initialize(lambda: examples, sgd=build_adamw(1e-3))
    before = encoder_weights(nlp)
    losses = nlp.update(examples, sgd=optimizer, losses={})
    nlp("the fox")
    assert losses["bert"] > 0
    assert not all(map(torch.equal, before, encoder_weights(nlp)))


def test_a_doc_does_not_keep_the_arrays_of_its_batch(nlp: Language) -> None:
    for doc in nlp.pipe(["One text.", "Another text that is longer.", "A third."]):
        state = doc._.trf_data.model_output.last_hidden_state
        while state.base is not None:
            state = state.base
        assert state.size == doc._.trf_data.model_output.last_hidden_state.size


def test_vectors_are_let_go_at_the_end_of_a_pipeline(checkpoint: Path) -> None:
    """As the README says, by spaCy's own component."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    nlp.add_pipe("bert_textcat")
    gold = {"cats": {"A": 1.0, "B": 0.0}}
    nlp.initialize(lambda: [Example.from_dict(nlp.make_doc(SENTENCES[0]), gold)])
    with_vectors = nlp(SENTENCES[0])
    nlp.add_pipe("doc_cleaner", last=True, config={"attrs": {"_.trf_data": None}})
    doc = nlp(SENTENCES[0])
    assert doc._.trf_data is None
    assert doc.cats == with_vectors.cats
