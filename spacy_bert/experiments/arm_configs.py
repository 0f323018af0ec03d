"""The fine-tuning config of an arm: the user's, with another start and another reading of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thinc.api import Config

from spacy_bert.bert import BertConfig
from spacy_bert.bert import load_config as load_bert_config
from spacy_bert.experiments.studies import Features, Measure, Reading
from spacy_bert.experiments.train_config import read_train_config

FACTORIES = {"textcat": "bert_textcat", "ner": "bert_ner"}
_CLS = "spacy_bert.ClsListener.v1"
_TOKENS = "spacy_bert.TokenListener.v1"
_BILSTM_LAYERS = 2  # as in the feature-based approach (Devlin et al. 2018, section 5.3)
_BILSTM_RATE = 1e-3  # where it is all that is trained: configs have that of an encoder


def arm_config(
    file: Path,
    measure: Measure,
    reading: Reading,
    *,
    checkpoint: Path,
    pretrained: bool,
    data: Path,
    seed: int,
    features: Features | None = None,
) -> Config:
    """The config to train an arm with; it names all that it reads.

    Args:
        file: Config with components of the factories "bert" and that of the task.
        measure: The task.
        reading: How the head reads the encoder.
        checkpoint: Hugging Face directory to start from.
        pretrained: Whether its weights are taken, or its shape and vocabulary alone.
        data: Directory of `train.spacy` and `dev.spacy`.
        seed: Of `[training]`.
        features: Instead of `reading`, what a BiLSTM reads of the encoder, which is not trained.

    Raises:
        ValueError: If the file is no such config; names it and the section.
    """
    config = read_config(file, measure)
    encoder, head = _components(config, file, measure)
    shape = load_bert_config(checkpoint)
    encoder["model"] |= {
        "name": str(checkpoint), "config": None, "vocab": None, "pretrained": pretrained,
    }  # fmt: skip
    if measure.is_feature_based and features is None:
        features = Features(layers=(-1,))
    if features is not None:
        _read_features(config, encoder, head, features, shape, measure)
    elif reading == "last" and measure.task == "textcat":
        head["model"]["tok2vec"]["piece"] = "last"
    elif reading == "bilstm":
        listener = {"@architectures": _TOKENS, "upstream": "*"}
        head["model"]["tok2vec"] = _bilstm(measure, listener, width=shape.hidden_size)
    config["paths"] |= {
        "encoder": str(checkpoint),
        "train": str(data / "train.spacy"),
        "dev": str(data / "dev.spacy"),
    }
    config["training"]["seed"] = seed
    return config.interpolate()


def read_config(file: Path, measure: Measure) -> Config:
    """Read a fine-tuning config and see that arms can be made of it.

    Raises:
        ValueError: If not; names the file and the section.
    """
    config = read_train_config(file, interpolate=False)
    _, head = _components(config, file, measure)
    wanted = _CLS if measure.task == "textcat" else _TOKENS
    if head.get("model", {}).get("tok2vec", {}).get("@architectures") != wanted:
        raise ValueError(
            f"{file}: the {head['factory']} component must read {wanted} (model.tok2vec), which "
            "arms replace"
        )
    for name in ("train", "dev"):
        if config.get("corpora", {}).get(name, {}).get("path") != f"${{paths.{name}}}":
            raise ValueError(f"{file}: [corpora.{name}] path must be ${{paths.{name}}}")
    return config


def _components(
    config: Config, file: Path, measure: Measure
) -> tuple[dict[str, Any], dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for component in config.get("components", {}).values():
        found[component.get("factory", "")] = component
    for factory in ("bert", FACTORIES[measure.task]):
        if factory not in found:
            raise ValueError(f'{file}: has no component of the factory "{factory}"')
    return found["bert"], found[FACTORIES[measure.task]]


def _read_features(
    config: Config,
    encoder: dict[str, Any],
    head: dict[str, Any],
    features: Features,
    shape: BertConfig,
    measure: Measure,
) -> None:
    """Let the head own the encoder, in the place of the component, and read its layers."""
    embed = {
        "@architectures": "spacy_bert.LayerFeatures.v1",
        "encoder": {**encoder["model"], "frozen_layers": None},
        "layers": features.of(shape.num_hidden_layers),
        "combine": features.combine,
    }
    head["model"]["tok2vec"] = _bilstm(measure, embed, width=shape.hidden_size)
    (name,) = (key for key, value in config["components"].items() if value is encoder)
    del config["components"][name]
    config["nlp"]["pipeline"] = [other for other in config["nlp"]["pipeline"] if other != name]
    rate = config["training"]["optimizer"].get("learn_rate")
    if isinstance(rate, dict) and "initial_rate" in rate:
        rate["initial_rate"] = _BILSTM_RATE
    else:
        config["training"]["optimizer"]["learn_rate"] = _BILSTM_RATE


def _bilstm(measure: Measure, embed: dict[str, Any], *, width: int) -> dict[str, Any]:
    """A fresh BiLSTM over the tokens, and for whole Docs the mean of what it gives."""
    layers = {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": embed,
        "encode": {
            "@architectures": "spacy_bert.BiLSTM.v1",
            "width": width,
            "depth": _BILSTM_LAYERS,
            "dropout": 0.1,
        },
    }
    if measure.task == "ner":
        return layers
    return {"@architectures": "spacy_bert.TokenMean.v1", "tok2vec": layers}
