"""One trained pipeline for all tests of a pipeline's life."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import spacy
import torch
from confection import Config
from spacy.language import Language
from spacy.tokens import DocBin

from spacy_bert.models.optimizer import build_adamw
from tests.pipeline import endings, lifecycle
from tests.pipeline.questions import examples, qa_pipeline


@dataclass(frozen=True)
class Trained:
    """A pipeline of `bert`, `bert_textcat`, `bert_ner`, `tagger` and `parser`.

    Attributes:
        nlp: as training left it in memory; not to be changed.
        path: where it was saved.
        config: the filled config file that it was trained with; its `paths` are null.
        data: the training data.
        paths: the overrides of `paths`, as commands take them.
        said: what it says about `lifecycle.TEXTS`.
    """

    nlp: Language
    path: Path
    config: Path
    data: Path
    paths: tuple[str, ...]
    said: list[lifecycle.Prediction]

    def load_config(self) -> Config:
        """The training config with its paths."""
        overrides = dict(zip(self.paths[::2], self.paths[1::2], strict=True))
        named = {key.removeprefix("--"): value for key, value in overrides.items()}
        return spacy.util.load_config(self.config, overrides=named, interpolate=True)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Trained:
    """Trained once; good enough that its predictions are worth comparing."""
    folder = tmp_path_factory.mktemp("lifecycle")
    (folder / "base.cfg").write_text(lifecycle.BASE_CONFIG, encoding="utf8")
    config, data = folder / "config.cfg", folder / "train.spacy"
    lifecycle.command("init", "fill-config", folder / "base.cfg", config)
    DocBin(docs=lifecycle.sentences(), store_user_data=False).to_disk(data)
    paths = ("--paths.encoder", str(checkpoint), "--paths.train", str(data))
    made = Trained(spacy.blank("en"), folder / "model" / "model-last", config, data, paths, [])
    nlp = lifecycle.train_config(made.load_config(), folder / "model")
    said = lifecycle.predict(nlp)
    return Trained(nlp, made.path, config, data, paths, said)


@pytest.fixture(scope="session")
def reader(checkpoint: Path) -> Language:
    """Has learned the questions by heart; windows of 64 pieces slide over the context."""
    nlp, _ = qa_pipeline(checkpoint, encoder={"stride": 24}, null_answers=True)
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: examples(nlp), sgd=build_adamw(2e-3))
    losses: dict[str, float] = {}
    for _ in range(60):
        losses = nlp.update(examples(nlp), sgd=optimizer, losses={})
    assert losses["bert_span_qa"] < 0.1
    return nlp


@pytest.fixture(scope="session")
def saved_reader(reader: Language, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it was saved."""
    path = tmp_path_factory.mktemp("qa") / "model"
    reader.to_disk(path)
    return path


@pytest.fixture(scope="session")
def chooser(checkpoint: Path) -> Language:
    """Has learned the right endings by heart."""
    nlp, _ = endings.choice_pipeline(checkpoint, encoder={"stride": 24})
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: endings.examples(nlp), sgd=build_adamw(1e-3))
    losses: dict[str, float] = {}
    for _ in range(60):
        losses = nlp.update(endings.examples(nlp), sgd=optimizer, losses={})
    assert losses["bert_choice"] < 0.1
    return nlp


@pytest.fixture(scope="session")
def saved_chooser(chooser: Language, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it was saved."""
    path = tmp_path_factory.mktemp("choice") / "model"
    chooser.to_disk(path)
    return path
