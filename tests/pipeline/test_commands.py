"""spaCy's own commands on our components: fill-config, train, evaluate, debug."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

import spacy_bert
from spacy_bert.models.encoder import encoder_shim

BASE = """
[paths]
encoder = null
train = null

[nlp]
lang = "en"
pipeline = ["bert", "bert_textcat"]

[components]

[components.bert]
factory = "bert"

[components.bert.model]
@architectures = "spacy_bert.Encoder.v1"
name = ${paths.encoder}

[components.bert_textcat]
factory = "bert_textcat"

[corpora]

[corpora.train]
@readers = "spacy.Corpus.v1"
path = ${paths.train}

[corpora.dev]
@readers = "spacy.Corpus.v1"
path = ${paths.train}

[training]
max_steps = 30
eval_frequency = 10
seed = 3

[training.batcher]
@batchers = "spacy.batch_by_sequence.v1"
size = 8

[training.optimizer]
@optimizers = "spacy_bert.AdamW.v1"
learn_rate = 0.001
"""


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "spacy", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of words: of one kind, or not."""
    nlp = spacy.blank("en")
    docs = DocBin()
    for i in range(32):
        doc = spacy_bert.join(nlp, ("the dog", "energy")[i % 2], ("the fox", "cells")[i // 2 % 2])
        same = i % 2 == i // 2 % 2
        doc.cats = {"SAME": float(same), "OTHER": float(not same)}
        docs.add(doc)
    path = tmp_path_factory.mktemp("data") / "train.spacy"
    docs.to_disk(path)
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    (folder / "base.cfg").write_text(BASE, encoding="utf8")
    run("init", "fill-config", str(folder / "base.cfg"), str(folder / "config.cfg"))
    return folder / "config.cfg"


def test_fill_config_writes_every_setting(config: Path) -> None:
    filled = spacy.util.load_config(config)
    model = filled["components"]["bert"]["model"]
    assert model["max_batch_pieces"] is None
    assert model["slide"] == "last"
    textcat = filled["components"]["bert_textcat"]
    assert textcat["loss_weight"] == 1.0
    assert textcat["model"]["tok2vec"]["@architectures"] == "spacy_bert.ClsListener.v1"
    assert filled["training"]["optimizer"]["weight_decay"] == 0.01


def test_train_and_evaluate(config: Path, data: Path, checkpoint: Path, tmp_path: Path) -> None:
    paths = ["--paths.encoder", str(checkpoint), "--paths.train", str(data)]
    printed = run("train", str(config), "--output", str(tmp_path / "model"), *paths)
    assert "LOSS BERT" in printed
    best = tmp_path / "model" / "model-best"
    metrics = tmp_path / "metrics.json"
    run("evaluate", str(best), str(data), "--output", str(metrics))
    scores = json.loads(metrics.read_text())
    assert scores["cats_micro_f"] > 0.8
    nlp = spacy.load(best)
    golds = list(DocBin().from_disk(data).get_docs(nlp.vocab))
    hits = sum(
        max(doc.cats, key=doc.cats.__getitem__) == max(gold.cats, key=gold.cats.__getitem__)
        for doc, gold in zip(nlp.pipe(g.text for g in golds), golds, strict=True)
    )
    # `spacy evaluate` rebuilds Docs from text: the segments were there all the same.
    assert hits / len(golds) == pytest.approx(scores["cats_micro_f"])


def test_the_same_seed_gives_the_same_weights(
    config: Path, data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    from spacy.cli.train import train

    weights = []
    for run_number in range(2):
        overrides = {
            "paths.encoder": str(checkpoint),
            "paths.train": str(data),
            "training.max_steps": 5,
            "training.eval_frequency": 5,
        }
        train(config, tmp_path / str(run_number), overrides=overrides)
        nlp = spacy.load(tmp_path / str(run_number) / "model-last")
        weights.append(encoder_shim(nlp.get_pipe("bert").model).to_bytes())
    assert weights[0] == weights[1]


def test_a_wrong_encoder_is_named(config: Path, data: Path) -> None:
    paths = ["--paths.encoder", "/no/such/place", "--paths.train", str(data)]
    done = subprocess.run(
        [sys.executable, "-m", "spacy", "train", str(config), *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "/no/such/place: no such directory" in done.stderr


def test_training_stops_early_and_the_best_model_stands(
    config: Path, data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    printed = run(
        *("train", str(config), "--output", str(tmp_path / "model")),
        *("--paths.encoder", str(checkpoint), "--paths.train", str(data)),
        *("--training.optimizer.learn_rate", "0.0", "--training.patience", "6"),
        *("--training.eval_frequency", "3", "--training.max_steps", "1000"),
    )
    # Nothing is learned, so the first of equal scores is the best, six steps before the end.
    steps = [int(line.split()[1]) for line in printed.splitlines() if line.split()[:1] == ["0"]]
    assert steps[0] == 0
    assert "1000" not in printed
    assert len(steps) <= 4
    assert (tmp_path / "model" / "model-best" / "meta.json").is_file()
