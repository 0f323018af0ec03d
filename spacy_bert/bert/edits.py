"""Edits: what an analysis changes inside the network on its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from torch import Tensor

# Attention weights of sequences of one length, (sequences, heads, length, length), and which
# sequences of the batch they are of, (sequences,) -> other weights of the same shape.
AttentionEdit: TypeAlias = Callable[[Tensor, np.ndarray], Tensor]
# Vectors of all pieces of the batch, (total, hidden size) -> others.
StatesEdit: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Edits:
    """Changes by layer.

    Attributes:
        attention: of the attention weights, by layer from 0.
        states: of the vectors; 0 is the embeddings, n the output of the n-th layer.
    """

    attention: Mapping[int, AttentionEdit] = field(default_factory=dict)
    states: Mapping[int, StatesEdit] = field(default_factory=dict)
