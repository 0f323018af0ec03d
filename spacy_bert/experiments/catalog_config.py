"""The training config of an experiment: a starter config, with the recipe of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spacy.tokens import DocBin
from thinc.api import Config

from spacy_bert.bert import load_config
from spacy_bert.experiments.catalog import LANG, WINDOW, Experiment
from spacy_bert.pipeline.starter import make_starter

DEV_LIMIT = 500  # Docs that training looks at between epochs: for the eye, nothing is chosen by it
_ENCODER = "components.bert.model"
_BILSTM_WIDTH = 768  # of both directions together (Devlin et al. 2018, section 5.3)


def experiment_config(
    experiment: Experiment,
    encoder: str,
    data: Path,
    *,
    pretrained: bool,
    seed: int,
    learning_rate: float,
    epochs: int | None,
    overrides: Mapping[str, Any],
) -> Config:
    """The config of one training; it names all that it reads.

    Args:
        experiment: What is trained on what.
        encoder: Checkpoint directory or hub id.
        data: Directory of `train.spacy` and the sets that are scored.
        pretrained: Whether the encoder's weights are taken, or its shape and vocabulary alone.
        seed: Of `[training]`.
        learning_rate: Its peak; a BiLSTM on features has that of `init-config`.
        epochs: Passes over the training set; None for the recipe's.
        overrides: Fields by dotted name.

    Raises:
        ValueError: If there is no such field.
    """
    examples = len(DocBin().from_disk(data / "train.spacy"))
    epochs = epochs or experiment.epochs
    steps = epochs * -(-examples // experiment.batch_size)
    features = experiment.features
    starter = make_starter(
        [experiment.component],
        encoder,
        lang=LANG,
        features=features is not None,
        max_steps=steps,
    )
    config = starter.config
    config["paths"] |= {
        "train": str(data / "train.spacy"),
        "dev": str(data / f"{experiment.splits[0]}.spacy"),
    }
    config["corpora"]["dev"]["limit"] = DEV_LIMIT
    training = config["training"]
    training |= {
        "seed": seed,
        "patience": 0,
        # spaCy counts the steps from 0.
        "max_steps": max(steps - 1, 1),
        "eval_frequency": max(steps // epochs, 1),
    }
    if features is None:
        training["optimizer"]["learn_rate"]["initial_rate"] = learning_rate
        training["batcher"] = {
            "@batchers": "spacy.batch_by_sequence.v1",
            "size": experiment.batch_size,
            "get_length": None,
        }
        settings: dict[str, Any] = {f"{_ENCODER}.pretrained": pretrained}
    else:
        tok2vec = config["components"][experiment.component]["model"]["tok2vec"]
        network = tok2vec["embed"]["encoder"]
        network["pretrained"] = pretrained
        layers = load_config(encoder).num_hidden_layers if Path(encoder).is_dir() else 12
        tok2vec["embed"] |= {"layers": features.of(layers), "combine": features.combine}
        tok2vec["encode"]["width"] = _BILSTM_WIDTH
        settings = {}
    settings |= {**experiment.settings, **overrides}
    if settings.get(WINDOW) is not None and Path(encoder).is_dir():
        positions = load_config(encoder).max_position_embeddings
        settings[WINDOW] = min(settings[WINDOW], positions)
    for name, value in settings.items():
        _set(config, name, value)
    filled: Config = config.interpolate()
    return filled


def _set(config: Config, name: str, value: object) -> None:
    *sections, key = name.split(".")
    block: Any = config
    for section in sections:
        block = block.get(section) if isinstance(block, dict) else None
    if not isinstance(block, dict) or key not in block:
        raise ValueError(f"the training config has no field {name}")
    block[key] = value
