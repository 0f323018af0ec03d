"""Weights that have changed are noticed, however they have."""

from __future__ import annotations

import torch
from torch import nn

from spacy_bert.models.changes import Changes


def test_every_kind_of_change() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    changes = Changes()
    assert changes.seen(first)
    assert not changes.seen(first)
    with torch.no_grad():
        first.weight.add_(1.0)
    assert changes.seen(first)
    assert not changes.seen(first)
    first.load_state_dict(second.state_dict())
    assert changes.seen(first)
    first.bias = nn.Parameter(torch.zeros(2))
    assert changes.seen(first)
    assert not changes.seen(first)
    assert changes.seen(second)
    assert not changes.seen(second)
    assert changes.seen(first)


def test_what_was_replaced_may_live_elsewhere() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    held = list(network.parameters())  # as an optimizer does
    changes = Changes()
    assert changes.seen(network)
    network[0].weight = nn.Parameter(torch.zeros(2, 3))
    assert changes.seen(network)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    assert changes.seen(network)
    network[1].bias.data = torch.ones(2)
    assert changes.seen(network)
    network[1] = nn.Linear(2, 2)
    assert changes.seen(network)
    assert not changes.seen(network)
    assert len(held) == 4
