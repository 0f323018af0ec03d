"""Packed batches for our network and padded ones for Hugging Face's, from the same sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from spacy_bert.bert import PackedBatch


def padded(sequences: list[list[int]], kinds: list[list[int]]) -> dict[str, Tensor]:
    """What `transformers` takes: input_ids, token_type_ids, attention_mask."""
    width = max(map(len, sequences))
    fill = [width - len(sequence) for sequence in sequences]
    rows = zip(sequences, kinds, fill, strict=True)
    filled = [(s + [0] * n, k + [0] * n, [1] * len(s) + [0] * n) for s, k, n in rows]
    ids, types, mask = zip(*filled, strict=True)
    return {
        "input_ids": torch.tensor(ids),
        "token_type_ids": torch.tensor(types),
        "attention_mask": torch.tensor(mask),
    }


def unpad(hidden: Tensor, batch: PackedBatch) -> Tensor:
    """(sequences, width, ...) -> (total, ...)."""
    return torch.cat([row[:length] for row, length in zip(hidden, batch.lengths, strict=True)])


def random_sequences(
    count: int, *, longest: int, vocab: int, seed: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Piece and segment ids of sequences of mixed length, some of them pairs."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    sequences = [torch.randint(0, vocab, (n,), generator=generator).tolist() for n in lengths]
    splits = [int(torch.randint(1, n + 1, (), generator=generator)) for n in lengths]
    kinds = [[0] * k + [1] * (n - k) for n, k in zip(lengths, splits, strict=True)]
    return sequences, kinds
