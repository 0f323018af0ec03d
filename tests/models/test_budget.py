"""Budgets: memory is bounded, and what fits is not computed twice."""

from __future__ import annotations

import torch

from spacy_bert.bert import BertConfig
from spacy_bert.models.budget import (
    SCORES_PER_PIECE,
    TRAINING_BYTES,
    pieces_at_once,
    training_budget,
)


def test_a_batch_that_fits_is_not_computed_twice() -> None:
    cpu, base = torch.device("cpu"), BertConfig.preset("base")
    for name in ("tiny", "mini", "base", "large"):
        config = BertConfig.preset(name)
        budget = training_budget(config, cpu, None)
        assert budget.pieces >= pieces_at_once(cpu, None)
        kept = 4 * config.num_hidden_layers * 20 * config.hidden_size * budget.pieces
        assert kept <= TRAINING_BYTES or budget.pieces == pieces_at_once(cpu, None)
    assert training_budget(BertConfig.preset("mini"), cpu, None).pieces > 7_000
    # What the user says holds, for both.
    given = training_budget(base, cpu, 70)
    assert (given.pieces, given.scores) == (70, 70 * SCORES_PER_PIECE)
    assert training_budget(base, torch.device("cuda:0"), None).scores is None
