"""A small trained pipeline with every kind of component, and what it says, as plain data."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import spacy
from confection import Config
from spacy.cli._util import app
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from typer.testing import CliRunner

from spacy_bert.models.encoder import encoder_shim

Prediction = dict[str, Any]

PIPELINE = ["bert", "bert_textcat", "bert_ner", "tagger", "parser"]
LISTENERS = PIPELINE[1:]

LISTENER = """
@architectures = "spacy-transformers.TransformerListener.v1"
grad_factor = 0.02
pooling = {"@layers":"reduce_mean.v1"}
"""

# What a user writes; `spacy init fill-config` adds the rest.
BASE_CONFIG = f"""
[paths]
encoder = null
train = null

[nlp]
lang = "en"
pipeline = ["bert","bert_textcat","bert_ner","tagger","parser"]

[components]

[components.bert]
factory = "bert"

[components.bert.model]
@architectures = "spacy_bert.Encoder.v1"
name = ${{paths.encoder}}

[components.bert_textcat]
factory = "bert_textcat"

[components.bert_ner]
factory = "bert_ner"

[components.tagger]
factory = "tagger"

[components.tagger.model]
@architectures = "spacy.Tagger.v2"

[components.tagger.model.tok2vec]
{LISTENER}

[components.parser]
factory = "parser"
min_action_freq = 1

[components.parser.model]
@architectures = "spacy.TransitionBasedParser.v2"
state_type = "parser"
extra_state_tokens = false
hidden_width = 16
maxout_pieces = 2
use_upper = false

[components.parser.model.tok2vec]
{LISTENER}

[corpora]

[corpora.train]
@readers = "spacy.Corpus.v1"
path = ${{paths.train}}

[corpora.dev]
@readers = "spacy.Corpus.v1"
path = ${{paths.train}}

[training]
max_steps = 60
eval_frequency = 60
dropout = 0.0
seed = 5

[training.batcher]
@batchers = "spacy.batch_by_sequence.v1"
size = 8

[training.optimizer]
@optimizers = "spacy_bert.AdamW.v1"
learn_rate = 0.002
"""

# Text that a pipeline must bear, alone and among others.
ODD_TEXTS = ["", " ", "\n\n", "dog", "\t dog", "."]

LIVING = ("dog", "fox")
NOUNS = (*LIVING, "energy", "light")
PLACES = ("Paris", "Plants")


def sentences() -> list[Doc]:
    """Thirty-two sentences with tags, trees, entities (animals and places) and classes."""
    vocab = spacy.blank("en").vocab
    docs = []
    for number, (subject, object_) in enumerate(itertools.product(NOUNS, NOUNS)):
        for adjective, verb in (("quick", "jumps"), ("lazy", "keeps")):
            place = PLACES[number % 2]
            words = ["The", adjective, subject, verb, "the", object_, "in", place, "."]
            ents = ["O"] * 7 + ["U-PLACE", "O"]
            if subject in LIVING:
                ents[1:3] = ["B-ANIMAL", "L-ANIMAL"]
            if object_ in LIVING:
                ents[5] = "U-ANIMAL"
            doc = Doc(
                vocab,
                words=words,
                spaces=[True] * 7 + [False, False],
                tags=["DT", "JJ", "NN", "VBZ", "DT", "NN", "IN", "NNP", "."],
                heads=[2, 2, 3, 3, 5, 3, 3, 6, 3],
                deps=["det", "amod", "nsubj", "ROOT", "det", "dobj", "prep", "pobj", "punct"],
                ents=[entity.replace("L-", "I-").replace("U-", "B-") for entity in ents],
            )
            doc.cats = {"LIVING": float(subject in LIVING), "OTHER": float(subject not in LIVING)}
            docs.append(doc)
    return docs


TEXTS = [doc.text for doc in sentences()]


def examples(nlp: Language, docs: Iterable[Doc] | None = None) -> list[Example]:
    """Gold examples for a pipeline."""
    golds = sentences() if docs is None else docs
    return [Example(nlp.make_doc(gold.text), gold) for gold in golds]


def say(docs: Iterable[Doc]) -> list[Prediction]:
    """What the components have said about Docs, as plain data."""
    return [
        {
            "tags": [token.tag_ for token in doc],
            "heads": [token.head.i for token in doc],
            "deps": [token.dep_ for token in doc],
            "ents": [[ent.start, ent.end, ent.label_] for ent in doc.ents],
            "scores": [float(s) for s in doc.spans["ents"].attrs["scores"]]
            if "ents" in doc.spans
            else [],
            "cats": dict(doc.cats),
        }
        for doc in docs
    ]


def predict(nlp: Language, texts: Iterable[str] = TEXTS) -> list[Prediction]:
    """What a pipeline says about texts."""
    return say(nlp.pipe(texts))


def assert_close(ours: list[Prediction], theirs: list[Prediction], *, atol: float = 1e-5) -> None:
    """The same decisions; confidences but for rounding."""
    for one, other in zip(ours, theirs, strict=True):
        for key in ("tags", "heads", "deps", "ents"):
            assert one[key] == other[key], key
        np.testing.assert_allclose(one["scores"], other["scores"], atol=atol)
        assert one["cats"].keys() == other["cats"].keys()
        np.testing.assert_allclose(
            list(one["cats"].values()), list(other["cats"].values()), atol=atol
        )


def command(*arguments: str | Path) -> str:
    """Run `python -m spacy ...` in this process; what it printed.

    Raises:
        AssertionError: if its exit code is not 0.
    """
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def train_config(config: Config, output: Path | None = None) -> Language:
    """What `spacy train` does, but for reading the file; gives the pipeline in memory."""
    if output is not None:
        output.mkdir()
    nlp, _ = train(init_nlp(config), output, stdout=io.StringIO(), stderr=io.StringIO())
    return nlp


def sourced(path: Path, names: list[str], **training: Any) -> Config:
    """A training config whose components all come from a saved pipeline."""
    config = spacy.util.load_config(path / "config.cfg", interpolate=True)
    config["nlp"]["pipeline"] = names
    config["components"] = {name: {"source": str(path)} for name in names}
    config["training"].update({"max_steps": 4, "eval_frequency": 4, **training})
    config["training"]["score_weights"] = {}
    return config


def weights(nlp: Language, name: str) -> bytes:
    """All weights of a component."""
    return nlp.get_pipe(name).model.to_bytes()


def encoder_weights(nlp: Language, name: str = "bert") -> dict[str, np.ndarray]:
    """The shared encoder's parameters, copied."""
    shim = encoder_shim(nlp.get_pipe(name).model)
    shim.to_bytes()  # lets the optimizer take the step that a bare `nlp.update` leaves open
    network = shim.network
    return {key: value.numpy().copy() for key, value in network.state_dict().items()}


def same_arrays(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    """Whether all arrays are equal, bit by bit."""
    return ours.keys() == theirs.keys() and all(
        np.array_equal(array, theirs[key]) for key, array in ours.items()
    )
