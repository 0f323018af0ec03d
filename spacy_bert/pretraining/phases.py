"""Parts of a run: short sequences first, long ones at the end (Devlin et al. 2018, appendix A.2).

The paper trains 90 % of its steps at length 128 and the rest at 512, because attention makes long
sequences dear and positions are all that remains to be learned there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy_bert.pretraining.config import DataSettings, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class PhaseSettings:
    """Section `[phases]`: lists of equal length, an item a phase. Empty: one phase.

    Attributes:
        shares: Share of the steps of each phase; they add up to 1.
        sequence_length: Length in each phase, instead of that in `[data]`.
        batches_per_step: Batches an update in each phase, instead of that in `[training]`.
    """

    shares: list[float] = field(default_factory=list)
    sequence_length: list[int] = field(default_factory=list)
    batches_per_step: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse lists that do not fit each other.

        Raises:
            ValueError: Names the field.
        """
        for name in ("sequence_length", "batches_per_step"):
            values = getattr(self, name)
            if values and len(values) != len(self.shares):
                raise ValueError(
                    f"{name} has {len(values)} items, shares has {len(self.shares)}: "
                    "give one for each phase"
                )
            if any(value < 1 for value in values):
                raise ValueError(f"{name} must be at least 1 in each phase, got {values}")
        if any(share <= 0.0 for share in self.shares):
            raise ValueError(f"shares must be greater than 0, got {self.shares}")
        if self.shares and abs(sum(self.shares) - 1.0) > 1e-6:
            raise ValueError(f"shares must add up to 1, got {self.shares}")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the run.

    Attributes:
        last_step: Its last step, counted from 1 over the whole run.
        data: Where batches come from, and their shape.
        batches_per_step: Batches an update.
    """

    last_step: int
    data: DataSettings
    batches_per_step: int


def plan_phases(
    settings: PhaseSettings, data: DataSettings, training: TrainingSettings
) -> tuple[Phase, ...]:
    """The phases of a run, in order; together they have all its steps.

    Raises:
        ValueError: If a phase has no step, or its sequences do not fit into a batch.
    """
    if not settings.shares:
        whole = Phase(
            last_step=training.steps, data=data, batches_per_step=training.batches_per_step
        )
        return (whole,)
    phases: list[Phase] = []
    done = 0.0
    for number, share in enumerate(settings.shares):
        done += share
        length = (settings.sequence_length or [data.sequence_length] * (number + 1))[number]
        batches = (settings.batches_per_step or [training.batches_per_step] * (number + 1))[number]
        phase = Phase(
            last_step=round(done * training.steps),
            data=replace(data, sequence_length=length),
            batches_per_step=batches,
        )
        if phase.last_step <= (phases[-1].last_step if phases else 0):
            raise ValueError(f"phase {number + 1} of {settings.shares} has no step")
        phases.append(phase)
    return tuple(phases)
