"""From Docs to packed chunks for the network, and from its output back to Docs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from spacy.tokens import Doc
from spacy_transformers.data_classes import (
    FullTransformerBatch,
    TransformerData,
    WordpieceBatch,
)
from thinc.api import get_array_module, torch2xp, xp2torch
from thinc.types import Ragged
from torch import Tensor
from transformers.file_utils import ModelOutput

from spacy_bert.bert import PackedBatch, positions_of, ranges
from spacy_bert.models.layout import DocLayout
from spacy_bert.wordpiece import WordPiece

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are


@dataclass(frozen=True, eq=False)
class Chunks:
    """All windows of a batch of Docs, sorted by length and cut to a budget of pieces.

    Attributes:
        batches: the chunks in the order in which the network takes them.
        windows: which of all windows, counted in the order of the Docs, each chunk has.
        places: where each row of the chunks' outputs, end to end, stands in the order of the Docs,
            (total,), or None if that is their order.
    """

    batches: list[PackedBatch]
    windows: list[np.ndarray]
    places: Tensor | None

    @classmethod
    def build(
        cls,
        layouts: Sequence[DocLayout],
        *,
        max_pieces: int,
        max_scores: int | None = None,
        device: torch.device,
    ) -> Chunks:
        """Windows of like length come together, so that attention needs few groups.

        Args:
            layouts: the windows of each Doc.
            max_pieces: pieces in a chunk, unless a single window has more.
            max_scores: attention scores of each head in a chunk (the sum of the squared lengths),
                likewise; None for any number.
            device: where the chunks go.
        """
        lengths = np.array([n for layout in layouts for n in layout.lengths], dtype=np.int64)
        pieces = np.concatenate([layout.pieces for layout in layouts])
        kinds = np.concatenate([layout.segment_ids for layout in layouts])
        order = np.argsort(lengths, kind="stable")
        places = None
        if (order[1:] < order[:-1]).any():
            starts = np.cumsum(lengths) - lengths
            sizes = lengths[order]
            rows = ranges(starts[order], sizes)
            pieces, kinds, lengths = pieces[rows], kinds[rows], sizes
            places = torch.from_numpy(rows).to(device)
        positions = positions_of(lengths)
        batches, windows = [], []
        ends, scores = np.cumsum(lengths), np.cumsum(lengths**2)
        first = begin = 0
        while first < len(lengths):
            # As many windows as fit the budget, and one at least.
            last = int(np.searchsorted(ends, begin + max_pieces, side="right"))
            if max_scores is not None:
                before = int(scores[first - 1]) if first else 0
                last = min(last, int(np.searchsorted(scores, before + max_scores, side="right")))
            last = max(last, first + 1)
            end = int(ends[last - 1])
            batches.append(
                PackedBatch(
                    pieces=torch.from_numpy(pieces[begin:end]),
                    positions=torch.from_numpy(positions[begin:end]),
                    segments=torch.from_numpy(kinds[begin:end]),
                    lengths=tuple(lengths[first:last].tolist()),
                ).to(device)
            )
            windows.append(order[first:last])
            first, begin = last, end
        return cls(batches, windows, places)

    def restore(self, outputs: Iterable[Tensor]) -> Tensor:
        """Outputs of the chunks, (rows, width) each -> (total, width) in the order of the Docs.

        They are taken one by one and let go, so that memory holds the rows once.
        """
        total = sum(len(batch.pieces) for batch in self.batches)
        whole, begin = torch.empty(0), 0
        for output in outputs:
            if len(output) == total and self.places is None:
                return output
            if not begin:
                whole = output.new_empty(total, output.shape[1])
            end = begin + len(output)
            if self.places is None:
                whole[begin:end] = output
            else:
                whole[self.places[begin:end]] = output
            begin = end
        return whole

    def arrange(self, gradient: Tensor) -> list[Tensor]:
        """The gradient of `restore`: (total, width) -> one (rows, width) for each chunk."""
        if self.places is not None:
            gradient = gradient.index_select(0, self.places)
        return list(torch.split(gradient, [len(batch.pieces) for batch in self.batches]))

    def find(self, rows: Tensor) -> Tensor:
        """Where rows in the order of the Docs stand in the outputs of the chunks, (rows,)."""
        if self.places is None:
            return rows
        inverse = torch.empty_like(self.places)
        inverse[self.places] = torch.arange(len(inverse), device=inverse.device)
        return inverse[rows]


@dataclass
class PackedTransformerData(TransformerData):  # type: ignore[misc]
    """The outputs of one Doc, where their pieces stand in its text, and which pair they are of.

    Whoever gets the data back from bytes gets them without the fields of this class.

    Attributes:
        offsets: characters of each piece, window after window without padding, (pieces, 2); -1 for
            [CLS] and [SEP].
        pairs: which pair of segments each window shows, ascending, (windows,).
    """

    offsets: np.ndarray
    pairs: np.ndarray


class PackedTransformerBatch(FullTransformerBatch):  # type: ignore[misc]
    """The outputs of a batch of Docs; `doc_data` has one `TransformerData` for each.

    spacy-transformers' own batch pads all windows of all Docs to one length. Here each Doc's data
    stand alone (`cached_doc_data`), with one row for each of its windows, and the batch-wide
    `wordpieces`, `model_output` and `align` are left empty.
    """

    @classmethod
    def build(
        cls,
        docs: Sequence[Doc],
        layouts: Sequence[DocLayout | None],
        hidden: Tensor | None,
        wordpiece: WordPiece,
    ) -> PackedTransformerBatch:
        """Split `hidden`, (total pieces, width), by Doc; Docs without tokens get empty data."""
        data, start = [], 0
        for layout in layouts:
            if layout is None or hidden is None:
                data.append(TransformerData.empty())
                continue
            end = start + len(layout.pieces)
            data.append(_doc_data(layout, cast(Array, torch2xp(hidden[start:end])), wordpiece))
            start = end
        empty = FullTransformerBatch.empty(0)
        return cls(
            spans=[[doc[:]] if len(doc) else [] for doc in docs],
            wordpieces=empty.wordpieces,
            model_output=ModelOutput(),
            align=empty.align,
            cached_doc_data=data,
        )

    def unsplit_by_doc(self, arrays: list[list[Array]]) -> FullTransformerBatch:
        """Gradients of the Docs that have tokens, (windows, length, width) each, packed again."""
        filled = [data for data in self.doc_data if len(data.wordpieces.lengths)]
        rows = [
            unpad(gradients[0], data.wordpieces.lengths)
            for gradients, data in zip(arrays, filled, strict=True)
        ]
        xp = get_array_module(rows[0])
        return FullTransformerBatch(
            spans=self.spans,
            wordpieces=self.wordpieces,
            model_output=ModelOutput(last_hidden_state=xp2torch(xp.concatenate(rows))),
            align=self.align,
        )


def unpad(rows: Array, lengths: Sequence[int]) -> Array:
    """(windows, length, width) -> (total pieces, width)."""
    if len(lengths) == 1:
        return rows[0]
    xp = get_array_module(rows)
    return xp.concatenate([row[:length] for row, length in zip(rows, lengths, strict=True)])


def _doc_data(layout: DocLayout, hidden: Array, wordpiece: WordPiece) -> PackedTransformerData:
    """One row for each window, padded to the longest of this Doc's."""
    lengths = list(layout.lengths)
    windows, longest = len(lengths), max(lengths)
    align = layout.align_pieces
    if windows == 1:
        shape = (1, longest)
        ids, kinds = layout.pieces.reshape(shape), layout.segment_ids.reshape(shape)
        mask = np.ones(shape, dtype="f")
        states = hidden.reshape(1, longest, -1).copy()  # a Doc must not keep its whole batch
    else:
        row = np.repeat(np.arange(windows), lengths)
        column = layout.positions
        ids = np.full((windows, longest), wordpiece.pad_id, np.int64)
        kinds = np.zeros((windows, longest), np.int64)
        mask = np.zeros((windows, longest), dtype="f")
        ids[row, column], kinds[row, column], mask[row, column] = (
            layout.pieces,
            layout.segment_ids,
            1.0,
        )
        xp = get_array_module(hidden)
        states = xp.zeros((windows, longest, hidden.shape[1]), dtype=hidden.dtype)
        states[row, column] = hidden
        align = (row * longest + column)[align].astype(np.int32)
    tokens = wordpiece.tokens
    return PackedTransformerData(
        wordpieces=WordpieceBatch(
            strings=[[tokens[i] for i in row_ids] for row_ids in ids.tolist()],
            input_ids=ids,
            attention_mask=mask,
            lengths=lengths,
            token_type_ids=kinds,
        ),
        model_output=ModelOutput(last_hidden_state=states),
        align=Ragged(cast(Any, align), cast(Any, layout.align_lengths)),
        offsets=layout.offsets,
        pairs=layout.pairs,
    )
