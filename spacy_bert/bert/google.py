"""Google's checkpoints of BERT: their files, and their names of the tensors.

A directory such as `uncased_L-12_H-768_A-12` holds `bert_config.json`, `vocab.txt` and a
TensorFlow checkpoint, `bert_model.ckpt.index` and `.data-00000-of-00001`. Training leaves
`model.ckpt-1000.index` and so on, with a file `checkpoint` that names the last one.

Source: github.com/google-research/bert.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from spacy_bert.bert.tensor_bundle import TensorBundle

CONFIG_FILE = "bert_config.json"
CHECKPOINT = "bert_model.ckpt"
STATE_FILE = "checkpoint"

_EMBEDDINGS = "bert/embeddings/word_embeddings"
_LEAVES = {
    "kernel": "weight",
    "word_embeddings": "word_embeddings.weight",
    "position_embeddings": "position_embeddings.weight",
    "token_type_embeddings": "token_type_embeddings.weight",
    "output_weights": "weight",
    "output_bias": "bias",
}


def find_prefix(directory: Path) -> Path | None:
    """The checkpoint in a directory, as the path before `.index`; None if there is none.

    It is `bert_model.ckpt`, or the one that the file `checkpoint` names, or the only one.

    Raises:
        ValueError: if there are several and nothing says which.
    """
    found = {file.name.removesuffix(".index") for file in directory.glob("*.index")}
    if CHECKPOINT in found:
        return directory / CHECKPOINT
    state = directory / STATE_FILE
    if state.is_file():
        text = state.read_text(encoding="utf8", errors="replace")
        named = re.search(r'^model_checkpoint_path: *"(.+)"', text, re.MULTILINE)
        # The path may be of the machine that wrote it.
        if named and (name := re.split(r"[/\\]", named[1])[-1]) in found:
            return directory / name
    if len(found) > 1:
        raise ValueError(
            f"{directory}: holds several TensorFlow checkpoints ({', '.join(sorted(found))}); name "
            f'one in a file {STATE_FILE!r} as model_checkpoint_path: "{min(found)}"'
        )
    return directory / found.pop() if found else None


def read_tensors(prefix: Path) -> tuple[Path, dict[str, Tensor]]:
    """The weights of a checkpoint under Hugging Face's names, and the file they are from.

    Kernels are transposed: Google multiplies by (in, out), torch by (out, in). Counters and the
    optimizer's moments are left out. The tensors are views of the file.

    Raises:
        ValueError: if the checkpoint is damaged or no BERT; names the file.
    """
    bundle = TensorBundle(prefix)
    if _EMBEDDINGS not in bundle:
        newer = "_CHECKPOINTABLE_OBJECT_GRAPH" in bundle
        raise ValueError(
            f"{bundle.index}: has no tensor {_EMBEDDINGS!r}; "
            + ("an object checkpoint of TensorFlow 2 is not read, " if newer else "")
            + "take one in the form of github.com/google-research/bert"
        )
    tensors = {}
    for name, info in bundle.info.items():
        weights = info.dtype is not None and info.dtype.is_floating_point and info.shape
        # A slot of the optimizer is named after its variable: .../kernel/adam_m
        is_slot = name.rpartition("/")[0] in bundle
        if weights and not is_slot:
            tensor = bundle[name]
            transposed = name.endswith("/kernel") and tensor.ndim == 2
            tensors[hf_name(name)] = tensor.T if transposed else tensor
    return bundle.index, tensors


def hf_name(name: str) -> str:
    """Hugging Face's name of one of Google's variables; LayerNorm keeps `gamma` and `beta`."""
    path, slash, leaf = name.rpartition("/")
    if not slash:
        return name
    path = re.sub(r"\blayer_(\d+)", r"layer.\1", path)
    return f"{path}/{_LEAVES.get(leaf, leaf)}".replace("/", ".")
