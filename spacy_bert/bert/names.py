"""Parameter names: ours and Hugging Face's.

Ours has one fused query-key-value projection where Hugging Face has three.
"""

from __future__ import annotations

import re

from torch import Tensor

_QKV = ("query", "key", "value")

# Our module path -> Hugging Face's, for everything but the fused projection.
_MODULES = {
    "bert.embeddings.piece": "bert.embeddings.word_embeddings",
    "bert.embeddings.position": "bert.embeddings.position_embeddings",
    "bert.embeddings.segment": "bert.embeddings.token_type_embeddings",
    "bert.embeddings.norm": "bert.embeddings.LayerNorm",
    "bert.pooler.dense": "bert.pooler.dense",
    "mlm.dense": "cls.predictions.transform.dense",
    "mlm.norm": "cls.predictions.transform.LayerNorm",
    "mlm": "cls.predictions",
    "nsp.linear": "cls.seq_relationship",
}
_LAYER_MODULES = {
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_LAYER = re.compile(r"bert\.layers\.(\d+)\.(.+)")


def hf_names(name: str) -> tuple[str, ...]:
    """Hugging Face's name of one of our parameters; three for a fused projection."""
    module, _, leaf = name.rpartition(".")
    layer = _LAYER.fullmatch(module)
    if layer is None:
        return (f"{_MODULES[module]}.{leaf}",)
    prefix = f"bert.encoder.layer.{layer[1]}"
    if layer[2] == "attention.qkv":
        return tuple(f"{prefix}.attention.self.{part}.{leaf}" for part in _QKV)
    return (f"{prefix}.{_LAYER_MODULES[layer[2]]}.{leaf}",)


def to_hf(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename our parameters to Hugging Face's, splitting the fused projections."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        names = hf_names(name)
        renamed.update(zip(names, tensor.chunk(len(names)), strict=True))
    return renamed


def normalize_hf(name: str) -> str:
    """Bring the spellings found in the wild to one: `bert.` and `cls.`, weight and bias.

    Old checkpoints say `gamma` and `beta`; bare encoders have no `bert.` prefix; wrappers add
    `module.`.
    """
    name = name.removeprefix("module.")
    name = re.sub(r"\.gamma$", ".weight", name)
    name = re.sub(r"\.beta$", ".bias", name)
    if name.split(".")[0] in ("embeddings", "encoder", "pooler"):
        name = f"bert.{name}"
    if name == "cls.predictions.decoder.bias":
        name = "cls.predictions.bias"
    return name
