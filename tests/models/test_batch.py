"""Chunks: no budget is exceeded, nothing is lost, and the order can be restored."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert.models.batch import Chunks
from spacy_bert.models.layout import DocLayout

CPU = torch.device("cpu")


def layout(lengths: list[int], first: int) -> DocLayout:
    """Windows whose pieces count on from `first`."""
    total = sum(lengths)
    return DocLayout(
        pieces=np.arange(first, first + total),
        segment_ids=np.zeros(total, np.int64),
        offsets=np.full((total, 2), -1),
        lengths=tuple(lengths),
        pairs=np.zeros(len(lengths), np.int64),
        align_pieces=np.zeros(0, np.int32),
        align_lengths=np.zeros(0, np.int32),
    )


@given(
    docs=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=12),
    max_pieces=st.integers(1, 120),
    max_scores=st.none() | st.integers(1, 3000),
)
def test_chunks_keep_their_budgets(
    docs: list[list[int]], max_pieces: int, max_scores: int | None
) -> None:
    starts = np.cumsum([0, *map(sum, docs)]).tolist()
    layouts = [layout(lengths, start) for lengths, start in zip(docs, starts, strict=False)]
    chunks = Chunks.build(layouts, max_pieces=max_pieces, max_scores=max_scores, device=CPU)
    limit = float("inf") if max_scores is None else max_scores
    sizes = [np.array(batch.lengths) for batch in chunks.batches]
    for size in sizes:
        within = size.sum() <= max_pieces and (size**2).sum() <= limit
        assert within or len(size) == 1
    # Each chunk is as full as it can be: the next window would not have fitted.
    for size, following in pairwise(sizes):
        more = np.append(size, following[0])
        assert more.sum() > max_pieces or (more**2).sum() > limit
    rows = chunks.restore([batch.pieces[:, None] for batch in chunks.batches])
    assert rows[:, 0].tolist() == list(range(starts[-1]))
    for batch, part in zip(chunks.batches, chunks.arrange(rows), strict=True):
        assert torch.equal(batch.pieces, part[:, 0])
        assert len(batch.pieces) == sum(batch.lengths)
