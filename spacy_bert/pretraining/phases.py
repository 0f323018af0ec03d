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
        repeat_positions: Where a phase has longer sequences than those before, let its new
            positions begin with the embeddings of the known ones, over and over, instead of with
            what they were drawn as. The paper does not; its last phase has 100,000 steps to learn
            them.
        known_positions: Positions that the checkpoint of `[model]` has trained, as if phases before
            it had; 0 for all.
    """

    shares: list[float] = field(default_factory=list)
    sequence_length: list[int] = field(default_factory=list)
    batches_per_step: list[int] = field(default_factory=list)
    repeat_positions: bool = True
    known_positions: int = 0

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
        if self.known_positions < 0 or self.known_positions == 1:  # [CLS] is no model for others
            raise ValueError(
                f"known_positions must be at least 2, or 0 for all, got {self.known_positions}"
            )
        if any(share <= 0.0 for share in self.shares):
            raise ValueError(f"shares must be greater than 0, got {self.shares}")
        if self.shares and abs(sum(self.shares) - 1.0) > 1e-6:
            raise ValueError(f"shares must add up to 1, got {self.shares}")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the run.

    Attributes:
        last_step: Its last step, counted from 1 over the whole run.
        steps_before: Steps of the phases before it.
        known_positions: Positions that the phases before it have trained, if its sequences are
            longer and the others are to begin as these are; else 0.
        data: Where batches come from, and their shape.
        batches_per_step: Batches an update.
    """

    last_step: int
    data: DataSettings
    batches_per_step: int
    steps_before: int = 0
    known_positions: int = 0


def plan_phases(
    settings: PhaseSettings, data: DataSettings, training: TrainingSettings
) -> tuple[Phase, ...]:
    """The phases of a run, in order; together they have all its steps.

    Raises:
        ValueError: If a phase has no step, or its sequences do not fit into a batch.
    """
    shares = settings.shares or [1.0]
    phases: list[Phase] = []
    done, longest = 0.0, settings.known_positions
    for number, share in enumerate(shares):
        done += share
        length = (settings.sequence_length or [data.sequence_length] * (number + 1))[number]
        batches = (settings.batches_per_step or [training.batches_per_step] * (number + 1))[number]
        phase = Phase(
            last_step=round(done * training.steps),
            data=replace(data, sequence_length=length),
            batches_per_step=batches,
            steps_before=phases[-1].last_step if phases else 0,
            known_positions=longest if settings.repeat_positions and length > longest else 0,
        )
        longest = max(longest, length)
        if phase.last_step <= (phases[-1].last_step if phases else 0):
            raise ValueError(f"phase {number + 1} of {shares} has no step")
        phases.append(phase)
    return tuple(phases)
