"""Interventions: what an analysis changes in how an encoder reads Docs, while it looks on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import Tensor

from spacy_bert.bert import BertModel, PackedBatch
from spacy_bert.models.layout import DocLayout

Layouts: TypeAlias = "Sequence[DocLayout | None]"
# The network, some windows, and which of all windows of the Docs they are, (windows,) int64
# -> last hidden states, (total, hidden size).
Run: TypeAlias = Callable[[BertModel, PackedBatch, np.ndarray], Tensor]


def _as_they_are(layouts: Layouts) -> list[DocLayout | None]:
    return list(layouts)


def _plainly(network: BertModel, batch: PackedBatch, windows: np.ndarray) -> Tensor:
    hidden: Tensor = network(batch).last_hidden_state
    return hidden


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervention:
    """Under `shim.intervening(...)` a pipeline's predictions follow these; training does not.

    Attributes:
        read: from what the network would read of each Doc to what it is to read.
        run: the network's pass.
    """

    read: Callable[[Layouts], list[DocLayout | None]] = _as_they_are
    run: Run = _plainly
