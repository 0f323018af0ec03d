"""Layout: what BERT reads together, and which of its pieces belong to which spaCy token.

One segment is read as `[CLS] A [SEP]`. Several are read in pairs, the first with each other:
`[CLS] A [SEP] B_i [SEP]`, segment ids 0 and 1. What does not fit the window is read in several
windows that overlap; a token then takes its pieces from the window in which it has most context
on its poorer side (Devlin et al.'s `max_context` in SQuAD).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from spacy.attrs import IDX, LENGTH
from spacy.tokens import Doc, Span

from spacy_bert.bert import positions_of, ranges
from spacy_bert.models.segments import segments
from spacy_bert.wordpiece import WordPiece

Slide = Literal["first", "last"]

# A sliding part with less room than this would be read almost word by word.
MIN_SLIDING_PIECES = 32

# Below any context that a token can have: seen in part only, and not seen yet.
_CUT, _UNSEEN = -1, -2


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """How a Doc is cut into windows.

    Attributes:
        window: pieces in a window at most, [CLS] and [SEP] included.
        stride: pieces from one window's start to the next one's (Google's `doc_stride`); None for
            3/4 of the window.
        slide: which of two paired segments is cut if both do not fit; the other stays whole.
    """

    window: int = 512
    stride: int | None = None
    slide: Slide = "last"

    def __post_init__(self) -> None:
        """Refuse options that cannot work.

        Raises:
            ValueError: names the option.
        """
        if self.window < MIN_SLIDING_PIECES + 3:
            raise ValueError(
                f"window must be at least {MIN_SLIDING_PIECES + 3} pieces, got {self.window}"
            )
        if self.step < 1:
            raise ValueError(f"stride must be at least 1 piece, got {self.stride}")
        if self.step > self.window - 2:  # the pieces between two windows would not be read
            raise ValueError(
                f"stride must be at most {self.window - 2} pieces (window - 2), got {self.stride}"
            )
        if self.slide not in ("first", "last"):
            raise ValueError(f'slide must be "first" or "last", got {self.slide!r}')

    @property
    def step(self) -> int:
        """The stride as a number."""
        return self.window * 3 // 4 if self.stride is None else self.stride


@dataclass(frozen=True, kw_only=True, eq=False)
class DocLayout:
    """The windows of one Doc, laid end to end.

    Attributes:
        pieces: wordpiece ids with [CLS] and [SEP], (total,) int64.
        segment_ids: 0 for the first segment of a window, 1 for the second, (total,) int64.
        offsets: where each piece begins and ends in the text of the Doc, (total, 2) int64; -1 for
            [CLS] and [SEP], which stand in no text.
        lengths: pieces in each window.
        pairs: which pair of segments each window shows, counted from 0 in the order of the text,
            (windows,) int64; of one segment alone, 0.
        align_pieces: for token after token, the indices of its pieces in `pieces`.
        align_lengths: number of pieces of each token, (tokens,) int32; 0 for white space.
    """

    pieces: np.ndarray
    segment_ids: np.ndarray
    offsets: np.ndarray
    lengths: tuple[int, ...]
    pairs: np.ndarray
    align_pieces: np.ndarray
    align_lengths: np.ndarray

    @property
    def positions(self) -> np.ndarray:
        """Position of each piece in its window, (total,) int64."""
        return positions_of(self.lengths)


@dataclass(frozen=True, eq=False)
class _Segment:
    """Pieces of one segment and the range of pieces of each of its tokens."""

    start: int  # index of its first token in the Doc
    ids: np.ndarray
    offsets: np.ndarray  # (pieces, 2) characters of each piece in the Doc
    first: np.ndarray  # (tokens,) first piece of each token
    count: np.ndarray  # (tokens,) pieces of each token

    @classmethod
    def build(cls, span: Span, ids: np.ndarray, offsets: np.ndarray, chars: np.ndarray) -> _Segment:
        """Align pieces to tokens by character offsets: a token has every piece it overlaps."""
        offsets = offsets + span.start_char
        token_starts = chars[span.start : span.end, 0]
        token_ends = token_starts + chars[span.start : span.end, 1]
        first = np.searchsorted(offsets[:, 1], token_starts, side="right")
        behind = np.searchsorted(offsets[:, 0], token_ends, side="left")
        return cls(span.start, ids, offsets, first, np.maximum(behind - first, 0))


@dataclass(frozen=True, eq=False)
class _Part:
    """The stretch of a segment that one window shows."""

    segment: _Segment
    start: int
    end: int

    @property
    def ids(self) -> np.ndarray:
        return self.segment.ids[self.start : self.end]

    @property
    def offsets(self) -> np.ndarray:
        return self.segment.offsets[self.start : self.end]


def lay_out(
    docs: Sequence[Doc], wordpiece: WordPiece, options: LayoutOptions
) -> list[DocLayout | None]:
    """Lay out each Doc; a Doc without tokens gives None.

    Raises:
        ValueError: if the segment that does not slide leaves too little room for the other.
    """
    spans = [segments(doc) if len(doc) else [] for doc in docs]
    texts = [span.text for doc_spans in spans for span in doc_spans]
    encoded = iter(wordpiece.encode(texts))
    layouts: list[DocLayout | None] = []
    for doc, doc_spans in zip(docs, spans, strict=True):
        if not doc_spans:
            layouts.append(None)
            continue
        chars = doc.to_array([IDX, LENGTH]).astype(np.int64).reshape(-1, 2)
        parts = [_Segment.build(span, *next(encoded), chars) for span in doc_spans]
        if len(parts) == 1 and len(parts[0].ids) <= options.window - 2:
            layouts.append(_lay_out_whole(len(doc), parts[0], wordpiece))
        else:
            try:
                layouts.append(_lay_out_windows(len(doc), parts, wordpiece, options))
            except ValueError as error:
                raise ValueError(f"the Doc {doc.text[:40]!r}: {error}") from None
    return layouts


def _lay_out_whole(tokens: int, segment: _Segment, wordpiece: WordPiece) -> DocLayout:
    """One segment in one window: what `_lay_out_windows` gives, with less to do."""
    total = len(segment.ids) + 2
    pieces = np.empty(total, np.int64)
    pieces[0], pieces[1:-1], pieces[-1] = wordpiece.cls_id, segment.ids, wordpiece.sep_id
    offsets = np.full((total, 2), -1)
    offsets[1:-1] = segment.offsets
    count = np.zeros(tokens, np.int32)
    count[segment.start : segment.start + len(segment.count)] = segment.count
    return DocLayout(
        pieces=pieces,
        segment_ids=np.zeros(total, np.int64),
        offsets=offsets,
        lengths=(total,),
        pairs=np.zeros(1, np.int64),
        align_pieces=ranges(segment.first + 1, segment.count).astype(np.int32),
        align_lengths=count,
    )


def _lay_out_windows(
    tokens: int, parts: list[_Segment], wordpiece: WordPiece, options: LayoutOptions
) -> DocLayout:
    cls, sep = np.array([wordpiece.cls_id]), np.array([wordpiece.sep_id])
    nowhere = np.full((1, 2), -1)
    pieces: list[np.ndarray] = []
    kinds: list[np.ndarray] = []
    offsets: list[np.ndarray] = []
    lengths: list[int] = []
    pairs: list[int] = []
    best = _BestContext(tokens)
    total = 0
    for pair, window in _windows(parts, options):
        row, row_kinds, width = [cls], [np.zeros(1, np.int64)], 1
        offsets.append(nowhere)
        for kind, part in enumerate(window):
            best.offer(part, offset=total + width)
            row += [part.ids, sep]
            offsets += [part.offsets, nowhere]
            width += len(part.ids) + 1
            row_kinds.append(np.full(len(part.ids) + 1, kind, np.int64))
        pieces += row
        kinds += row_kinds
        lengths.append(width)
        pairs.append(pair)
        total += width
    return DocLayout(
        pieces=np.concatenate(pieces).astype(np.int64),
        segment_ids=np.concatenate(kinds),
        offsets=np.concatenate(offsets),
        lengths=tuple(lengths),
        pairs=np.array(pairs, np.int64),
        align_pieces=ranges(best.first, best.count).astype(np.int32),
        align_lengths=best.count.astype(np.int32),
    )


def _windows(parts: list[_Segment], options: LayoutOptions) -> Iterator[tuple[int, list[_Part]]]:
    """The windows of a Doc, each with the number of its pair and its one or two parts."""
    whole = [_Part(part, 0, len(part.ids)) for part in parts]
    if len(parts) == 1:
        for stretch in _stretches(parts[0], options.window - 2, options.step):
            yield 0, [stretch]
        return
    for pair, second in enumerate(whole[1:]):
        first = whole[0]
        fixed = first if options.slide == "last" else second
        room = options.window - 3 - len(fixed.ids)
        sliding = second if options.slide == "last" else first
        if len(sliding.ids) > room and room < MIN_SLIDING_PIECES:
            _refuse_two_long_segments(len(first.ids), len(second.ids), pair + 2, options)
        for stretch in _stretches(sliding.segment, room, options.step):
            yield pair, [first, stretch] if options.slide == "last" else [stretch, second]


def _refuse_two_long_segments(first: int, second: int, number: int, options: LayoutOptions) -> None:
    """Say that one segment, read whole, leaves too little room, and what would help."""
    fixed, sliding = (first, second) if options.slide == "last" else (second, first)
    name = 1 if options.slide == "last" else number
    other = "first" if options.slide == "last" else "last"
    longest = options.window - 3 - MIN_SLIDING_PIECES
    advice = f"shorten it to {longest} pieces"
    if sliding <= longest:
        advice += f', or set slide = "{other}" so that it is read in windows'
    raise ValueError(
        f"its segment {name} has {fixed} pieces; read whole, it leaves "
        f"{max(options.window - 3 - fixed, 0)} of the window's {options.window} for the other "
        f"segment ({MIN_SLIDING_PIECES} are needed): {advice}"
    )


def _stretches(segment: _Segment, room: int, stride: int) -> Iterator[_Part]:
    """Overlapping stretches of at most `room` pieces that cover the segment."""
    start, size = 0, len(segment.ids)
    while True:
        end = min(start + room, size)
        yield _Part(segment, start, end)
        if end == size:
            return
        start += min(stride, room)


class _BestContext:
    """For each token, its pieces in the window that gives it most context."""

    def __init__(self, tokens: int) -> None:
        self.first = np.zeros(tokens, np.int64)
        self.count = np.zeros(tokens, np.int64)
        self._context = np.full(tokens, _UNSEEN, np.int64)

    def offer(self, part: _Part, *, offset: int) -> None:
        """Consider a window: `offset` is where the part's first piece stands in the layout."""
        segment = part.segment
        # Only the tokens with a piece in the part: it starts and ends somewhere in the segment.
        behind = segment.first + segment.count
        low = int(np.searchsorted(behind, part.start, side="right"))
        high = int(np.searchsorted(segment.first, part.end, side="left"))
        first = np.maximum(segment.first[low:high], part.start)
        last = np.minimum(behind[low:high], part.end)
        context = np.minimum(segment.first[low:high] - part.start, part.end - behind[low:high])
        # A token that the part cuts has no context here, but better half its pieces than none.
        context = np.maximum(context, _CUT)
        rows = slice(segment.start + low, segment.start + high)
        better = (context > self._context[rows]) & (last > first)
        self._context[rows] = np.where(better, context, self._context[rows])
        self.first[rows] = np.where(better, first - part.start + offset, self.first[rows])
        self.count[rows] = np.where(better, last - first, self.count[rows])
