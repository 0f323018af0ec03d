"""Training with parts of the pipeline frozen, annotating, sourced, or of other factories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from confection import Config
from spacy.language import DEFAULT_CONFIG_PRETRAIN_PATH, Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.training.initialize import init_nlp

from spacy_bert.bert import load_encoder
from spacy_bert.models.listeners import EncoderModel
from spacy_bert.models.optimizer import build_adamw
from tests.pipeline.conftest import Trained
from tests.pipeline.lifecycle import (
    ODD_TEXTS,
    PIPELINE,
    TEXTS,
    encoder_weights,
    examples,
    predict,
    same_arrays,
    say,
    sentences,
    sourced,
    train_config,
    weights,
)

ADAM = {"@optimizers": "Adam.v1", "learn_rate": 0.001}


def freeze(config: Config, *names: str, annotating: tuple[str, ...] = ()) -> Config:
    """The config with frozen components, for a few steps."""
    config["training"]["frozen_components"] = list(names)
    config["training"]["annotating_components"] = list(annotating)
    config["training"].update({"max_steps": 4, "eval_frequency": 4})
    return config


@pytest.mark.parametrize("optimizer", ["ours", "Adam.v1"])
def test_a_frozen_encoder_stays_as_the_checkpoint_has_it(
    trained: Trained, checkpoint: Path, optimizer: str
) -> None:
    config = freeze(trained.load_config(), "bert", annotating=("bert",))
    if optimizer != "ours":
        config["training"]["optimizer"] = ADAM
    nlp = train_config(config)
    source = {key: value.numpy() for key, value in load_encoder(checkpoint).state_dict().items()}
    assert same_arrays(encoder_weights(nlp), source)
    assert all(said["cats"] for said in predict(nlp))


@pytest.mark.parametrize("optimizer", ["ours", "Adam.v1"])
@pytest.mark.parametrize(
    ("names", "frozen"),
    [
        (["bert", "bert_textcat", "tagger", "bert_ner"], "bert_ner"),
        (["bert", "bert_textcat", "bert_ner", "tagger"], "bert_ner"),
        (["bert", "bert_ner", "tagger", "bert_textcat"], "bert_textcat"),
        (["bert", "bert_ner", "tagger"], "tagger"),
        (["bert", "tagger", "parser"], "parser"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value[1:]),
)
def test_a_frozen_listener_stays_and_the_encoder_learns(
    trained: Trained, names: list[str], frozen: str, optimizer: str
) -> None:
    config = freeze(sourced(trained.path, names), frozen)
    if optimizer != "ours":
        config["training"]["optimizer"] = ADAM
    nlp = train_config(config)
    assert not same_arrays(encoder_weights(nlp), encoder_weights(trained.nlp))
    assert weights(nlp, frozen) == weights(trained.nlp, frozen)
    for name in names[1:]:
        if name != frozen:
            assert weights(nlp, name) != weights(trained.nlp, name), name


def test_a_frozen_listener_does_not_change_what_the_encoder_learns(trained: Trained) -> None:
    """It adds nothing to the gradient: the encoder ends where it does without the component."""
    ends = []
    for names in (["bert", "bert_textcat"], ["bert", "bert_textcat", "bert_ner"]):
        nlp = train_config(freeze(sourced(trained.path, names), *names[2:]))
        ends.append(encoder_weights(nlp))
    assert same_arrays(*ends)


def test_a_sourced_component_with_its_own_encoder_is_independent(
    trained: Trained, tmp_path: Path
) -> None:
    """`source` and `replace_listeners`: what it says is not touched by training the others."""
    config = trained.load_config()
    config["components"]["bert_ner"] = {
        "source": str(trained.path),
        "replace_listeners": ["model.tok2vec"],
    }
    nlp = train_config(freeze(config, "bert_ner"), tmp_path / "model")
    assert nlp.get_pipe("bert").listening_components == ["bert_textcat", "tagger", "parser"]
    for pipeline in (nlp, spacy.load(tmp_path / "model" / "model-last")):
        for said, before in zip(predict(pipeline), trained.said, strict=True):
            assert (said["ents"], said["scores"]) == (before["ents"], before["scores"])
            assert said["cats"] != before["cats"]


def test_a_sourced_component_with_its_own_encoder_can_be_trained_on(trained: Trained) -> None:
    config = trained.load_config()
    config["components"]["bert_ner"] = {
        "source": str(trained.path),
        "replace_listeners": ["model.tok2vec"],
    }
    nlp = train_config(freeze(config))
    before = trained.nlp.get_pipe("bert_ner").model.get_ref("head").to_bytes()
    assert nlp.get_pipe("bert_ner").model.get_ref("head").to_bytes() != before
    assert nlp.evaluate(examples(nlp))["ents_f"] > 0.9


def test_a_private_encoder_sourced_from_another_pipeline(trained: Trained) -> None:
    source = spacy.load(trained.path)
    source.replace_listeners("bert", "bert_textcat", ["model.tok2vec"])
    nlp = spacy.blank("en")
    nlp.add_pipe("bert_textcat", source=source)
    assert [doc.cats for doc in nlp.pipe(TEXTS)] == [said["cats"] for said in trained.said]


def test_components_may_annotate_while_they_train(trained: Trained) -> None:
    config = freeze(trained.load_config(), annotating=("bert", "bert_ner", "tagger"))
    nlp = train_config(config)
    assert all(said["cats"] for said in predict(nlp))


@pytest.mark.parametrize("way", ["spacy train", "nlp.update"])
def test_annotating_does_not_change_what_is_learned(trained: Trained, way: str) -> None:
    """The predictions between the updates use the weights, but move none."""
    ends = []
    for annotates in ([], ["bert"], ["bert", "bert_ner"], PIPELINE):
        nlp = spacy.load(trained.path)
        optimizer = build_adamw(1e-3)
        for start in (0, 8, 16):
            batch = examples(nlp)[start : start + 8]
            if way == "nlp.update":
                nlp.update(batch, sgd=optimizer, annotates=annotates)
                continue
            nlp.update(batch, sgd=False, annotates=annotates)
            for _, component in nlp.pipeline:
                component.finish_update(optimizer)
            optimizer.step_schedules()
        ends.append({name: weights(nlp, name) for name in PIPELINE})
    for end in ends[1:]:
        assert {name for name in PIPELINE if end[name] != ends[0][name]} == set()


@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_dropout_reaches_the_network_and_the_heads(trained: Trained, drop: float) -> None:
    """And the modules are left in evaluation mode."""
    nlp = spacy.load(trained.path)
    shims = [
        shim for name in PIPELINE[:3] for n in nlp.get_pipe(name).model.walk() for shim in n.shims
    ]
    losses: list[dict[str, float]] = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.append(nlp.update(examples(nlp)[:8], sgd=False, drop=drop, losses={}))
        assert not any(shim.module.training for shim in shims)
    for name in ("bert_textcat", "bert_ner", "tagger"):
        assert (losses[0][name] == losses[1][name]) == (drop == 0.0)


def test_init_tok2vec_comes_before_initialize_and_stays(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "model-last.bin").write_bytes(weights(trained.nlp, "bert"))
    config = freeze(trained.load_config(), "bert", annotating=("bert",))
    defaults = spacy.util.load_config(DEFAULT_CONFIG_PRETRAIN_PATH)["pretraining"]
    config["pretraining"] = {**defaults, "component": "bert", "layer": ""}
    config["initialize"]["init_tok2vec"] = str(tmp_path / "model-last.bin")
    frozen = train_config(config)
    assert same_arrays(encoder_weights(frozen), encoder_weights(trained.nlp))
    config["training"]["frozen_components"] = []
    initialized = init_nlp(config)
    assert same_arrays(encoder_weights(initialized), encoder_weights(trained.nlp))


# Our encoder in the stock factory, read by stock components and by ours


def stock_pipeline(checkpoint: Path) -> Language:
    """The stock `transformer` around our encoder, with what listens to it."""
    listener = {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": 1.0,
        "pooling": {"@layers": "reduce_mean.v1"},
    }
    nlp = spacy.blank("en")
    encoder = {"@architectures": "spacy_bert.Encoder.v1", "name": str(checkpoint)}
    nlp.add_pipe("transformer", config={"model": encoder})
    transitions: dict[str, Any] = {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": "ner",
        "extra_state_tokens": False,
        "hidden_width": 16,
        "maxout_pieces": 2,
        "use_upper": False,
    }
    textcat = {
        "@architectures": "spacy.TextCatReduce.v1",
        "exclusive_classes": True,
        "use_reduce_first": False,
        "use_reduce_last": False,
        "use_reduce_max": False,
        "use_reduce_mean": True,
    }
    spancat = {
        "@architectures": "spacy.SpanCategorizer.v1",
        "reducer": {"@layers": "spacy.mean_max_reducer.v1", "hidden_size": 16},
        "scorer": {"@layers": "spacy.LinearLogistic.v1"},
    }
    models = {
        "ner": transitions,
        "textcat": textcat,
        "spancat": spancat,
        "morphologizer": {"@architectures": "spacy.Tagger.v2"},
    }
    for name, model in models.items():
        nlp.add_pipe(name, config={"model": {**model, "tok2vec": listener}})
    nlp.add_pipe("bert_ner")
    return nlp


def stock_examples(nlp: Language) -> list[Example]:
    """The sentences, with spans and morphology, and Docs with little in them."""
    golds = sentences()[:8]
    for gold in golds:
        gold.spans["sc"] = [Span(gold, ent.start, ent.end, ent.label_) for ent in gold.ents]
        for token in gold:
            token.pos_ = "NOUN" if token.tag_ == "NN" else "X"
    odd = [nlp.make_doc(text) for text in ODD_TEXTS]
    return examples(nlp, golds) + [Example(doc, doc.copy()) for doc in odd]


def said_by_stock(doc: Doc) -> list[Any]:
    spans = doc.spans["sc"]
    return [say([doc]), [str(span) for span in spans], [token.pos_ for token in doc]]


@pytest.mark.parametrize("optimizer", ["ours", "Adam.v1"])
def test_our_encoder_in_the_stock_factory_trains_and_loads(
    checkpoint: Path, tmp_path: Path, optimizer: str
) -> None:
    nlp = stock_pipeline(checkpoint)
    gold = stock_examples(nlp)
    sgd = build_adamw(1e-3) if optimizer == "ours" else None
    sgd = nlp.initialize(lambda: gold[:8], sgd=sgd)
    before = encoder_weights(nlp, "transformer")
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for step in range(12):
        last = nlp.update(gold, sgd=sgd, losses={})
        first = first or last
        assert all(np.isfinite(loss) for loss in last.values()), (step, last)
    assert set(last) == set(nlp.pipe_names)
    for name in ("ner", "textcat", "spancat", "morphologizer", "bert_ner"):
        assert last[name] < first[name], name
    assert not same_arrays(encoder_weights(nlp, "transformer"), before)
    texts = [*TEXTS[:3], *ODD_TEXTS]
    expected = [said_by_stock(doc) for doc in nlp.pipe(texts)]
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert [said_by_stock(doc) for doc in loaded.pipe(texts)] == expected


def test_the_stock_factory_holds_our_model(checkpoint: Path) -> None:
    model: EncoderModel = stock_pipeline(checkpoint).get_pipe("transformer").model
    assert model.name == "bert_encoder"
