"""Passes of the network that keep everything: states of all layers, attention of all heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spacy_bert.bert import BertModel, EncoderOutput, PackedBatch
from spacy_bert.models.batch import Chunks
from spacy_bert.models.encoder import EncoderShim
from spacy_bert.models.layout import DocLayout

# Pieces, and attention scores of a head, that are computed at once: what is kept of them is
# layers + 1 vectors a piece, and layers x heads weights a score.
PIECES, SCORES = 4096, 2**18

Pass = Callable[[BertModel, PackedBatch, np.ndarray], EncoderOutput]


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What was seen of one Doc.

    Attributes:
        hidden: (layers + 1, pieces, hidden size), all windows end to end; 0 is the embeddings.
        attention: Of each window, (layers, heads, length, length); zeros for pruned heads. None if
            it was not asked for.
    """

    hidden: Tensor
    attention: list[Tensor] | None


def look(
    shim: EncoderShim,
    layouts: Sequence[DocLayout],
    *,
    attention: bool,
    run: Pass | None = None,
) -> list[Seen]:
    """Run the network over the windows of Docs and keep what is inside.

    Args:
        shim: The encoder.
        layouts: Of the Docs.
        attention: Whether attention weights are wanted.
        run: Instead of the plain pass: takes the network, some windows, and which of all windows
            they are; must give hidden states, and attentions if wanted.
    """
    chunks = Chunks.build(
        layouts,
        max_pieces=PIECES,
        max_scores=SCORES if attention else None,
        device=shim.device,
    )
    windows = sum(len(layout.lengths) for layout in layouts)
    hidden: list[Tensor | None] = [None] * windows
    weights: list[Tensor | None] = [None] * windows
    with shim.predicting() as network:
        for batch, numbers in zip(chunks.batches, chunks.windows, strict=True):
            if run is None:
                output = network(batch, output_hidden_states=True, output_attentions=attention)
            else:
                output = run(network, batch, numbers)
            states = torch.stack(output.hidden_states).float().cpu()
            for number, rows in zip(numbers, states.split(batch.lengths, dim=1), strict=True):
                hidden[number] = rows
            if attention:
                for place, number in enumerate(numbers):
                    weights[number] = _all_heads(network, output.attentions, place)
    seen, first = [], 0
    for layout in layouts:
        own = slice(first, first + len(layout.lengths))
        first = own.stop
        rows = [part for part in hidden[own] if part is not None]
        maps = [part for part in weights[own] if part is not None]
        seen.append(Seen(hidden=torch.cat(rows, dim=1), attention=maps if attention else None))
    return seen


def _all_heads(
    network: BertModel, attentions: tuple[tuple[Tensor, ...], ...] | None, place: int
) -> Tensor:
    """The maps of a sequence, (layers, heads, length, length), pruned heads as zeros."""
    assert attentions is not None
    maps = [layer[place].float().cpu() for layer in attentions]
    config = network.config
    if not config.pruned_heads:
        return torch.stack(maps)
    length = maps[0].shape[-1]
    full = torch.zeros(len(maps), config.num_attention_heads, length, length)
    for layer, own in enumerate(maps):
        full[layer, config.kept_heads(layer)] = own
    return full
