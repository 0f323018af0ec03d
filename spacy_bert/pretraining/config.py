"""The pre-training config: a file in spaCy's style, read with confection and checked.

Sections: `[paths]` (free, to be named as `${paths.x}`), `[model]` (fields of `BertConfig`, or
`preset`), `[data]`, `[masking]` and `[training]`. A field left out has the paper's value.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from configparser import Error as ConfigParserError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from confection import Config

from spacy_bert.bert import BertConfig
from spacy_bert.pretraining.batches import BatchSettings
from spacy_bert.pretraining.masking import Masking

SECTIONS = ("paths", "model", "data", "masking", "training")
_TYPE_NAMES = {int: "an integer", float: "a number", str: "a string", Path: "a path"}

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class DataSettings(BatchSettings):
    """Section `[data]`: where batches come from, and their shape.

    Attributes:
        shards: Directory that `prepare` wrote.
        tokenizer: Directory (or file) of the tokenizer the shards were made with.
    """

    shards: Path
    tokenizer: Path


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Section `[training]`: the loop; defaults are those of Devlin et al. 2018, appendix A.2.

    Attributes:
        steps: Number of updates.
        seed: Decides initial weights, order, pairs, masks and dropout.
        device: `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:1`.
        threads: CPU threads of torch; 0 leaves the choice to torch. Several threads of a tiny
            network gain little, and lose much beside another busy process.
        learning_rate: Its peak, reached after the warm-up; then it falls linearly to 0.
        warmup_share: Share of the steps in which the learning rate rises (10,000 of 1,000,000).
        weight_decay: Decoupled decay, not applied to biases and LayerNorm.
        beta1: Adam's decay of the gradients' mean.
        beta2: Adam's decay of the gradients' square.
        epsilon: Adam's summand in the denominator.
        max_gradient_norm: Global norm to which gradients are clipped.
        log_every: Steps between lines of the log.
        evaluate_every: Steps between evaluations, each followed by a checkpoint.
    """

    steps: int
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    learning_rate: float = 1e-4
    warmup_share: float = 0.01
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    max_gradient_norm: float = 1.0
    log_every: int = 50
    evaluate_every: int = 1000

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ValueError: Names the field.
        """
        for name in ("steps", "log_every", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "epsilon", "max_gradient_norm"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")
        for name in ("warmup_share", "beta1", "beta2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("seed", "threads", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A whole config.

    Attributes:
        model: The network, but for `vocab_size`, which the tokenizer decides.
        data: Section `[data]`.
        masking: Section `[masking]`.
        training: Section `[training]`.
        text: The config as a file, overrides included, so that a run can be repeated.
    """

    model: BertConfig
    data: DataSettings
    masking: Masking
    training: TrainingSettings
    text: str

    @classmethod
    def load(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> PretrainConfig:
        """Read and check a config file.

        Args:
            path: The file.
            overrides: Values by dotted name, e.g. `{"training.steps": 100}`.

        Raises:
            ValueError: One line that names the file, the section and the field.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"{path}: no such config file")
        try:
            raw = Config().from_str(
                path.read_text(encoding="utf8"), overrides=dict(overrides or {})
            )
            return cls._from_sections(raw)
        except (ValueError, ConfigParserError) as error:
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from None

    @classmethod
    def _from_sections(cls, raw: Config) -> PretrainConfig:
        for name in raw:
            if name not in SECTIONS:
                raise ValueError(f"[{name}] is no known section; there are {', '.join(SECTIONS)}")
        data = _section(raw, "data", DataSettings)
        model = _model(raw)
        if data.sequence_length > model.max_position_embeddings:
            raise ValueError(
                f"[data] sequence_length {data.sequence_length} is more than [model] "
                f"max_position_embeddings {model.max_position_embeddings}"
            )
        return cls(
            model=model,
            data=data,
            masking=_section(raw, "masking", Masking),
            training=_section(raw, "training", TrainingSettings),
            text=raw.to_str(),
        )


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Read `--section.field value` or `--section.field=value` from a command line.

    A value is JSON if it can be read as such, else a string.

    Raises:
        ValueError: Names the argument that has another form.
    """
    overrides: dict[str, Any] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or "." not in name:
            raise ValueError(f"{argument!r} is no override; write --section.field VALUE")
        if not equals:
            following = next(rest, None)
            if following is None:
                raise ValueError(f"{argument} lacks a value; write {argument} VALUE")
            value = following
        try:
            overrides[name] = json.loads(value)
        except ValueError:
            overrides[name] = value
    return overrides


def _section(raw: Mapping[str, Any], name: str, kind: type[Settings]) -> Settings:
    """A section as a dataclass, every field known and of the right type."""
    values = dict(raw.get(name, {}))
    types = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for field, value in values.items():
        if field not in fields:
            raise ValueError(f"[{name}] has no field {field!r}; its fields: {', '.join(fields)}")
        values[field] = _typed(value, types[field], f"[{name}] {field}")
    for field, definition in fields.items():
        if field not in values and definition.default is dataclasses.MISSING:
            raise ValueError(f"[{name}] {field} is missing; it must be {_TYPE_NAMES[types[field]]}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"[{name}] {error}") from None


def _typed(value: Any, kind: type, where: str) -> Any:
    accepted = {float: (int, float), Path: (str,)}.get(kind, (kind,))
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise ValueError(f"{where} must be {_TYPE_NAMES[kind]}, got {value!r}")
    return kind(value)


def _model(raw: Mapping[str, Any]) -> BertConfig:
    values = dict(raw.get("model", {}))
    if "vocab_size" in values:
        raise ValueError("[model] vocab_size is decided by the tokenizer; leave it out")
    try:
        return BertConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"[model] {error}") from None
