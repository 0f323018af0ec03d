"""Starter configs: a complete training config for a pipeline around a BERT, from few words."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.util import load_model_from_config
from thinc.api import Config

from spacy_bert.bert import BertConfig, load_config
from spacy_bert.models.hub import refuse_path
from spacy_bert.models.listeners import private_config
from spacy_bert.pipeline.textcat import Mode
from spacy_bert.wordpiece import WordPiece

ENCODER = "bert-base-uncased"
OURS = ("bert", "bert_textcat", "bert_ner", "bert_span_qa", "bert_choice")
STOCK = (
    "tagger",
    "morphologizer",
    "parser",
    "senter",
    "ner",
    "textcat",
    "textcat_multilabel",
    "spancat",
    "trainable_lemmatizer",
)

# How the stock models differ from their defaults: as in spaCy's quickstart for transformers, whose
# classifiers add no bag of words. (TextCatReduce is its TextCatCNN under the name of today.)
CLASSIFIER = {
    "@architectures": "spacy.TextCatReduce.v1",
    "use_reduce_first": False,
    "use_reduce_last": False,
    "use_reduce_max": False,
    "use_reduce_mean": True,
    "nO": None,
}
STOCK_MODELS: dict[str, dict[str, Any]] = {
    "parser": {"hidden_width": 128, "maxout_pieces": 3, "use_upper": False},
    "ner": {"use_upper": False},
    "textcat": {**CLASSIFIER, "exclusive_classes": True},
    "textcat_multilabel": {**CLASSIFIER, "exclusive_classes": False},
}

MAX_STEPS = 2000
EVAL_FREQUENCY = 200  # at most; of few steps, every tenth part
PATIENCE = 1000
WARMUP = 0.1
BATCH_DOCS = 32  # the batch of Devlin et al. 2018; pieces limit it where texts are long

# What makes a mean of the sum that spaCy's losses are, over the tokens or the texts of a batch. Our
# losses are means: without it the encoder would hardly learn from them.
TOKENS_FACTOR = 0.002
DOCS_FACTOR = 0.03

# These read pieces, between which and the encoder no BiLSTM over tokens can stand.
READ_PIECES = ("bert_span_qa", "bert_choice")
FEATURE_LAYERS = 4  # the last ones, side by side: the best of the paper's table 7
FEATURES_RATE = 1e-3  # of the BiLSTM, which starts from nothing

# (hidden size, learning rate): the rate of the paper, and what a tiny network wants.
BASE_RATE = (384, 5e-5)
TINY_RATE = (128, 5e-4)


@dataclass(frozen=True, kw_only=True)
class Starter:
    """A starter config.

    Attributes:
        config: complete: `spacy init fill-config` would change nothing.
        notes: what was decided for the user, a line each.
    """

    config: Config
    notes: tuple[str, ...]


def make_starter(
    pipeline: Sequence[str],
    encoder: str = ENCODER,
    *,
    lang: str = "en",
    mode: Mode | None = None,
    private: bool = False,
    features: bool = False,
    null_answers: bool = False,
    gpu: bool = False,
    max_steps: int = MAX_STEPS,
) -> Starter:
    """Make a config that `spacy train` takes as it is, with `--paths.train` and `--paths.dev`.

    Args:
        pipeline: names of components, `OURS` or `STOCK`; `bert` is put first if it is missing.
        encoder: directory or hub id of the BERT.
        lang: code of the language.
        mode: of `bert_textcat`; None for exclusive classes.
        private: give each component an encoder of its own instead of the shared `bert`.
        features: likewise, but leave the encoder as it is and train a BiLSTM on its layers.
        null_answers: of `bert_span_qa`: a context may hold no answer, as in SQuAD 2.0.
        gpu: train on a GPU: in bf16 and larger batches.
        max_steps: batches to train on at most; the learning rate falls to 0 over them.

    Raises:
        ValueError: if a name, the order, or a combination is wrong, or the encoder is not there.
    """
    names = complete_pipeline(pipeline, private=private or features)
    if features and set(names) & set(READ_PIECES):
        (first, *_) = [name for name in names if name in READ_PIECES]
        raise ValueError(f"features are those of tokens, and {first} reads no tokens: leave it out")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    if mode is not None and "bert_textcat" not in names:
        raise ValueError("mode is a setting of bert_textcat, which is not in the pipeline")
    if null_answers and "bert_span_qa" not in names:
        raise ValueError("null_answers is a setting of bert_span_qa, not in the pipeline")
    hidden_size = find_hidden_size(encoder)
    try:
        nlp = spacy.blank(lang)
    except ImportError as error:
        raise ValueError(f"language {lang!r}: {str(error).strip().splitlines()[0]}") from None
    _refuse_clashes(nlp, names)
    components = {name: _component(nlp, name, private=private, gpu=gpu) for name in names}
    training = _training(learning_rate(hidden_size), gpu=gpu, max_steps=max_steps)
    if features:
        for name, component in components.items():
            tokens = _features(nlp, encoder)
            whole = {"@architectures": "spacy_bert.TokenMean.v1", "tok2vec": tokens}
            component["model"]["tok2vec"] = whole if name == "bert_textcat" else tokens
        training = _train_features(training)
    if mode is not None:
        components["bert_textcat"]["mode"] = mode
    if null_answers:
        components["bert_span_qa"]["null_answers"] = True
    config = Config(
        {
            "paths": {"train": None, "dev": None, "encoder": encoder},
            "system": {"gpu_allocator": "pytorch" if gpu else None},
            "nlp": {"lang": lang, "pipeline": names, "batch_size": 128 if gpu else 64},
            "components": components,
            "corpora": {
                split: {"@readers": "spacy.Corpus.v1", "path": f"${{paths.{split}}}"}
                for split in ("train", "dev")
            },
            "training": training | {"score_weights": _score_weights(nlp, names)},
        }
    )
    notes = [] if names == list(pipeline) else ["bert is put first: the others read it"]
    rate = training["optimizer"]["learn_rate"]["initial_rate"]
    why = "a BiLSTM is trained, not the BERT" if features else _reason(encoder, hidden_size)
    notes.append(f"learning rate {rate:g}: {why}")
    filled: Config = load_model_from_config(config, auto_fill=True).config
    return Starter(config=filled, notes=tuple(notes))


def complete_pipeline(names: Sequence[str], *, private: bool = False) -> list[str]:
    """The names of a pipeline, with `bert` before the components that read it.

    Raises:
        ValueError: if a name is unknown or named twice, or `bert` is alone or in a wrong place.
    """
    known = (*OURS, *STOCK)
    for name in names:
        if name not in known:
            raise ValueError(f"unknown component {name!r}; known are {', '.join(known)}")
        if names.count(name) > 1:
            raise ValueError(f"{name} is in the pipeline twice")
    if not set(names) - {"bert"}:
        raise ValueError(f"the pipeline has nothing to train; choose from {', '.join(known[1:])}")
    if private:
        if "bert" in names:
            raise ValueError("with private encoders nothing reads bert: leave it out")
        return list(names)
    if "bert" not in names:
        return ["bert", *names]
    if names[0] != "bert":
        raise ValueError(f"{names[0]} reads bert, so bert must stand before it")
    return list(names)


def find_hidden_size(encoder: str) -> int | None:
    """The hidden size of an encoder; None for a hub id, which is taken as it is, unseen.

    Raises:
        ValueError: if it is neither a checkpoint directory with a vocabulary nor like a hub id.
    """
    path = Path(encoder)
    if path.is_dir():
        config = load_config(path)
        WordPiece.load(path)
        return config.hidden_size
    refuse_path(encoder)
    if path.parent != Path() and path.parent.is_dir():
        # The hub is not asked here, so a mistyped directory would only be found in training.
        raise ValueError(
            f"{encoder}: no such directory, but {path.parent} is one: not taken as a hub id"
        )
    return None


def learning_rate(hidden_size: int | None) -> float:
    """The peak learning rate for a network; None stands for base.

    5e-5 from hidden size 384 upwards, 5e-4 for 128 and less, geometrically between.
    """
    (wide, low), (narrow, high) = BASE_RATE, TINY_RATE
    if hidden_size is None:
        return low
    share = min(max((wide - hidden_size) / (wide - narrow), 0.0), 1.0)
    return float(f"{low * (high / low) ** share:.1e}")


def _reason(encoder: str, hidden_size: int | None) -> str:
    (wide, low), (narrow, high) = BASE_RATE, TINY_RATE
    rule = f"{low:g} from hidden size {wide} upwards, rising to {high:g} at {narrow}"
    if hidden_size is None:
        return f"{encoder} is no directory, so a hub id, and taken as of base size ({rule})"
    return f"hidden size {hidden_size} ({rule})"


def _refuse_clashes(nlp: Language, names: Sequence[str]) -> None:
    """Refuse two components that write the same annotation, or learn other things from it."""
    writers: dict[str, str] = {}
    for name in names:
        for target in nlp.get_factory_meta(name).assigns:
            if target == "doc.spans":  # groups there have names
                continue
            if target in writers:
                raise ValueError(f"{writers[target]} and {name} both set {target}: keep one")
            writers[target] = name
    classifier = next((name for name in names if "textcat" in name), None)
    if classifier and "bert_choice" in names:  # one takes the other's keys for classes
        raise ValueError(f"{classifier} and bert_choice both learn from doc.cats: keep one")


def _component(nlp: Language, name: str, *, private: bool, gpu: bool) -> dict[str, Any]:
    """The config of a component; what is left out has its default."""
    encoder = _default_model(nlp, "bert") | {"name": "${paths.encoder}", "mixed_precision": True}
    if name == "bert":
        return {"factory": name, "model": encoder}
    model = _default_model(nlp, name)
    if name in STOCK:
        changes = STOCK_MODELS.get(name, {})
        model = changes if "@architectures" in changes else model | changes
        listener = {
            "@architectures": "spacy-transformers.TransformerListener.v1",
            "grad_factor": DOCS_FACTOR if "textcat" in name else TOKENS_FACTOR,
            "upstream": "*",
            "pooling": {"@layers": "reduce_mean.v1"},
        }
        model = {**model, "tok2vec": listener}
    if private:
        model["tok2vec"] = private_config(encoder, model["tok2vec"])
    return {"factory": name, "model": model}


def _features(nlp: Language, encoder: str) -> dict[str, Any]:
    """A BiLSTM over the layers of a frozen encoder, as wide as that; of a hub id, as base."""
    shape = load_config(encoder) if Path(encoder).is_dir() else BertConfig.preset("base")
    return {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": {
            "@architectures": "spacy_bert.LayerFeatures.v1",
            "encoder": _default_model(nlp, "bert") | {"name": "${paths.encoder}"},
            "layers": list(range(-min(FEATURE_LAYERS, shape.num_hidden_layers), 0)),
        },
        "encode": {"@architectures": "spacy_bert.BiLSTM.v1", "width": shape.hidden_size},
    }


def _train_features(training: dict[str, Any]) -> dict[str, Any]:
    """The same training for a BiLSTM: a rate of its own, and batches of like length."""
    optimizer = copy.deepcopy(training["optimizer"])
    optimizer["learn_rate"]["initial_rate"] = FEATURES_RATE
    batcher = {"@batchers": "spacy_bert.batch_by_length.v1", "size": BATCH_DOCS}
    return {**training, "optimizer": optimizer, "batcher": batcher}


def _default_model(nlp: Language, name: str) -> dict[str, Any]:
    defaults = nlp.get_factory_meta(name).default_config
    assert defaults is not None
    model: dict[str, Any] = copy.deepcopy(defaults["model"])
    return model


def _score_weights(nlp: Language, names: Sequence[str]) -> dict[str, float | None]:
    """Each component's scores, with the same weight in all, in hundredths that sum to 1.

    In spaCy's own sum a later component's 0 undoes the weight of an earlier one (the tagger's
    `pos_acc` after the morphologizer), and hundredths that miss 1 change when filled again.
    """
    weights: dict[str, float | None] = {}
    defaults = (nlp.get_factory_meta(name).default_score_weights for name in names)
    scored = [scores for scores in defaults if scores and any(scores.values())]
    for scores in scored:
        total = sum(value or 0.0 for value in scores.values()) * len(scored)
        for key, value in scores.items():
            if value:
                weights[key] = (weights.get(key) or 0.0) + value / total
            else:
                weights.setdefault(key, value)
    exact = done = 0.0
    for key, value in weights.items():
        if value:
            exact += 100 * value
            weights[key], done = (round(exact) - done) / 100, round(exact)
    return weights


def _training(rate: float, *, gpu: bool, max_steps: int) -> dict[str, Any]:
    return {
        "dropout": 0.1,
        "accumulate_gradient": 1,
        "patience": PATIENCE,
        "max_epochs": 0,
        "max_steps": max_steps,
        "eval_frequency": min(EVAL_FREQUENCY, max(max_steps // 10, 1)),
        "batcher": {
            "@batchers": "spacy_bert.batch_by_pieces.v1",
            # Under the encoder's max_batch_pieces, above which it computes everything twice.
            "size": 4000 if gpu else 2000,
            "tokenizer": "${paths.encoder}",
            "max_docs": BATCH_DOCS,
        },
        "optimizer": {
            "@optimizers": "spacy_bert.AdamW.v1",
            "learn_rate": {
                "@schedules": "warmup_linear.v1",
                "initial_rate": rate,
                "warmup_steps": int(WARMUP * max_steps),
                # No variable: spaCy's create_optimizer and resume_training do not fill it in.
                "total_steps": max_steps,
            },
        },
    }
