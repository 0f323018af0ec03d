"""A pipeline's component becomes a fine-tuned BERT of Hugging Face's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from spacy.language import Language
from torch import Tensor

from spacy_bert.bert import Pooler
from spacy_bert.bert.checkpoint import save_with_head
from spacy_bert.files import replacing_directory
from spacy_bert.models.conversion import check_checkpoint
from spacy_bert.models.encoder import EncoderShim, encoder_shim
from spacy_bert.models.heads import Head, head_shim
from spacy_bert.models.listeners import PRIVATE
from spacy_bert.pipeline.bert import Bert
from spacy_bert.pipeline.bio import tag_names
from spacy_bert.pipeline.hf_tasks import KEPT, NEVER, PROBLEM_TYPES, TASKS, Task
from spacy_bert.pipeline.textcat import BertTextCategorizer
from spacy_bert.pipeline.upstream import find_encoder

# What is kept of an encoder, and what is not a setting of a component.
ENCODER_SETTINGS = ("window", "stride", "slide")
NOT_SETTINGS = ("factory", "model", "scorer")


@dataclass(frozen=True, kw_only=True)
class ToHF:
    """What `to_hf` has written.

    Attributes:
        architecture: the class of `transformers` that reads it.
        component: which component it was.
        left_out: the other components, but for the encoder.
        has_pruned_heads: whether heads were cut out of the encoder: `transformers` reads such
            checkpoints up to its version 4.
        pruned_layers: layers, from 0, without any head, which it reads in no version.
    """

    architecture: str
    component: str
    left_out: list[str]
    has_pruned_heads: bool
    pruned_layers: list[int]


def to_hf(
    nlp: Language, path: str | Path, *, component: str | None = None, overwrite: bool = False
) -> ToHF:
    """Write a component with its encoder as a directory that `transformers` reads.

    `from_hf` makes a pipeline of it again. The component's settings, such as a threshold, stand in
    `config.json` under "spacy_bert", which Hugging Face's libraries pass over. spaCy's tokenizer
    stays behind: of it, only the language is noted.

    Args:
        nlp: the pipeline, with `bert_textcat`, `bert_ner`, `bert_span_qa` or `bert_choice` on a
            `bert` or an encoder of its own; or with `bert` alone.
        path: the directory to write, complete or not at all.
        component: name of the component, if there are several; `bert` gives the encoder alone.
        overwrite: replace a checkpoint that stands at `path`.

    Raises:
        ValueError: if it is not clear which component is meant, or it is one that Hugging Face has
            no class for.
        FileExistsError: if there is something at `path` that may not be replaced.
    """
    path = Path(path)
    check_checkpoint(path, nlp.path, overwrite=overwrite)
    heads = {
        name: task
        for name, _ in nlp.components
        for task in TASKS.values()
        if nlp.get_pipe_meta(name).factory == task.factory
    }
    encoders = [name for name, pipe in nlp.components if isinstance(pipe, Bert)]
    chosen = _choose(nlp, heads, encoders, component)
    pipe: Any = nlp.get_pipe(chosen)
    kept: dict[str, Any] = {"lang": nlp.lang}
    if chosen in heads:
        task = heads[chosen]
        architecture = task.architecture
        _require_same_network(nlp, chosen, task)
        encoder = _find_encoder(nlp, chosen, task)
        encoder.settle()
        tensors, settings = _head(pipe, task)
        config = nlp.get_pipe_config(chosen)
        kept["component"] = {name: config[name] for name in config if name not in NOT_SETTINGS}
    else:
        architecture = "BertModel"
        encoder = encoder_shim(pipe.model)
        encoder.settle()
        tensors, settings = _pooler(encoder.network.pooler), {}
    kept["encoder"] = {name: getattr(encoder.settings, name) for name in ENCODER_SETTINGS}
    settings = {**settings, "architectures": [architecture], KEPT: kept}
    with replacing_directory(path) as temporary:
        save_with_head(encoder.network, tensors, temporary, settings=settings)
        positions = encoder.network.config.max_position_embeddings
        encoder.wordpiece.save(temporary, model_max_length=positions)
    gone = {chosen, *encoders}
    shape = encoder.network.config
    return ToHF(
        architecture=architecture,
        component=chosen,
        left_out=[name for name, _ in nlp.components if name not in gone],
        has_pruned_heads=bool(shape.pruned_heads),
        pruned_layers=[i for i in range(shape.num_hidden_layers) if not shape.kept_heads(i)],
    )


def _choose(
    nlp: Language, heads: dict[str, Task], encoders: list[str], component: str | None
) -> str:
    known = [*heads, *encoders]
    if component is not None:
        if component not in known:
            raise ValueError(
                f"no component {component!r} that could go to Hugging Face; "
                f"--component may be {' or '.join(known) or 'none of this pipeline'}"
            )
        return component
    if not known:
        raise ValueError(
            'the pipeline has no component "bert", nor one that reads it '
            f"(it has {', '.join(name for name, _ in nlp.components) or 'none'})"
        )
    candidates = list(heads) or encoders
    if len(candidates) > 1:
        raise ValueError(
            f"the pipeline has several components that could go to Hugging Face: choose "
            f"--component {' or '.join(candidates)}"
        )
    return candidates[0]


def _require_same_network(nlp: Language, name: str, task: Task) -> None:
    """Refuse models that are not the encoder and the head that Hugging Face builds."""
    model = nlp.get_pipe_config(name)["model"]
    reads = model.get("tok2vec", {})
    allowed = (task.listener, PRIVATE[task.listener])
    refused = None
    if model["@architectures"] != task.model:
        refused = f"is a {model['@architectures']}"
    elif reads.get("@architectures") not in allowed:
        refused = f"reads {reads.get('@architectures')}"
    elif reads.get("piece", "first") != "first":
        refused = 'reads the last piece (piece = "last")'
    if refused is not None:
        raise ValueError(
            f"[components.{name}.model] {refused}, for which {task.architecture} has no place: "
            f"only a {task.model} on {' or '.join(allowed)}, first pieces, can go"
        )


def _find_encoder(nlp: Language, name: str, task: Task) -> EncoderShim:
    pipe: Any = nlp.get_pipe(name)
    encoder = find_encoder(name, pipe.model, nlp)
    if encoder is None:
        raise ValueError(
            f"[components.{name}] reads an encoder that is no spacy_bert.Encoder.v1: only those "
            f"can become a {task.architecture}"
        )
    return encoder


def _head(pipe: Any, task: Task) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a head under Hugging Face's names, and what `config.json` says of it."""
    head = cast(Head, head_shim(pipe.model).module)
    weight, bias = head.output.weight.detach(), head.output.bias.detach()
    settings: dict[str, Any] = {}
    if task.factory == "bert_textcat":
        assert isinstance(pipe, BertTextCategorizer)
        settings = {**_labels(pipe.labels), "problem_type": PROBLEM_TYPES[pipe.mode]}
    elif task.factory == "bert_ner":
        # Tags that the model never had, see from_hf.
        real = ~((bias == NEVER) & (weight == 0).all(dim=1))
        weight, bias = weight[real], bias[real]
        tags = zip(tag_names(pipe.labels), real.tolist(), strict=True)
        settings = _labels([tag for tag, is_real in tags if is_real])
    output = {f"{task.output}.weight": weight, f"{task.output}.bias": bias}
    return {**_pooler(head.pooler), **output}, settings


def _pooler(pooler: Pooler | None) -> dict[str, Tensor]:
    state = {} if pooler is None else pooler.state_dict()
    return {f"bert.pooler.{name}": tensor for name, tensor in state.items()}


def _labels(labels: list[str] | tuple[str, ...]) -> dict[str, Any]:
    return {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
