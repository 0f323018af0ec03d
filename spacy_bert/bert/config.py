"""The shape of a BERT network, as Hugging Face's `config.json` states it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

# Devlin et al. 2018, section 3, and the compact models of Turc et al. 2019:
# (layers, hidden size, heads). The feed-forward size is always 4 x hidden.
PRESETS = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "medium": (8, 512, 8),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Hyper-parameters of the network; field names are those of `config.json`.

    The defaults are BERT base uncased (Devlin et al. 2018, section 3). `is_decoder` makes attention
    causal: a piece sees itself and those before it (the left-to-right model of section 5.1).
    `pruned_heads` maps a layer, from 0, to the heads that were cut out of it; `num_attention_heads`
    counts them still.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    is_decoder: bool = False
    pruned_heads: Mapping[int, Iterable[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse shapes that cannot be built.

        Raises:
            ValueError: names the field and what it may be.
        """
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if each.type == "int" and (not isinstance(value, int) or isinstance(value, bool)):
                raise ValueError(f"BertConfig.{each.name} must be an integer, got {value!r}")
            if each.type == "bool" and not isinstance(value, bool):
                raise ValueError(f"BertConfig.{each.name} must be true or false, got {value!r}")
            if each.type == "float" and not isinstance(value, (int, float)):
                raise ValueError(f"BertConfig.{each.name} must be a number, got {value!r}")
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"BertConfig.{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"BertConfig.hidden_size ({self.hidden_size}) must be a multiple of "
                f"num_attention_heads ({self.num_attention_heads})"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(
                f"BertConfig.hidden_act must be one of {', '.join(ACTIVATIONS)}, "
                f"got {self.hidden_act!r}"
            )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"BertConfig.{name} must be in [0, 1), got {getattr(self, name)}")
        object.__setattr__(self, "pruned_heads", self._checked_pruned_heads())

    def _checked_pruned_heads(self) -> dict[int, list[int]]:
        """Layers and heads as sorted numbers; JSON has the layers as strings.

        Raises:
            ValueError: if there is no such layer or head.
        """
        if not isinstance(self.pruned_heads, Mapping):
            raise ValueError(
                "BertConfig.pruned_heads must map layers to lists of heads, "
                f"got {self.pruned_heads!r}"
            )
        pruned = {int(layer): sorted(set(heads)) for layer, heads in self.pruned_heads.items()}
        for layer, heads in pruned.items():
            if not 0 <= layer < self.num_hidden_layers:
                raise ValueError(
                    f"BertConfig.pruned_heads names layer {layer}, the network has layers 0 to "
                    f"{self.num_hidden_layers - 1}"
                )
            if wrong := [head for head in heads if not 0 <= head < self.num_attention_heads]:
                raise ValueError(
                    f"BertConfig.pruned_heads names head {wrong[0]} of layer {layer}, which has "
                    f"heads 0 to {self.num_attention_heads - 1}"
                )
        return {layer: pruned[layer] for layer in sorted(pruned) if pruned[layer]}

    def kept_heads(self, layer: int) -> list[int]:
        """The heads of a layer that are not pruned, by their numbers before pruning."""
        pruned = set(self.pruned_heads.get(layer, ()))
        return [head for head in range(self.num_attention_heads) if head not in pruned]

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> BertConfig:
        """A published size by name ("tiny" ... "large"), with fields overridden at will.

        Raises:
            ValueError: if there is no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"Unknown BERT preset {name!r}: choose one of {', '.join(PRESETS)}")
        layers, hidden, heads = PRESETS[name]
        fields: dict[str, Any] = {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "intermediate_size": 4 * hidden,
        }
        return cls.from_dict({**fields, **overrides})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BertConfig:
        """Build from the fields given, all of which must be known ones.

        `{"preset": "tiny", ...}` starts from a preset.

        Raises:
            ValueError: names the unknown field.
        """
        values = dict(values)
        preset = values.pop("preset", None)
        if preset is not None:
            return cls.preset(preset, **values)
        known = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise ValueError(
                    f"BertConfig has no field {name!r}: the fields are {', '.join(sorted(known))}"
                )
        return cls(**values)

    @classmethod
    def from_hf(cls, path: Path) -> BertConfig:
        """Read a Hugging Face `config.json`; fields that do not shape the network are ignored.

        Raises:
            ValueError: if the file is no BERT configuration; names the file and the field.
        """
        try:
            values = json.loads(path.read_text(encoding="utf8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read as a JSON configuration ({error})") from None
        if not isinstance(values, dict):
            raise ValueError(f"{path}: should hold a JSON object, holds a {type(values).__name__}")
        model_type = values.get("model_type", "bert")
        if model_type != "bert":
            raise ValueError(f'{path}: model_type is {model_type!r}, only "bert" is supported')
        position_type = values.get("position_embedding_type", "absolute")
        if position_type != "absolute":
            raise ValueError(
                f"{path}: position_embedding_type is {position_type!r}, "
                'only "absolute" is supported'
            )
        known = {field.name for field in dataclasses.fields(cls)}
        try:
            return cls(**{name: value for name, value in values.items() if name in known})
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dictionary; `from_dict` takes it back."""
        pruned = {str(layer): list(heads) for layer, heads in self.pruned_heads.items()}
        return {**dataclasses.asdict(self), "pruned_heads": pruned}

    def to_hf(self) -> dict[str, Any]:
        """The content of a `config.json` that `transformers` reads."""
        return {
            "architectures": ["BertForPreTraining"],
            "model_type": "bert",
            "position_embedding_type": "absolute",
            **self.to_dict(),
        }
