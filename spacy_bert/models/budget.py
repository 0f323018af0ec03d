"""How much of a batch the network takes at once, and in which precision it trains.

Prediction is bounded by time: a CPU's caches are full at some 2,000 pieces, and more is slower.
Training is bounded by memory: what does not fit is computed a second time in the backward pass, so
that a batch which fits should not be cut.
"""

from __future__ import annotations

import dataclasses

import torch

from spacy_bert.bert import BertConfig

# A CPU's caches are full by then; a GPU wants work, and has less time than memory.
PIECES_AT_ONCE = {"cpu": 2048, "cuda": 16384}
SCORES_PER_PIECE = 128
# What all layers of a training pass on a CPU keep of the pieces, and as much again of the scores;
# the backward pass and the optimizer need memory of their own beside it.
TRAINING_BYTES = 640 << 20
# What a layer keeps for the backward pass in fp32: some 20 vectors a piece, and of each head the
# probabilities before and after dropout.
VECTORS_KEPT, SCORES_KEPT, FLOAT_BYTES = 20, 2, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What a chunk may hold.

    Attributes:
        pieces: pieces.
        scores: attention scores of each head (the sum of the squared lengths); None for any number.
    """

    pieces: int
    scores: int | None = None


def pieces_at_once(device: torch.device, max_pieces: int | None) -> int:
    """How many pieces the network takes at once in prediction: as said, or what suits a device."""
    return max_pieces or PIECES_AT_ONCE.get(device.type, PIECES_AT_ONCE["cpu"])


def training_budget(config: BertConfig, device: torch.device, max_pieces: int | None) -> Budget:
    """What is computed without doing it twice.

    On a CPU with dropout, all attention scores are kept, which long windows fill.

    Args:
        config: shape of the network.
        device: where it is.
        max_pieces: what the user has said; None for what fits `TRAINING_BYTES`.
    """
    pieces = pieces_at_once(device, max_pieces)
    if device.type != "cpu":
        return Budget(pieces=pieces)
    scores = SCORES_PER_PIECE * pieces
    if max_pieces is None:
        kept = TRAINING_BYTES // (FLOAT_BYTES * config.num_hidden_layers)
        pieces = max(pieces, kept // (VECTORS_KEPT * config.hidden_size))
        scores = max(scores, kept // (SCORES_KEPT * config.num_attention_heads))
    return Budget(pieces=pieces, scores=scores)
