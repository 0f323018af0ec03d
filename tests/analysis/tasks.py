"""Small trained pipelines of every kind of component, with gold examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import spacy
import torch
from spacy.language import Language
from spacy.training import Example

import spacy_bert
from spacy_bert.analysis.head_pruning import Heads
from spacy_bert.analysis.task_head import TaskHead
from spacy_bert.models.optimizer import build_adamw
from tests.pipeline import endings, questions
from tests.pipeline.lifecycle import sentences

# Textcat in its three modes, entities, answers, choices; the last one owns its encoder.
KINDS = ("exclusive", "multilabel", "regression", "ner", "qa", "choice", "private")
STEPS = 12
LONG = "The quick brown fox jumps over the lazy dog in Paris. " * 5


@dataclass(frozen=True)
class Task:
    """A pipeline, the component in question and gold examples.

    Attributes:
        nlp: Not to be changed.
        component: Its name.
        examples: Its training data; the first Doc of a textcat is read in several windows.
    """

    nlp: Language
    component: str
    examples: list[Example]

    @property
    def head(self) -> TaskHead:
        """The component by itself."""
        return TaskHead.find(self.nlp, self.component)


@cache
def task(kind: str, checkpoint: Path) -> Task:
    """Trained for a few steps, so that decisions differ, and are not sure."""
    if kind == "qa":
        settings = {"stride": 24}
        nlp, _ = questions.qa_pipeline(checkpoint, encoder=settings, null_answers=True)
        examples = questions.examples(nlp)
    elif kind == "choice":
        nlp, _ = endings.choice_pipeline(checkpoint, encoder={"stride": 24})
        examples = endings.examples(nlp)
    else:
        nlp = spacy.blank("en")
        model = {"name": str(checkpoint), "window": 40, "stride": 20}
        nlp.add_pipe("bert", config={"model": model})
        if kind == "ner":
            nlp.add_pipe("bert_ner")
            examples = [Example(nlp.make_doc(doc.text), doc) for doc in sentences()[::4]]
        else:
            mode = "exclusive" if kind == "private" else kind
            nlp.add_pipe("bert_textcat", config={"mode": mode})
            examples = _classified(nlp, mode)
    return _trained(nlp, examples, private=kind == "private")


def copied(nlp: Language) -> Language:
    """The same pipeline with weights of its own."""
    made = spacy.util.load_model_from_config(nlp.config, auto_fill=False)
    return made.from_bytes(nlp.to_bytes())


def gates_without(heads: Heads) -> np.ndarray:
    """Gates of two layers of two heads, these closed."""
    gates = np.ones((2, 2))
    for layer, numbers in heads.items():
        gates[layer, list(numbers)] = 0.0
    return gates


def pairs(nlp: Language) -> list[Example]:
    """Pairs of segments, the same kind of word in both or not."""
    words = ["dog", "fox", "energy", "light"]
    made = []
    for first in words:
        for second in words:
            doc = spacy_bert.join(nlp, f"The {first} jumps over", f"a lazy {second}.")
            same = (first in words[:2]) == (second in words[:2])
            cats = {"LIVING": float(same), "OTHER": float(not same)}
            made.append(Example.from_dict(doc, {"cats": cats}))
    return made


def _classified(nlp: Language, mode: str) -> list[Example]:
    found = []
    for number, doc in enumerate(sentences()[::4]):
        text = LONG + doc.text if number == 0 else doc.text
        cats = dict(doc.cats)
        if mode == "regression":
            cats = {"size": number / 4, "age": 1.0 - number / 8}
        elif mode == "multilabel":
            cats["EVEN"] = float(number % 2 == 0)
        found.append(Example.from_dict(nlp.make_doc(text), {"cats": cats}))
    return found


def _trained(nlp: Language, examples: list[Example], *, private: bool) -> Task:
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: examples, sgd=build_adamw(1e-3))
    for _ in range(STEPS):
        nlp.update(examples, sgd=optimizer, losses={})
    name = nlp.pipe_names[-1]
    if private:
        nlp.replace_listeners("bert", name, ["model.tok2vec"])
        nlp.remove_pipe("bert")
    return Task(nlp, name, examples)
