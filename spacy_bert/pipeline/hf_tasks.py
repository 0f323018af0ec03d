"""The tasks that Hugging Face's fine-tuned BERTs and our components share, and what tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from spacy_bert.pipeline.bio import find_tags
from spacy_bert.pipeline.textcat import Mode

KEPT = "spacy_bert"  # the field of `config.json` that keeps what Hugging Face has no place for
ENCODER = "encoder"

# The logit of a tag that a checkpoint does not have, in half precision too.
NEVER = -1e4


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: a head on BERT, in Hugging Face's words and in ours.

    Attributes:
        architecture: what `architectures` in `config.json` calls it.
        output: the last layer's name in the checkpoint.
        pooler: whether a pooler stands before it.
        factory: our component.
        model: the architecture of its model.
        listener: the architecture of what that model reads, if the two are to be the same network;
            or its twin with an encoder of its own.
        use: how to ask a pipeline `nlp`, for a reader of the command's output.
    """

    architecture: str
    output: str
    pooler: bool
    factory: str
    model: str
    listener: str
    use: str


TASKS = {
    "sequence-classification": Task(
        architecture="BertForSequenceClassification",
        output="classifier",
        pooler=True,
        factory="bert_textcat",
        model="spacy_bert.TextCat.v1",
        listener="spacy_bert.ClsListener.v1",
        use='nlp("A text.").cats',
    ),
    "token-classification": Task(
        architecture="BertForTokenClassification",
        output="classifier",
        pooler=False,
        factory="bert_ner",
        model="spacy_bert.NER.v1",
        listener="spacy_bert.TokenListener.v1",
        use='nlp("A text.").ents',
    ),
    "question-answering": Task(
        architecture="BertForQuestionAnswering",
        output="qa_outputs",
        pooler=False,
        factory="bert_span_qa",
        model="spacy_bert.SpanQA.v1",
        listener="spacy_bert.PieceListener.v1",
        use='spacy_bert.ask(nlp, "A question?", "A context.")',
    ),
    "multiple-choice": Task(
        architecture="BertForMultipleChoice",
        output="classifier",
        pooler=True,
        factory="bert_choice",
        model="spacy_bert.Choice.v1",
        listener="spacy_bert.PairListener.v1",
        use='spacy_bert.choose(nlp, "A context", ["one end.", "another end."])',
    ),
}
# How to ask a pipeline `nlp`.
USES = {name: task.use for name, task in TASKS.items()} | {ENCODER: 'nlp("A text.")._.trf_data'}
# What has no head, or one that a pipeline has no place for.
ENCODERS = (
    "BertModel",
    "BertForPreTraining",
    "BertForMaskedLM",
    "BertForNextSentencePrediction",
    "BertLMHeadModel",
)

MODES: dict[str, Mode] = {
    "single_label_classification": "exclusive",
    "multi_label_classification": "multilabel",
    "regression": "regression",
}
PROBLEM_TYPES = {mode: problem_type for problem_type, mode in MODES.items()}


def find_task(
    values: Mapping[str, Any], tensors: Mapping[str, Tensor], *, pooler: bool, file: Path
) -> str:
    """The task of a checkpoint, a key of `TASKS` or `ENCODER`.

    Args:
        values: the content of `config.json`.
        tensors: those on top of the encoder, by which the task is told if `architectures` is
            missing.
        pooler: whether the encoder has a pooler.
        file: the `config.json`.

    Raises:
        ValueError: if the task is none of ours, or nothing tells it.
    """
    architectures = values.get("architectures") or ()
    for name, task in TASKS.items():
        if task.architecture in architectures:
            return name
    if architectures and not set(architectures).intersection(ENCODERS):
        known = [task.architecture for task in TASKS.values()]
        raise ValueError(
            f"{file}: architectures is {', '.join(map(str, architectures))}; supported are "
            f"{', '.join([*known, *ENCODERS])}. --task says how to read it all the same"
        )
    if architectures:
        return ENCODER
    if "qa_outputs.weight" in tensors:
        return "question-answering"
    weight = tensors.get("classifier.weight")
    if weight is None:
        return ENCODER
    if not pooler or _is_bio(read_labels(values, len(weight), file=file)):
        return "token-classification"
    if len(weight) > 1:
        return "sequence-classification"
    raise ValueError(
        f"{file}: has no architectures, and a head with one output may be one of "
        "sequence-classification or multiple-choice: say which with --task"
    )


def read_labels(values: Mapping[str, Any], count: int, *, file: Path) -> list[str]:
    """The names of a head's outputs; LABEL_0 and so on, if `id2label` does not tell any.

    A map of such names alone may have another size: old libraries wrote two whatever the head.

    Raises:
        ValueError: if `id2label` does not name each of `count` outputs by a name of its own.
    """
    id2label = values.get("id2label") or {}
    try:
        labels = {int(index): str(label) for index, label in id2label.items()}
    except (AttributeError, ValueError):
        raise ValueError(f"{file}: id2label must map numbers to names, got {id2label!r}") from None
    if all(label == f"LABEL_{index}" for index, label in labels.items()):
        return [f"LABEL_{index}" for index in range(count)]
    if sorted(labels) != list(range(count)):
        raise ValueError(
            f"{file}: id2label names {len(labels)} labels, the head has {count} outputs: it must "
            f"have a name for each of 0 to {count - 1}"
        )
    twice = [label for label in labels.values() if list(labels.values()).count(label) > 1]
    if twice:
        raise ValueError(f"{file}: id2label has {twice[0]!r} twice: give each output its own name")
    return [labels[index] for index in range(count)]


def find_mode(problem_type: str | None, count: int, *, file: Path) -> Mode:
    """The mode of `bert_textcat`; without a `problem_type` as Hugging Face takes it.

    Args:
        problem_type: as in `config.json`; without one, a single output is a real value, several are
            exclusive classes.
        count: number of outputs.
        file: the `config.json`.

    Raises:
        ValueError: if the type is unknown, or there is one class, which would always hold.
    """
    if problem_type is None:
        return "regression" if count == 1 else "exclusive"
    if problem_type not in MODES:
        raise ValueError(
            f"{file}: problem_type is {problem_type!r}; it may be {', '.join(MODES)}, "
            "or be left out"
        )
    mode = MODES[problem_type]
    if mode == "exclusive" and count == 1:
        raise ValueError(
            f"{file}: problem_type is {problem_type!r}, but one class alone would always hold: "
            "set --problem-type to multi_label_classification or regression"
        )
    return mode


def _is_bio(labels: Sequence[str]) -> bool:
    try:
        find_tags(labels)
    except ValueError:
        return False
    return True
