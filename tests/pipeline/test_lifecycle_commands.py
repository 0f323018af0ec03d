"""Every command of spaCy on a pipeline with one shared encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import srsly
from spacy.cli.find_threshold import find_threshold
from spacy.tokens import DocBin

from tests.pipeline.conftest import Trained
from tests.pipeline.lifecycle import (
    LISTENERS,
    ODD_TEXTS,
    PIPELINE,
    TEXTS,
    assert_close,
    command,
    encoder_weights,
    predict,
    same_arrays,
    say,
    sentences,
    train_config,
)


def test_fill_config_completes_every_component(trained: Trained) -> None:
    filled = spacy.util.load_config(trained.config)["components"]
    assert list(filled) == PIPELINE
    assert filled["bert_ner"]["spans_key"] == "ents"
    assert filled["bert_ner"]["model"]["tok2vec"]["@architectures"] == "spacy_bert.TokenListener.v1"
    weights = spacy.util.load_config(trained.config)["training"]["score_weights"]
    assert {"cats_score", "ents_f", "tag_acc", "dep_las"} <= weights.keys()


def test_fill_config_changes_nothing_more_the_second_time(trained: Trained, tmp_path: Path) -> None:
    command("init", "fill-config", trained.config, tmp_path / "again.cfg")
    again = spacy.util.load_config(tmp_path / "again.cfg")
    assert again == spacy.util.load_config(trained.config)


def test_debug_config_accepts_it(trained: Trained) -> None:
    printed = command("debug", "config", trained.config, *trained.paths)
    assert "Config validation" in printed
    assert "error" not in printed.lower()


def test_debug_data_accepts_it(trained: Trained, tmp_path: Path) -> None:
    enough = tmp_path / "data.spacy"  # for it: with fewer than 100 Docs its exit code is 1
    DocBin(docs=sentences() * 4).to_disk(enough)
    paths = (*trained.paths[:2], "--paths.train", enough)
    printed = command("debug", "data", trained.config, *paths, "--no-format")
    assert "128 training docs" in printed
    assert f"Training pipeline: {', '.join(PIPELINE)}" in printed


@pytest.mark.parametrize("name", ["transformer", *LISTENERS])
def test_debug_model_shows_each_component(trained: Trained, tmp_path: Path, name: str) -> None:
    """The command runs the shared encoder first only if it is called "transformer"."""
    config = trained.load_config()
    config["nlp"]["pipeline"] = ["transformer", *LISTENERS]
    config["components"]["transformer"] = config["components"].pop("bert")
    config.to_disk(tmp_path / "config.cfg")
    printed = command(
        *("debug", "model", tmp_path / "config.cfg", name),
        *("-DIM", "-PAR", "-GRAD", "-ATTR", "-P0", "-P1", "-P2", "-P3"),
    )
    assert "STEP 3 - prediction" in printed
    assert "model looks good" in printed


def test_train_saves_the_best_and_the_last_pipeline(trained: Trained, tmp_path: Path) -> None:
    steps = ("--training.max_steps", "3", "--training.eval_frequency", "2")
    printed = command("train", trained.config, "--output", tmp_path, *trained.paths, *steps)
    for column in ("LOSS BERT", "LOSS BERT_NER", "LOSS TAGGER", "LOSS PARSER", "ENTS_F"):
        assert column in printed
    best, last = spacy.load(tmp_path / "model-best"), spacy.load(tmp_path / "model-last")
    assert best.pipe_names == last.pipe_names == PIPELINE
    assert {"cats_score", "ents_f", "tag_acc", "dep_las"} <= last.meta["performance"].keys()


def test_evaluate_gives_all_scores_and_the_same_twice(trained: Trained, tmp_path: Path) -> None:
    scores = []
    for file in (tmp_path / "one.json", tmp_path / "two.json"):
        command("evaluate", trained.path, trained.data, "--output", file)
        scores.append(json.loads(file.read_text()))
        assert scores[-1].pop("speed") > 0
    assert scores[0] == scores[1]
    for name in ("cats_macro_f", "ents_f", "tag_acc", "dep_uas", "dep_las"):
        assert scores[0][name] > 0.9, name
    assert scores[0]["ents_per_type"].keys() == {"ANIMAL", "PLACE"}
    assert scores[0]["cats_f_per_type"].keys() == {"LIVING", "OTHER"}


def test_evaluate_by_component(trained: Trained, tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    command("evaluate", trained.path, trained.data, "--output", file, "--per-component")
    assert {"bert_textcat", "bert_ner", "tagger", "parser"} <= json.loads(file.read_text()).keys()


def test_benchmark_speed(trained: Trained) -> None:
    options = ("--batches", "30", "--warmup", "0", "--batch-size", "2")
    printed = command("benchmark", "speed", trained.path, trained.data, *options)
    assert "Mean:" in printed


@pytest.mark.parametrize("source", ["jsonl", "spacy"])
def test_apply_keeps_entities_their_scores_and_classes(
    trained: Trained, tmp_path: Path, source: str
) -> None:
    texts = [*TEXTS[:6], *ODD_TEXTS[1:]]
    if source == "jsonl":
        srsly.write_jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in texts])
    else:
        blank = spacy.blank("en")
        DocBin(docs=blank.pipe(texts)).to_disk(tmp_path / "texts.spacy")
    output = tmp_path / "applied.spacy"
    command("apply", trained.path, tmp_path / f"texts.{source}", output, "--batch-size", "4")
    docs = list(DocBin().from_disk(output).get_docs(trained.nlp.vocab))
    assert_close(say(docs), predict(trained.nlp, texts))
    assert all(len(d.spans["ents"]) == len(d.spans["ents"].attrs["scores"]) for d in docs)
    assert any(len(doc.spans["ents"]) for doc in docs)


def test_init_labels_serves_training(trained: Trained, tmp_path: Path) -> None:
    command("init", "labels", trained.config, tmp_path, *trained.paths)
    assert {file.stem for file in tmp_path.glob("*.json")} == set(LISTENERS)
    assert set(srsly.read_json(tmp_path / "bert_ner.json")) == {"ANIMAL", "PLACE"}
    assert set(srsly.read_json(tmp_path / "bert_textcat.json")) == {"LIVING", "OTHER"}
    # More labels than the data have: the file is what counts.
    srsly.write_json(tmp_path / "bert_ner.json", ["PLANT", "ANIMAL", "PLACE"])
    srsly.write_json(tmp_path / "bert_textcat.json", ["OTHER", "LIVING", "THIRD"])
    config = trained.load_config()
    for name in LISTENERS:
        labels = {"@readers": "spacy.read_labels.v1", "path": str(tmp_path / f"{name}.json")}
        config["initialize"]["components"][name] = {"labels": labels}
    config["training"]["max_steps"] = config["training"]["eval_frequency"] = 1
    nlp = train_config(config)
    assert nlp.get_pipe("bert_ner").labels == ("PLANT", "ANIMAL", "PLACE")
    assert nlp.get_pipe("bert_textcat").labels == ("OTHER", "LIVING", "THIRD")
    assert nlp("The dog.").cats.keys() == {"OTHER", "LIVING", "THIRD"}


@pytest.fixture(scope="module")
def multilabel(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, list[Any]]:
    """A pipeline with several classes that may hold, its data, and its gold Docs."""
    folder = tmp_path_factory.mktemp("multilabel")
    docs = sentences()
    for doc in docs:
        doc.cats = {"DOG": float("dog" in doc.text), "LAZY": float("lazy" in doc.text)}
    DocBin(docs=docs).to_disk(folder / "data.spacy")
    config = trained.load_config()
    config["nlp"]["pipeline"] = ["bert", "bert_textcat"]
    config["components"] = {name: config["components"][name] for name in config["nlp"]["pipeline"]}
    config["components"]["bert_textcat"]["mode"] = "multilabel"
    config["paths"]["train"] = str(folder / "data.spacy")
    for name in ("train", "dev"):
        config["corpora"][name]["path"] = str(folder / "data.spacy")
    config["training"].update({"max_steps": 25, "eval_frequency": 25, "score_weights": {}})
    train_config(config, folder / "model")
    return folder / "model" / "model-last", folder / "data.spacy", docs


def test_find_threshold(multilabel: tuple[Path, Path, list[Any]]) -> None:
    model, data, golds = multilabel
    options = {"threshold_key": "threshold", "scores_key": "cats_macro_f", "n_trials": 5}
    best, score, scores = find_threshold(str(model), data, pipe_name="bert_textcat", **options)
    assert list(scores) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert scores[best] == score == max(scores.values())
    # At 0 everything holds, at 1 nothing does: the threshold was really used.
    assert scores[1.0] == 0.0
    holds = np.array([[value > 0 for value in gold.cats.values()] for gold in golds])
    precision = holds.mean(axis=0)
    assert scores[0.0] == pytest.approx(np.mean(2 * precision / (precision + 1)))
    assert score > scores[0.0]


def test_find_threshold_by_command(multilabel: tuple[Path, Path, list[Any]]) -> None:
    model, data, _ = multilabel
    arguments = ("bert_textcat", "threshold", "cats_macro_f", "--n_trials", "3")
    assert "Best threshold" in command("find-threshold", model, data, *arguments)


def test_commands_leave_the_pipeline_as_it_was(trained: Trained) -> None:
    loaded = spacy.load(trained.path)
    assert same_arrays(encoder_weights(loaded), encoder_weights(trained.nlp))
    assert predict(loaded) == trained.said
