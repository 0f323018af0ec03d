"""Short sequences first, long ones last."""

from __future__ import annotations

import dataclasses

import pytest

from spacy_bert.pretraining.config import DataSettings, TrainingSettings
from spacy_bert.pretraining.phases import PhaseSettings, plan_phases

DATA = DataSettings(shards="s", tokenizer="t", sequence_length=64, batch_pieces=1024)


def test_without_phases_there_is_one():
    (phase,) = plan_phases(PhaseSettings(), DATA, TrainingSettings(steps=7, batches_per_step=3))
    assert (phase.last_step, phase.data, phase.batches_per_step) == (7, DATA, 3)


def test_the_phases_of_the_paper():
    settings = PhaseSettings(shares=[0.9, 0.1], sequence_length=[128, 512], batches_per_step=[1, 4])
    short, long = plan_phases(settings, DATA, TrainingSettings(steps=1001))
    assert (short.last_step, long.last_step) == (901, 1001)
    assert (short.data.sequence_length, long.data.sequence_length) == (128, 512)
    assert (short.batches_per_step, long.batches_per_step) == (1, 4)
    assert long.data.batch_pieces == 1024


def test_what_a_phase_leaves_open_is_as_elsewhere():
    phases = plan_phases(PhaseSettings(shares=[0.5, 0.5]), DATA, TrainingSettings(steps=10))
    assert [phase.data.sequence_length for phase in phases] == [64, 64]


def test_longer_phases_know_what_was_trained():
    settings = PhaseSettings(shares=[0.2] * 5, sequence_length=[32, 16, 64, 64, 128])
    phases = plan_phases(settings, DATA, TrainingSettings(steps=10))
    assert [phase.known_positions for phase in phases] == [0, 0, 32, 0, 64]
    assert [phase.steps_before for phase in phases] == [0, 2, 4, 6, 8]
    off = plan_phases(
        dataclasses.replace(settings, repeat_positions=False), DATA, TrainingSettings(steps=10)
    )
    assert not any(phase.known_positions for phase in off)
    (only,) = plan_phases(PhaseSettings(known_positions=32), DATA, TrainingSettings(steps=10))
    assert (only.known_positions, only.steps_before) == (32, 0)
    (enough,) = plan_phases(PhaseSettings(known_positions=64), DATA, TrainingSettings(steps=10))
    assert enough.known_positions == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shares": [0.5, 0.6]}, "shares must add up to 1"),
        ({"shares": [1.5, -0.5]}, "shares must be greater than 0"),
        ({"shares": [1.0], "sequence_length": [8, 9]}, "sequence_length has 2 items, shares has 1"),
        ({"shares": [1.0], "batches_per_step": [0]}, "batches_per_step must be at least 1"),
        ({"known_positions": 1}, "known_positions must be at least 2, or 0 for all, got 1"),
    ],
)
def test_lists_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PhaseSettings(**fields)


def test_a_phase_without_steps_or_with_long_sequences_is_refused():
    with pytest.raises(ValueError, match=r"phase 2 .* has no step"):
        plan_phases(PhaseSettings(shares=[0.9, 0.1]), DATA, TrainingSettings(steps=3))
    with pytest.raises(ValueError, match="batch_pieces must be at least twice"):
        plan_phases(
            PhaseSettings(shares=[1.0], sequence_length=[600]), DATA, TrainingSettings(steps=3)
        )
