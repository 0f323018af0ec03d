"""A fine-tuned BERT of Hugging Face's becomes a pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import spacy
import torch
from spacy.language import Language
from torch import Tensor

from spacy_bert.bert import BertModel
from spacy_bert.bert.checkpoint import CONFIG_FILE, load_with_rest
from spacy_bert.models.conversion import require_vocabulary
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.heads import Head, head_shim
from spacy_bert.models.hub import find_checkpoint
from spacy_bert.pipeline.bio import find_tags
from spacy_bert.pipeline.hf_tasks import (
    ENCODER,
    KEPT,
    NEVER,
    TASKS,
    Task,
    find_mode,
    find_task,
    read_labels,
)
from spacy_bert.wordpiece import WordPiece


@dataclass(frozen=True, kw_only=True)
class FromHF:
    """A pipeline and where it comes from.

    Attributes:
        nlp: the pipeline, whose `meta["description"]` says what it is.
        task: a key of `TASKS`, or `ENCODER`.
        missing: tags that `bert_ner` has and the checkpoint has not; they are never predicted.
        left_behind: names of the checkpoint's tensors that have no place in the pipeline.
    """

    nlp: Language
    task: str
    missing: list[str]
    left_behind: list[str]


@dataclass(frozen=True, kw_only=True)
class _Component:
    """What a checkpoint says of a component: settings, labels, weights of the last layer."""

    settings: dict[str, Any]
    labels: list[str]
    weight: Tensor
    bias: Tensor
    about: str
    missing: list[str]


def from_hf(
    path: str | Path,
    *,
    lang: str | None = None,
    task: str | None = None,
    problem_type: str | None = None,
    null_answers: bool | None = None,
    window: int | None = None,
    stride: int | None = None,
) -> Language:
    """Make a pipeline of a checkpoint of Hugging Face's: `bert`, and a component for its head.

    The pipeline holds vocabulary and weights: saved, it loads where the checkpoint does not exist.
    It gives the probabilities that `transformers` gives for the same pieces; `bert_ner` reads the
    first piece of each of spaCy's tokens.

    Args:
        path: directory or hub id of a `BertForSequenceClassification` (becomes `bert_textcat`),
            `BertForTokenClassification` with BIO tags (`bert_ner`), `BertForQuestionAnswering`
            (`bert_span_qa`), `BertForMultipleChoice` (`bert_choice`), or of a BERT without a head
            or with those of pre-training, which are left behind.
        lang: code of the language, whose tokenizer the pipeline gets; default: "en".
        task: how to read it, if `architectures` in `config.json` is missing or another:
            "sequence-classification", "token-classification", "question-answering",
            "multiple-choice" or "encoder".
        problem_type: of a sequence classification, "single_label_classification",
            "multi_label_classification" or "regression", if `config.json` does not say so.
        null_answers: of question answering, whether a context may hold no answer, as in SQuAD 2.0.
        window: pieces read together at most; default: as many as the network has positions.
        stride: pieces between the starts of two windows; default: 3/4 of `window`.

    Raises:
        ValueError: says which file, field or setting is wrong, and what would mend it.
    """
    return read_hf(
        path,
        lang=lang,
        task=task,
        problem_type=problem_type,
        null_answers=null_answers,
        window=window,
        stride=stride,
    ).nlp


def read_hf(
    path: str | Path,
    *,
    lang: str | None = None,
    task: str | None = None,
    problem_type: str | None = None,
    null_answers: bool | None = None,
    window: int | None = None,
    stride: int | None = None,
) -> FromHF:
    """What `from_hf` does, and what there is to tell about it; see there."""
    if task is not None and task not in (*TASKS, ENCODER):
        raise ValueError(f"task must be one of {', '.join([*TASKS, ENCODER])}, got {task!r}")
    directory = find_checkpoint(path)
    network, rest, source = load_with_rest(directory)
    wordpiece = WordPiece.load(directory)
    require_vocabulary(directory, wordpiece, network.config)
    file = directory / CONFIG_FILE
    values = _read_values(file)
    kept = _kept(values)
    if problem_type is not None:
        values["problem_type"] = problem_type
        kept["component"] = {}  # a threshold, say, is of the other type
    pooler = network.pooler is not None
    name = task or find_task(values, rest, pooler=pooler, file=file)
    _refuse_strange_options(name, problem_type=problem_type, null_answers=null_answers)
    component = None
    if name != ENCODER:
        head = TASKS[name]
        if head.pooler and not pooler:
            raise _missing(source, "bert.pooler.dense.weight", head)
        weight, bias = _take(rest, head, network.config.hidden_size, source)
        component = _READERS[name](values, weight, bias, file)
        if head.architecture in (values.get("architectures") or ()):
            component.settings.update({**kept["component"], **component.settings})
        if null_answers is not None:
            component.settings["null_answers"] = null_answers
    nlp = _blank(lang or kept["lang"])
    options = {"window": window, "stride": stride}
    given = {option: value for option, value in options.items() if value is not None}
    _add_encoder(nlp, network, wordpiece, {**kept["encoder"], **given})
    about = "bert, from a BERT"
    if component is None:
        nlp.initialize()
    else:
        _add_component(nlp, head, component)
        about = f"bert, {head.factory}{component.about}, from a {head.architecture}"
    shape = f"{network.config.num_hidden_layers} layers, hidden size {network.config.hidden_size}"
    nlp.meta["description"] = f"{about} of {shape}"
    return FromHF(
        nlp=nlp,
        task=name,
        missing=[] if component is None else component.missing,
        left_behind=sorted(rest),
    )


def _read_values(file: Path) -> dict[str, Any]:
    """The whole `config.json`; Google's directories have none."""
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf8")) if file.is_file() else {}
    return values


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    """What `to_hf` has kept of a pipeline: settings of its encoder and its component."""
    kept = values.get(KEPT)
    return {
        "lang": "en",
        "encoder": {},
        "component": {},
        **(kept if isinstance(kept, dict) else {}),
    }


def _refuse_strange_options(
    name: str, *, problem_type: str | None, null_answers: bool | None
) -> None:
    if problem_type is not None and name != "sequence-classification":
        raise ValueError(
            f"problem_type is of sequence-classification, this is {name}: leave it out"
        )
    if null_answers is not None and name != "question-answering":
        raise ValueError(f"null_answers is of question-answering, this is {name}: leave it out")


def _blank(lang: str) -> Language:
    try:
        return spacy.blank(lang)
    except ImportError as error:
        raise ValueError(f"language {lang!r}: {str(error).strip().splitlines()[0]}") from None


def _add_encoder(
    nlp: Language, network: BertModel, wordpiece: WordPiece, options: Mapping[str, Any]
) -> None:
    # No name: the place of the checkpoint is no business of whoever reads the saved pipeline.
    bert: Any = nlp.add_pipe("bert", config={"model": {"name": None, **options}})
    encoder_shim(bert.model).take(network, wordpiece)


def _add_component(nlp: Language, task: Task, component: _Component) -> None:
    pipe: Any = nlp.add_pipe(task.factory, config=component.settings)
    for label in component.labels:
        pipe.add_label(label)
    nlp.initialize()  # takes the encoder's pooler
    output = cast(Head, head_shim(pipe.model).module).output
    with torch.no_grad():
        output.weight.copy_(component.weight)
        output.bias.copy_(component.bias)


def _take(
    tensors: dict[str, Tensor], task: Task, hidden_size: int, source: Path
) -> tuple[Tensor, Tensor]:
    """Take weight, (outputs, hidden size), and bias of the last layer out of the tensors."""
    names = [f"{task.output}.weight", f"{task.output}.bias"]
    for name in names:
        if name not in tensors:
            raise _missing(source, name, task)
    weight, bias = map(tensors.pop, names)
    if weight.shape != (len(bias), hidden_size):
        raise ValueError(
            f"{source}: tensor {names[0]!r} has shape {tuple(weight.shape)}, "
            f"expected {(len(bias), hidden_size)}"
        )
    return weight, bias


def _missing(source: Path, tensor: str, task: Task) -> ValueError:
    return ValueError(
        f"{source}: tensor {tensor!r} is missing, of the head of {task.architecture}; "
        "--task encoder takes the encoder alone"
    )


def _read_textcat(
    values: Mapping[str, Any], weight: Tensor, bias: Tensor, file: Path
) -> _Component:
    labels = read_labels(values, len(weight), file=file)
    mode = find_mode(values.get("problem_type"), len(labels), file=file)
    if mode == "regression" and labels == ["LABEL_0"]:
        labels = ["score"]
    return _Component(
        settings={"mode": mode},
        labels=labels,
        weight=weight,
        bias=bias,
        about=f" ({mode}: {_some(labels)})",
        missing=[],
    )


def _read_ner(values: Mapping[str, Any], weight: Tensor, bias: Tensor, file: Path) -> _Component:
    names = read_labels(values, len(weight), file=file)
    try:
        labels, places = find_tags(names)
    except ValueError as error:
        raise ValueError(f"{file}: id2label: {error}") from None
    ours = torch.zeros(len(places), weight.shape[1])
    biases = torch.full((len(places),), NEVER)
    missing = []
    for tag, place in enumerate(places):
        if place is None:
            missing.append(f"{'IB'[tag % 2]}-{labels[(tag - 1) // 2]}")
        else:
            ours[tag], biases[tag] = weight[place], bias[place]
    return _Component(
        settings={},
        labels=labels,
        weight=ours,
        bias=biases,
        about=f" ({_some(labels)})",
        missing=missing,
    )


def _read_span_qa(
    values: Mapping[str, Any], weight: Tensor, bias: Tensor, file: Path
) -> _Component:
    return _read_outputs(2, weight, bias, file)


def _read_choice(values: Mapping[str, Any], weight: Tensor, bias: Tensor, file: Path) -> _Component:
    return _read_outputs(1, weight, bias, file)


def _read_outputs(count: int, weight: Tensor, bias: Tensor, file: Path) -> _Component:
    if len(weight) != count:
        raise ValueError(
            f"{file.parent}: the head has {len(weight)} outputs, the task {count}: was it trained "
            "for another one? --task names it"
        )
    return _Component(settings={}, labels=[], weight=weight, bias=bias, about="", missing=[])


def _some(labels: list[str]) -> str:
    more = len(labels) - 6
    return ", ".join(labels[:6]) + (f" and {more} more" if more > 0 else "")


_READERS: dict[str, Callable[[Mapping[str, Any], Tensor, Tensor, Path], _Component]] = {
    "sequence-classification": _read_textcat,
    "token-classification": _read_ner,
    "question-answering": _read_span_qa,
    "multiple-choice": _read_choice,
}
