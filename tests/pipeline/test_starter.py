"""Starter configs: complete, and they train as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import spacy
import srsly
from spacy.cli.init_config import fill_config
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus
from spacy.util import load_model_from_config

from spacy_bert.models.budget import PIECES_AT_ONCE
from spacy_bert.models.encoder import EncoderShim
from spacy_bert.pipeline.starter import (
    OURS,
    STOCK,
    complete_pipeline,
    find_hidden_size,
    learning_rate,
    make_starter,
)

COMPONENTS = [component for component in (*OURS, *STOCK) if component != "bert"]
TOGETHER = ["tagger", "morphologizer", "parser", "spancat", "trainable_lemmatizer"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few Docs with every annotation that a component can want."""
    vocab = spacy.blank("en").vocab
    docs = DocBin()
    for number in range(32):
        doc = Doc(
            vocab,
            words=["The", "fox", "saw", "Ada", "."],
            tags=["DT", "NN", "VB", "NNP", "."],
            pos=["DET", "NOUN", "VERB", "PROPN", "PUNCT"],
            morphs=["", "Number=Sing", "Tense=Past", "Number=Sing", ""],
            lemmas=["the", "fox", "see", "Ada", "."],
            heads=[1, 2, 2, 2, 2],
            deps=["det", "nsubj", "ROOT", "dobj", "punct"],
            ents=["O", "O", "O", "B-PER", "O"],
        )
        doc.cats = {"EVEN": float(number % 2 == 0), "ODD": float(number % 2)}
        doc.spans["sc"] = [Span(doc, 0, 2, "ANIMAL")]
        docs.add(doc)
    path = tmp_path_factory.mktemp("data") / "docs.spacy"
    docs.to_disk(path)
    return path


def write(tmp_path: Path, *arguments: Any, **settings: Any) -> Path:
    path = tmp_path / "config.cfg"
    make_starter(*arguments, **settings).config.to_disk(path, interpolate=False)
    return path


def encoders(nlp: Language) -> set[EncoderShim]:
    nodes = (node for _, component in nlp.components for node in component.model.walk())
    return {shim for node in nodes for shim in node.shims if isinstance(shim, EncoderShim)}


@pytest.mark.parametrize("private", [False, True], ids=["shared", "private"])
@pytest.mark.parametrize(
    "pipeline",
    [*([name] for name in COMPONENTS), ["bert_textcat", "bert_ner"], ["bert_ner", *TOGETHER]],
    ids="-".join,
)
def test_is_complete(pipeline: list[str], private: bool, checkpoint: Path, tmp_path: Path) -> None:
    path = write(tmp_path, pipeline, str(checkpoint), private=private)
    nlp = load_model_from_config(spacy.util.load_config(path), auto_fill=False)
    assert nlp.pipe_names == (pipeline if private else ["bert", *pipeline])
    assert len(encoders(nlp)) == (len(pipeline) if private else 1)
    before, after = fill_config(tmp_path / "filled.cfg", path, silent=True)
    assert before.to_str() == after.to_str()
    training = after["training"]
    assert training["optimizer"]["@optimizers"] == "spacy_bert.AdamW.v1"
    weights = training["score_weights"]
    assert sum(weight or 0.0 for weight in weights.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("pipeline", "settings"),
    [
        (["bert", "bert_ner"], {}),
        (["bert_textcat"], {"mode": "multilabel", "gpu": True}),
        (["bert_textcat"], {"mode": "regression"}),
        (["bert_textcat", "bert_ner", *TOGETHER], {}),
        (["ner", "textcat", "senter"], {}),
        (["textcat_multilabel"], {}),
        (["bert_textcat", "bert_ner", "tagger"], {"private": True}),
        (["bert_ner", "tagger"], {"features": True}),
        (["bert_textcat"], {"features": True}),
    ],
    ids=lambda value: "-".join(value),
)
def test_trains_saves_and_loads(
    pipeline: list[str], settings: dict[str, Any], checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    path = write(tmp_path, pipeline, str(checkpoint), max_steps=2, **settings)
    overrides = {
        "paths.train": str(data),
        "paths.dev": str(data),
    }
    train(path, tmp_path / "model", overrides=overrides)
    nlp = spacy.load(tmp_path / "model" / "model-last")
    losses = srsly.read_json(tmp_path / "model" / "model-last" / "meta.json")["performance"]
    trained = [name for name in nlp.pipe_names if name != "bert"]
    assert all(losses[f"{name}_loss"] > 0.0 for name in trained)
    is_private = settings.get("private") or settings.get("features")
    assert len(encoders(nlp)) == (len(pipeline) if is_private else 1)
    doc = nlp("The fox saw Ada.")
    assert len(doc) == 5
    if "textcat" in " ".join(pipeline):
        assert set(doc.cats) == {"EVEN", "ODD"}
    if "tagger" in pipeline:
        assert all(token.tag_ for token in doc)


@pytest.mark.parametrize(
    ("pipeline", "weights"),
    [
        (["bert_ner"], {"ents_f": 1.0}),
        (["bert_textcat", "bert_ner"], {"cats_score": 0.5, "ents_f": 0.5}),
        (["bert_span_qa"], {"answers_f1": 1.0, "answers_em": 0.0}),
        (["bert_choice", "bert_ner"], {"choice_acc": 0.5, "ents_f": 0.5}),
        (["tagger", "bert_ner", "bert_textcat"], {"tag_acc": 0.33, "ents_f": 0.34}),
        # The tagger has a 0 for pos_acc, which must not undo the morphologizer's weight.
        (["morphologizer", "tagger"], {"tag_acc": 0.5, "pos_acc": 0.25, "morph_acc": 0.25}),
    ],
)
def test_every_component_counts_the_same(pipeline: list[str], weights: dict[str, float]) -> None:
    found = make_starter(pipeline).config["training"]["score_weights"]
    assert {key: found[key] for key in weights} == weights


def test_settings_of_cpu_and_gpu() -> None:
    cpu, gpu = (make_starter(["bert_ner"], gpu=gpu).config for gpu in (False, True))
    assert [config["system"]["gpu_allocator"] for config in (cpu, gpu)] == [None, "pytorch"]
    models = [config["components"]["bert"]["model"] for config in (cpu, gpu)]
    # Ignored where the device has no instructions for it.
    assert [model["mixed_precision"] for model in models] == [True, True]
    sizes = [config["training"]["batcher"]["size"] for config in (cpu, gpu)]
    # The encoder computes larger batches twice.
    assert sizes[0] <= PIECES_AT_ONCE["cpu"]
    assert sizes[0] < sizes[1] <= PIECES_AT_ONCE["cuda"]
    assert {model["max_batch_pieces"] for model in models} == {None}
    private = make_starter(["bert_ner"], gpu=True, private=True).config["components"]["bert_ner"]
    assert private["model"]["tok2vec"]["encoder"]["mixed_precision"] is True


def test_features_are_of_the_last_four_layers(checkpoint: Path, tmp_path: Path) -> None:
    path = write(tmp_path, ["bert_ner", "parser"], str(checkpoint), features=True)
    before, config = fill_config(tmp_path / "filled.cfg", path, silent=True)
    assert before.to_str() == config.to_str()
    for name in ("bert_ner", "parser"):
        tok2vec = config["components"][name]["model"]["tok2vec"]
        assert tok2vec["embed"]["layers"] == [-2, -1]  # as many as it has
        assert tok2vec["encode"]["width"] == 128
    starter = make_starter(["tagger"], features=True)
    embed = starter.config["components"]["tagger"]["model"]["tok2vec"]["embed"]
    assert embed["layers"] == [-4, -3, -2, -1]
    assert starter.config["training"]["optimizer"]["learn_rate"]["initial_rate"] == 1e-3
    assert starter.notes == ("learning rate 0.001: a BiLSTM is trained, not the BERT",)


def test_one_encoder_serves_every_path() -> None:
    config = make_starter(["bert_ner"], "org/some-bert", lang="de", mode=None).config
    assert config["paths"]["encoder"] == "org/some-bert"
    assert config["nlp"]["lang"] == "de"
    moved = config.interpolate().copy()
    assert moved["components"]["bert"]["model"]["name"] == "org/some-bert"
    assert moved["training"]["batcher"]["tokenizer"] == "org/some-bert"


@pytest.mark.parametrize(
    ("steps", "warmup", "evaluate"),
    [(2000, 200, 200), (20_000, 2000, 200), (500, 50, 50), (3, 0, 1)],
)
def test_the_learning_rate_falls_over_all_steps(steps: int, warmup: int, evaluate: int) -> None:
    training = make_starter(["bert_ner"], max_steps=steps).config["training"]
    assert (training["max_steps"], training["eval_frequency"]) == (steps, evaluate)
    learn_rate = training["optimizer"]["learn_rate"]
    assert (learn_rate["total_steps"], learn_rate["warmup_steps"]) == (steps, warmup)


def test_a_loaded_pipeline_is_trained_on_without_an_optimizer_at_hand(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    """It is made of the config's section by itself, in which no variable is filled in."""
    path = write(tmp_path, ["bert_textcat", "bert_ner"], str(checkpoint), max_steps=2)
    train(path, tmp_path / "model", overrides={"paths.train": str(data), "paths.dev": str(data)})

    def load() -> Language:
        return spacy.load(tmp_path / "model" / "model-last")

    assert load().create_optimizer().layer_decay == 1.0
    assert load().resume_training().layer_decay == 1.0
    gold = Corpus(data)
    nlp = load()
    losses = nlp.update(list(gold(nlp)), losses={})
    assert all(losses[name] > 0.0 for name in ("bert_textcat", "bert_ner"))
    nlp = load()
    assert nlp.initialize(lambda: gold(nlp)).layer_decay == 1.0


@pytest.mark.parametrize("private", [False, True])
def test_sums_of_stock_losses_do_not_drown_ours(private: bool) -> None:
    config = make_starter(["bert_ner", "tagger", "textcat"], private=private).config
    models = {
        name: part["model"]["tok2vec"]
        for name, part in config["components"].items()
        if name != "bert"
    }
    assert "grad_factor" not in models["bert_ner"]
    assert models["tagger"]["grad_factor"] == 0.002
    assert models["textcat"]["grad_factor"] == 0.03


def test_mode_goes_to_textcat() -> None:
    config = make_starter(["bert_textcat"], mode="multilabel").config
    assert config["components"]["bert_textcat"]["mode"] == "multilabel"


def test_the_learning_rate_goes_by_size(checkpoint: Path) -> None:
    rates = {size: learning_rate(size) for size in (64, 128, 256, 384, 768, None)}
    expected = {64: 5e-4, 128: 5e-4, 256: 1.6e-4, 384: 5e-5, 768: 5e-5, None: 5e-5}
    assert rates == expected
    starter = make_starter(["bert_ner"], str(checkpoint))
    assert starter.config["training"]["optimizer"]["learn_rate"]["initial_rate"] == 5e-4
    assert any("learning rate 0.0005: hidden size 128" in note for note in starter.notes)


def test_says_that_bert_is_added() -> None:
    said = "bert is put first: the others read it"
    assert said in make_starter(["bert_ner"]).notes
    assert said not in make_starter(["bert", "bert_ner"]).notes
    assert said not in make_starter(["bert_ner"], private=True).notes


@pytest.mark.parametrize(
    ("names", "private", "message"),
    [
        (["bert", "nerr"], False, r"unknown component 'nerr'; known are bert, bert_textcat, "),
        (["transformer", "ner"], False, r"unknown component 'transformer'"),
        (["bert_ner", "bert_ner"], False, r"bert_ner is in the pipeline twice"),
        (
            [],
            False,
            r"nothing to train; choose from bert_textcat, .* bert_choice, tagger",
        ),
        (["bert"], False, r"nothing to train"),
        (["bert_ner", "bert"], False, r"bert_ner reads bert, so bert must stand before it"),
        (["bert", "bert_ner"], True, r"nothing reads bert: leave it out"),
    ],
)
def test_refuses_a_wrong_pipeline(names: list[str], private: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        complete_pipeline(names, private=private)


@pytest.mark.parametrize(
    ("pipeline", "settings", "message"),
    [
        (["bert_ner", "ner"], {}, r"bert_ner and ner both set doc.ents: keep one"),
        (["bert_textcat", "textcat"], {}, r"bert_textcat and textcat both set doc.cats"),
        (["bert_choice", "textcat"], {}, r"textcat and bert_choice both learn from doc.cats"),
        (["parser", "senter"], {}, r"parser and senter both set token.is_sent_start"),
        (["bert_span_qa"], {"features": True}, r"bert_span_qa reads no tokens: leave it out"),
        (["bert_ner"], {"mode": "multilabel"}, r"mode is a setting of bert_textcat"),
        (["bert_ner"], {"null_answers": True}, r"null_answers is a setting of bert_span_qa"),
        (["bert_ner"], {"lang": "klingon"}, r"language 'klingon': "),
        (["bert_ner"], {"max_steps": 0}, r"max_steps must be at least 1, got 0"),
    ],
)
def test_refuses_what_does_not_go_together(
    pipeline: list[str], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_starter(pipeline, **settings)


def test_refuses_an_encoder_that_is_not_there(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "model-last").mkdir(parents=True)
    (tmp_path / "run" / "model-last" / "config.json").write_text("{")
    (tmp_path / "shape").mkdir()
    (tmp_path / "shape" / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    for name, message in {
        "nowhere": "no such directory",
        "run": r"run: is no BERT checkpoint. Did you mean .*model-last",
        "": "config.json: not found",
        "shape": "holds neither tokenizer.json nor vocab.txt",
        "shape/config.json": "is a file",
    }.items():
        with pytest.raises(ValueError, match=message):
            find_hidden_size(str(tmp_path / name))


def test_a_hub_id_is_no_mistyped_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_hidden_size("bert-base-uncased") is None
    assert find_hidden_size("google/bert_uncased_L-2_H-128_A-2") is None
    (tmp_path / "google").mkdir()
    with pytest.raises(ValueError, match="no such directory, but google is one"):
        find_hidden_size("google/bert_uncased_L-2_H-128_A-2")
    for name in ("", "./bert", "a/b/c", "bert/", "~/bert"):
        with pytest.raises(ValueError, match=r"no such directory|not found"):
            find_hidden_size(name)
