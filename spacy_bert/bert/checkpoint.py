"""Checkpoints: Hugging Face directories, read and written; Google's, read.

A directory holds `config.json` and `model.safetensors` (one file, or shards with an index);
`pytorch_model.bin` is read too, without unpickling code, and so are `bert_config.json` and
`bert_model.ckpt` as Google publishes them. Tokenizer files are not touched here.
"""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spacy_bert.bert import google
from spacy_bert.bert.config import BertConfig
from spacy_bert.bert.encoder import BertModel
from spacy_bert.bert.heads import BertForPreTraining
from spacy_bert.bert.names import hf_names, normalize_hf, to_hf
from spacy_bert.files import replacing
from spacy_bert.mistaken import refuse_mistaken

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLE_FILE = "pytorch_model.bin"

_POOLER = "bert.pooler."
# What a checkpoint for further pre-training has beside the layers.
_HEADS = (_POOLER, "cls.predictions.", "cls.seq_relationship.")
# Found in files, made from other tensors or from nothing.
_DERIVED = ("bert.embeddings.position_ids", "cls.predictions.decoder.weight")


def load_config(directory: str | Path) -> BertConfig:
    """The configuration of a checkpoint directory.

    Raises:
        ValueError: names the file and what is wrong with it.
    """
    path = Path(directory)
    if not path.is_dir():
        raise ValueError(f"{path}: no such directory; give one that holds a {CONFIG_FILE}")
    for name in (CONFIG_FILE, google.CONFIG_FILE):
        if (path / name).is_file():
            return BertConfig.from_hf(path / name)
    refuse_mistaken(path)
    raise ValueError(
        f"{path / CONFIG_FILE}: not found, nor {google.CONFIG_FILE}; "
        "is this a BERT checkpoint directory?"
    )


def load_encoder(directory: str | Path) -> BertModel:
    """The encoder of a checkpoint, with its pooler if it has one.

    Raises:
        ValueError: names the file and the tensor that is missing or has another shape.
    """
    path = Path(directory)
    return _encoder(load_config(path), *read_tensors(path))


def load_pretraining(directory: str | Path) -> BertForPreTraining:
    """The encoder and both pre-training heads.

    Parts that the checkpoint lacks (pooler, MLM head, NSP head) are drawn afresh, with a warning.

    Raises:
        ValueError: names the file and the tensor that is missing or has another shape.
    """
    path = Path(directory)
    config = load_config(path)
    source, tensors = read_tensors(path)
    model, fresh = _pretraining(config, source, tensors)
    if fresh:
        warnings.warn(f"{source} has no {', '.join(fresh)}: drawn afresh", stacklevel=2)
    return model


def load_whole(directory: str | Path) -> tuple[BertModel | BertForPreTraining, list[str]]:
    """All of a checkpoint that there is a place for, and the names of the tensors left over.

    Both pre-training heads if the checkpoint has them and the pooler, otherwise the encoder alone.

    Raises:
        ValueError: names the file and the tensor that is missing or has another shape.
    """
    path = Path(directory)
    config = load_config(path)
    source, tensors = read_tensors(path)
    complete = all(any(name.startswith(part) for name in tensors) for part in _HEADS)
    model: BertModel | BertForPreTraining
    if complete:
        model, _ = _pretraining(config, source, tensors)
    else:
        model = _encoder(config, source, tensors)
    return model, sorted(_left_over(model, tensors))


def load_with_rest(directory: str | Path) -> tuple[BertModel, dict[str, Tensor], Path]:
    """The encoder of a checkpoint, and what stands on top of it.

    Returns:
        The encoder, with its pooler if it has one; the tensors of heads of any kind, under
        normalized Hugging Face names; and the file of the weights.

    Raises:
        ValueError: names the file and the tensor that is missing or has another shape.
    """
    path = Path(directory)
    config = load_config(path)
    source, tensors = read_tensors(path)
    model = _encoder(config, source, tensors)
    return model, _left_over(model, tensors), source


def save_pretrained(
    model: BertModel | BertForPreTraining,
    directory: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write `config.json` and `model.safetensors` under Hugging Face's names.

    `transformers.BertForPreTraining.from_pretrained` (or `BertModel`) reads the result. Each file
    is complete or absent: it is written beside its place and renamed.

    Args:
        model: the network.
        directory: where to; made if need be.
        dtype: of the weights in the file; `torch.bfloat16` halves it. Reading makes fp32 of them.
    """
    tensors = {name: tensor.to(dtype) for name, tensor in _saved_tensors(model).items()}
    config = model.config.to_hf()
    if dtype != torch.float32:
        config["torch_dtype"] = str(dtype).removeprefix("torch.")
    if isinstance(model, BertModel):
        config["architectures"] = ["BertModel"]
    _write(Path(directory), config, tensors)


def save_with_head(
    encoder: BertModel,
    head: Mapping[str, Tensor],
    directory: str | Path,
    *,
    settings: Mapping[str, Any],
) -> None:
    """Write an encoder with the head of a task, as `save_pretrained` writes those it knows.

    Args:
        encoder: its own pooler is left out.
        head: tensors under Hugging Face's names; with those of a pooler, if the task reads one.
        directory: where to; made if need be.
        settings: fields of `config.json` that say what the head is (`architectures`, `id2label`).
    """
    saved = _saved_tensors(encoder)
    layers = {name: tensor for name, tensor in saved.items() if not name.startswith(_POOLER)}
    _write(Path(directory), {**encoder.config.to_hf(), **settings}, {**layers, **head})


def read_tensors(directory: Path) -> tuple[Path, dict[str, Tensor]]:
    """All tensors of a checkpoint under normalized Hugging Face names, and the file they are from.

    Raises:
        ValueError: if there is no weights file, or it is damaged; names the file.
    """
    if (directory / WEIGHTS_FILE).is_file():
        source = directory / WEIGHTS_FILE
        raw = _read_safetensors([source])
    elif (directory / INDEX_FILE).is_file():
        source = directory / INDEX_FILE
        raw = _read_safetensors(_shards(source))
    elif (directory / PICKLE_FILE).is_file():
        source = directory / PICKLE_FILE
        raw = _read_pickle(source)
    elif prefix := google.find_prefix(directory):
        source, raw = google.read_tensors(prefix)
    else:
        raise ValueError(
            f"{directory}: holds no weights; expected {WEIGHTS_FILE}, {INDEX_FILE}, {PICKLE_FILE} "
            f"or {google.CHECKPOINT}.index"
        )
    return source, {normalize_hf(name): tensor for name, tensor in raw.items()}


def _read_safetensors(files: Iterable[Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors.update(load_file(file))
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{file}: damaged or truncated safetensors file ({error}); fetch it again"
            ) from None
    return tensors


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{index}: not an index of safetensors shards ({error!r})") from None
    return [index.parent / name for name in names]


def _read_pickle(file: Path) -> dict[str, Tensor]:
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file}: damaged, or more than plain tensors ({reason})") from None
    return {name: value for name, value in tensors.items() if isinstance(value, Tensor)}


def _encoder(config: BertConfig, source: Path, tensors: dict[str, Tensor]) -> BertModel:
    # In fp32, whatever torch has been told to make tensors of.
    model = BertModel(config, pooler="bert.pooler.dense.weight" in tensors).float()
    _fill(model, tensors, prefix="bert.", source=source)
    return model


def _pretraining(
    config: BertConfig, source: Path, tensors: dict[str, Tensor]
) -> tuple[BertForPreTraining, list[str]]:
    """The network and the names of its parts that the checkpoint lacks."""
    _refuse_untied_decoder(tensors, source)
    model = BertForPreTraining(config).float()
    fresh = []
    for part, module in (
        ("bert.pooler.", model.bert.pooler),
        ("mlm.", model.mlm),
        ("nsp.", model.nsp),
    ):
        assert module is not None
        names = [hf for name in module.state_dict() for hf in hf_names(part + name)]
        if any(name in tensors for name in names):
            _fill(module, tensors, prefix=part, source=source)
        else:
            fresh.append(part.rstrip("."))
    _fill(model.bert.embeddings, tensors, prefix="bert.embeddings.", source=source)
    _fill(model.bert.layers, tensors, prefix="bert.layers.", source=source)
    return model, fresh


def _left_over(
    model: BertModel | BertForPreTraining, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of a checkpoint that a model has no place for."""
    placed = {*_saved_tensors(model), *_DERIVED}
    return {name: tensor for name, tensor in tensors.items() if name not in placed}


def _write(path: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path / WEIGHTS_FILE) as temporary:
        save_file(plain, temporary, metadata={"format": "pt"})
    with replacing(path / CONFIG_FILE) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf8")


def _saved_tensors(model: BertModel | BertForPreTraining) -> dict[str, Tensor]:
    """The parameters under Hugging Face's names."""
    prefix = "bert." if isinstance(model, BertModel) else ""
    return to_hf({prefix + name: tensor for name, tensor in model.state_dict().items()})


def _fill(module: nn.Module, tensors: dict[str, Tensor], *, prefix: str, source: Path) -> None:
    """Copy a checkpoint's tensors into a module whose parameters begin with `prefix`."""
    for name, target in module.state_dict().items():
        parts = hf_names(prefix + name)
        shape = (target.shape[0] // len(parts), *target.shape[1:])
        for part in parts:
            if part not in tensors:
                raise ValueError(f"{source}: tensor {part!r} is missing")
            if tuple(tensors[part].shape) != shape:
                raise ValueError(
                    f"{source}: tensor {part!r} has shape {tuple(tensors[part].shape)}, "
                    f"the configuration asks for {shape}"
                )
        target.copy_(torch.cat([tensors[part] for part in parts]))


def _refuse_untied_decoder(tensors: dict[str, Tensor], source: Path) -> None:
    decoder = tensors.get("cls.predictions.decoder.weight")
    embeddings = tensors.get("bert.embeddings.word_embeddings.weight")
    if decoder is not None and embeddings is not None and not torch.equal(decoder, embeddings):
        raise ValueError(
            f"{source}: cls.predictions.decoder.weight differs from the word embeddings; "
            "an untied MLM decoder is not supported"
        )
