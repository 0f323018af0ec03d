"""The pre-training config: a file in spaCy's style, read with confection and checked.

Sections: `[paths]` (free, to be named as `${paths.x}`), `[model]` (fields of `BertConfig`, or
`preset`; or `checkpoint`, to go on from one), `[data]`, `[masking]`, `[training]`, `[phases]`
and `[tracking]`. A field left out has the paper's value.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from configparser import Error as ConfigParserError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from confection import Config

from spacy_bert.bert import BertConfig, load_config
from spacy_bert.pretraining.batches import OBJECTIVES, BatchSettings, Objective
from spacy_bert.pretraining.masking import Masking
from spacy_bert.pretraining.phases import Phase, PhaseSettings, plan_phases
from spacy_bert.pretraining.tracking import TrackingSettings

SECTIONS = ("paths", "model", "data", "masking", "training", "phases", "tracking")
PRECISIONS = ("auto", "fp32", "bf16")
SEEDS = 2**63  # how many torch has
_TYPE_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    Path: "a path",
}
# Fields of [model] that may stand beside `checkpoint`: they do not shape the weights.
_FREE_MODEL_FIELDS = ("hidden_dropout_prob", "attention_probs_dropout_prob")

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
        objective: `mlm+nsp` (the paper), `mlm` (without next sentence prediction) or `ltr`
            (left-to-right language model with causal attention): table 5 of the paper.
        seed: Decides initial weights, order, pairs, masks and dropout.
        device: `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:1`.
        threads: CPU threads of torch; 0 leaves the choice to torch. Several threads of a tiny
            network gain little, and lose much beside another busy process.
        workers: Processes that make batches ahead of the device; -1: 2 for a GPU, none for a CPU.
        precision: `bf16` (autocast; weights and optimizer stay fp32), `fp32`, or `auto`: bf16 on
            CUDA, fp32 on a CPU.
        compile: Compile the layers with torch.compile, on CUDA.
        batches_per_step: Batches whose gradients are averaged for one update, over all processes.
        learning_rate: Its peak, reached after the warm-up; then it falls linearly to 0.
        warmup_share: Share of the steps in which the learning rate rises (10,000 of 1,000,000).
        weight_decay: Decoupled decay, not applied to biases and LayerNorm.
        beta1: Adam's decay of the gradients' mean.
        beta2: Adam's decay of the gradients' square.
        epsilon: Adam's summand in the denominator.
        bias_correction: Whether Adam corrects the bias of its means; the reference code does not.
        max_gradient_norm: Global norm to which gradients are clipped.
        log_every: Steps between lines of the log.
        evaluate_every: Steps between evaluations, each followed by a checkpoint.
        evaluate_pieces: How much of the dev split is scored, at most.
        save_every: Steps between further checkpoints; 0: none but those.
        keep_checkpoints: How many checkpoints are kept, the newest ones.
        peak_tflops: What the device can do, for the share of it that is used; 0: known for some
            GPUs.
    """

    steps: int
    objective: str = "mlm+nsp"
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    workers: int = -1
    precision: str = "auto"
    compile: bool = True
    batches_per_step: int = 1
    learning_rate: float = 1e-4
    warmup_share: float = 0.01
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    bias_correction: bool = False
    max_gradient_norm: float = 1.0
    log_every: int = 50
    evaluate_every: int = 1000
    evaluate_pieces: int = 200_000
    save_every: int = 0
    keep_checkpoints: int = 1
    peak_tflops: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ValueError: Names the field.
        """
        for name, choices in (("objective", OBJECTIVES), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        for name in (
            *("steps", "batches_per_step", "log_every"),
            *("evaluate_every", "evaluate_pieces", "keep_checkpoints"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "epsilon", "max_gradient_norm"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")
        for name in ("warmup_share", "beta1", "beta2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("seed", "threads", "weight_decay", "save_every", "peak_tflops"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.seed >= SEEDS:
            raise ValueError(f"seed must be below 2 to the power of 63, got {self.seed}")
        if self.workers < -1:
            raise ValueError(f"workers must be -1 or more, got {self.workers}")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A whole config.

    Attributes:
        model: The network, but for `vocab_size`, which the tokenizer decides.
        checkpoint: Directory of the weights to go on from, or None to begin anew.
        data: Section `[data]`.
        masking: Section `[masking]`.
        training: Section `[training]`.
        phasing: Section `[phases]`.
        tracking: Section `[tracking]`.
        text: The config as a file, with overrides and with the defaults of what it leaves out (of
            [model], these stand in the model's own `config.json`).
    """

    model: BertConfig
    checkpoint: Path | None
    data: DataSettings
    masking: Masking
    training: TrainingSettings
    phasing: PhaseSettings
    tracking: TrackingSettings
    text: str

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Parts of the run with their sequence lengths, in order."""
        return plan_phases(self.phasing, self.data, self.training)

    @property
    def objective(self) -> Objective:
        """What is trained."""
        return cast(Objective, self.training.objective)

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
        text = path.read_text(encoding="utf8")
        # confection overrides fields of sections that are there, and no others.
        for name in sorted({name.partition(".")[0] for name in overrides or {}}):
            if not re.search(rf"^\[{re.escape(name)}\]", text, re.MULTILINE):
                text += f"\n[{name}]\n"
        try:
            raw = Config().from_str(text, overrides=dict(overrides or {}))
            return cls._from_sections(raw)
        except (ValueError, ConfigParserError) as error:
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from None

    @classmethod
    def _from_sections(cls, raw: Config) -> PretrainConfig:
        for name in raw:
            if name not in SECTIONS:
                raise ValueError(f"[{name}] is no known section; there are {', '.join(SECTIONS)}")
        data = _section(raw, "data", DataSettings)
        training = _section(raw, "training", TrainingSettings)
        phasing = _section(raw, "phases", PhaseSettings)
        phases = plan_phases(phasing, data, training)
        model, checkpoint = _model(raw)
        # Also of a checkpoint: to begin left to right and go on with masks is a way to train.
        model = dataclasses.replace(model, is_decoder=training.objective == "ltr")
        longest = max(phase.data.sequence_length for phase in phases)
        if longest > model.max_position_embeddings:
            raise ValueError(
                f"[data] sequence_length {longest} is more than [model] "
                f"max_position_embeddings {model.max_position_embeddings}"
            )
        masking = _section(raw, "masking", Masking)
        tracking = _section(raw, "tracking", TrackingSettings)
        settings = {
            "data": data,
            "masking": masking,
            "training": training,
            "phases": phasing,
            "tracking": tracking,
        }
        return cls(
            model=model,
            checkpoint=checkpoint,
            data=data,
            masking=masking,
            training=training,
            phasing=phasing,
            tracking=tracking,
            text=_fill(raw, settings).to_str(),
        )

    def decisive(self) -> dict[str, Any]:
        """The settings that decide the weights: a run is resumed with the same ones."""
        free = {
            *("device", "threads", "workers", "compile", "log_every", "evaluate_every"),
            *("save_every", "keep_checkpoints", "peak_tflops", "evaluate_pieces"),
        }
        sections = {
            "model": self.model.to_dict(),
            "data": dataclasses.asdict(self.data),
            "masking": dataclasses.asdict(self.masking),
            "training": dataclasses.asdict(self.training),
        }
        values = {
            f"[{section}] {field}": value
            for section, fields in sections.items()
            for field, value in fields.items()
            if field not in free and not isinstance(value, Path)
        }
        phases = [
            [
                phase.last_step,
                phase.data.sequence_length,
                phase.batches_per_step,
                phase.known_positions,
            ]
            for phase in self.phases
        ]
        return {**values, "[phases]": phases}


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
            raise ValueError(
                f"{argument!r} is no option (see --help); fields of the config are written "
                "--section.field VALUE"
            )
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
        required = (definition.default, definition.default_factory) == 2 * (dataclasses.MISSING,)
        if field not in values and required:
            raise ValueError(f"[{name}] {field} is missing; it must be {_TYPE_NAMES[types[field]]}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"[{name}] {error}") from None


def _fill(raw: Config, settings: Mapping[str, Any]) -> Config:
    """The config with every field of its sections."""
    filled = Config(raw)
    for name, section in settings.items():
        fields = dataclasses.asdict(section)
        filled[name] = {
            field: str(value) if isinstance(value, Path) else value
            for field, value in fields.items()
        }
    return filled


def _typed(value: Any, kind: Any, where: str) -> Any:
    if kind == list[int] or kind == list[float]:
        item = int if kind == list[int] else float
        if not isinstance(value, list):
            raise ValueError(f"{where} must be a list, got {value!r}")
        return [_typed(one, item, where) for one in value]
    if kind is bool and isinstance(value, bool):
        return value
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{where} must be one of {', '.join(get_args(kind))}, got {value!r}")
        return value
    accepted = {float: (int, float), Path: (str,)}.get(kind, (kind,))
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise ValueError(f"{where} must be {_TYPE_NAMES[kind]}, got {value!r}")
    return kind(value)


def _model(raw: Mapping[str, Any]) -> tuple[BertConfig, Path | None]:
    """The network, and the checkpoint to go on from, if there is one."""
    values = dict(raw.get("model", {}))
    if "vocab_size" in values:
        raise ValueError("[model] vocab_size is decided by the tokenizer; leave it out")
    if "is_decoder" in values:
        raise ValueError("[model] is_decoder is decided by [training] objective; leave it out")
    checkpoint = values.pop("checkpoint", None)
    try:
        if checkpoint is None:
            return BertConfig.from_dict(values), None
        path: Path = _typed(checkpoint, Path, "checkpoint")
        for name in values:
            if name not in _FREE_MODEL_FIELDS:
                raise ValueError(
                    f"{name} is decided by the checkpoint; beside it there may stand "
                    f"{' and '.join(_FREE_MODEL_FIELDS)}"
                )
        return dataclasses.replace(load_config(path), **values), path
    except ValueError as error:
        raise ValueError(f"[model] {error}") from None
