"""Trace: the hidden states and attentions of one Doc, by piece, by token and by segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from spacy.tokens import Doc, Span, Token

from spacy_bert.analysis.alignment import average_rows, merge_attention
from spacy_bert.models.segments import segments

NONE = -1  # no token, no window
SHOWN = 12  # units that a representation names

# Hidden states, (layers + 1, pieces, hidden size), and of each window the attention,
# (layers, heads, length, length), if it was wanted and there is any.
Computed = tuple[np.ndarray, "list[np.ndarray] | None"]
# Whether attention is wanted -> what is there.
Compute = Callable[[bool], Computed]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """How BERT reads a Doc: its pieces, all windows end to end.

    Attributes:
        pieces: The pieces as text, [CLS] and [SEP] among them.
        lengths: Pieces of each window.
        offsets: Characters of each piece in the Doc, (pieces, 2); -1 for special pieces.
        segment_ids: 0 or 1 for each piece, (pieces,).
        overlaps: Pairs of a piece and a token that it overlaps, in any window, (2, pairs).
        align_pieces: For token after token, the indices of its pieces, in the window that gives it
            most context.
        align_lengths: Number of pieces of each token, (tokens,).
    """

    pieces: list[str]
    lengths: tuple[int, ...]
    offsets: np.ndarray
    segment_ids: np.ndarray
    overlaps: np.ndarray
    align_pieces: np.ndarray
    align_lengths: np.ndarray


class Trace:
    """What BERT makes of a Doc, computed when it is asked for.

    Args:
        doc: The Doc.
        reading: Its pieces.
        compute: Gives hidden states and attentions.
    """

    def __init__(self, doc: Doc, reading: Reading, compute: Compute) -> None:
        self.doc = doc
        self.reading = reading
        self._compute = compute
        self._hidden: np.ndarray | None = None
        self._attentions: list[np.ndarray] | None = None

    def __repr__(self) -> str:
        """The Doc's beginning, and how much of it was read."""
        pieces, windows = len(self.pieces), len(self.reading.lengths)
        ending = "" if windows == 1 else "s"
        return f"<Trace of {self.doc.text[:30]!r}: {pieces} pieces, {windows} window{ending}>"

    @property
    def pieces(self) -> list[str]:
        """The pieces as text, all windows end to end."""
        return self.reading.pieces

    @property
    def hidden(self) -> np.ndarray:
        """Hidden states, (layers + 1, pieces, hidden size) float32; 0 is the embeddings."""
        if self._hidden is None:
            self._hidden, _ = self._compute(False)
        return self._hidden

    @property
    def attentions(self) -> list[np.ndarray]:
        """Attention of each window, (layers, heads, length, length) float32, row attends to column.

        Raises:
            ValueError: If the encoder does not tell its attention.
        """
        if self._attentions is None:
            hidden, attentions = self._compute(True)
            if attentions is None:
                raise ValueError(
                    "this encoder tells its hidden states alone: attention is to be had of "
                    'spacy_bert\'s component "bert"'
                )
            self._hidden, self._attentions = hidden, attentions
        return self._attentions

    @property
    def attention(self) -> np.ndarray:
        """Attention of a Doc that was read in one window, (layers, heads, pieces, pieces) float32.

        Raises:
            ValueError: If there are several windows, or the encoder does not tell its attention.
        """
        if len(self.reading.lengths) != 1:
            raise ValueError(
                f"the Doc was read in {len(self.reading.lengths)} windows, each with an attention "
                "of its own: take trace.attentions, or trace.tokens().attention"
            )
        return self.attentions[0]

    def layer(self, number: int) -> np.ndarray:
        """The hidden states of one layer, (pieces, hidden size).

        Args:
            number: 0 is the embeddings, 1 the first layer, -1 the last one.

        Raises:
            ValueError: If there is no such layer.
        """
        layers = len(self.hidden)
        if not -layers <= number < layers:
            raise ValueError(
                f"there is no layer {number}: 0 is the embeddings, {layers - 1} the last one"
            )
        states: np.ndarray = self.hidden[number]
        return states

    def tokens(self, *, special: bool = False) -> UnitTrace:
        """The same by spaCy's tokens.

        Args:
            special: Whether [CLS] and [SEP] are units too, where they stand: rows of attention then
                sum to 1. Without them they sum to what goes to words.
        """
        return UnitTrace.of_tokens(self, range(len(self.doc)), special=special)

    def segments(self) -> UnitTrace:
        """The same by segment, of which a plain Doc has one, with [CLS] and [SEP]s as units."""
        return UnitTrace.of_segments(self)

    def __getitem__(self, part: Span | Token | slice | int) -> UnitTrace:
        """The tokens of a part of the Doc: their vectors, and their attention to each other.

        Raises:
            ValueError: If the part is of another Doc.
        """
        if isinstance(part, (Span, Token)):
            if part.doc is not self.doc:
                raise ValueError(f"{part.text!r} is of another Doc than the trace")
            wanted = range(part.start, part.end) if isinstance(part, Span) else [part.i]
        elif isinstance(part, slice):
            wanted = range(len(self.doc))[part]
        else:
            wanted = [range(len(self.doc))[part]]
        return UnitTrace.of_tokens(self, wanted, special=False)

    @cached_property
    def token_members(self) -> np.ndarray:
        """Which tokens each piece overlaps, (pieces, tokens) bool; none of [CLS], [SEP]."""
        members = np.zeros((len(self.pieces), len(self.doc)), dtype=bool)
        members[tuple(self.reading.overlaps)] = True
        return members

    @property
    def special(self) -> np.ndarray:
        """The places of [CLS] and [SEP] among the pieces."""
        return np.flatnonzero(self.reading.offsets[:, 0] < 0)

    @cached_property
    def window_of_piece(self) -> np.ndarray:
        """The window of each piece, (pieces,)."""
        return np.repeat(np.arange(len(self.reading.lengths)), self.reading.lengths)

    @cached_property
    def window_of_token(self) -> np.ndarray:
        """The window from which each token is taken, (tokens,); -1 for white space."""
        counts = self.reading.align_lengths
        starts = np.cumsum(counts) - counts
        found = np.full(len(counts), NONE)
        read = np.flatnonzero(counts)
        found[read] = self.window_of_piece[self.reading.align_pieces[starts[read]]]
        return found


class UnitTrace:
    """Vectors and attention of units that are larger than pieces.

    A unit's vector and its row of attention are those of the window in which it has most context.

    Args:
        trace: What they are made of.
        labels: A name for each unit.
        members: Which units each piece belongs to, (pieces, units) bool.
        tokens: The token of each unit, (units,); -1 of a special piece or a segment.
    """

    def __init__(
        self, trace: Trace, labels: Sequence[str], members: np.ndarray, tokens: np.ndarray
    ) -> None:
        self.trace = trace
        self.labels = list(labels)
        self.token_of_unit = tokens
        self._members = members
        # What is no token is taken from the first window that has it.
        first = np.where(members.any(axis=0), trace.window_of_piece[members.argmax(axis=0)], NONE)
        of_token = tokens != NONE
        first[of_token] = trace.window_of_token[tokens[of_token]]
        self._home = first

    def __repr__(self) -> str:
        """The first units."""
        more = ", ..." if len(self) > SHOWN else ""
        return f"<UnitTrace of {len(self)}: {', '.join(map(repr, self.labels[:SHOWN]))}{more}>"

    def __len__(self) -> int:
        """How many units there are."""
        return len(self.labels)

    @cached_property
    def hidden(self) -> np.ndarray:
        """The mean of each unit's pieces, (layers + 1, units, hidden size); of no piece, zeros."""
        at_home = self._members & (self.trace.window_of_piece[:, None] == self._home)
        return average_rows(self.trace.hidden, at_home)

    @cached_property
    def attention(self) -> np.ndarray:
        """Attention among the units, (layers, heads, units, units): sum to, mean from."""
        maps = self.trace.attentions
        found = np.zeros((*maps[0].shape[:2], len(self), len(self)), dtype=np.float32)
        for window, weights in enumerate(maps):
            here = self.trace.window_of_piece == window
            rows = self._home == window
            found[:, :, rows] = merge_attention(weights, self._members[here])[:, :, rows]
        return found

    @classmethod
    def of_tokens(cls, trace: Trace, wanted: Sequence[int], *, special: bool) -> UnitTrace:
        """Units are tokens; with `special`, [CLS] and [SEP] too, in the order of the pieces."""
        tokens = np.array(wanted, dtype=np.int64)
        labels = [trace.doc[int(i)].text for i in tokens]
        members = trace.token_members[:, tokens]
        if not special:
            return cls(trace, labels, members, tokens)
        # A token stands where its first piece does in its best window; white space, behind the
        # token before it.
        counts = trace.reading.align_lengths
        starts = np.cumsum(counts) - counts
        places = np.full(len(trace.doc), 0)
        read = np.flatnonzero(counts)
        places[read] = trace.reading.align_pieces[starts[read]]
        places = np.maximum.accumulate(places)[tokens]
        extra = np.zeros((len(trace.pieces), len(trace.special)), dtype=bool)
        extra[trace.special, np.arange(len(trace.special))] = True
        order = np.argsort(np.concatenate([places, trace.special]), kind="stable")
        labels += [trace.pieces[place] for place in trace.special.tolist()]
        return cls(
            trace,
            [labels[i] for i in order.tolist()],
            np.concatenate([members, extra], axis=1)[:, order],
            np.concatenate([tokens, np.full(len(trace.special), NONE)])[order],
        )

    @classmethod
    def of_segments(cls, trace: Trace) -> UnitTrace:
        """Units are the segments, then the special pieces."""
        spans = segments(trace.doc)
        special = trace.special.tolist()
        members = np.zeros((len(trace.pieces), len(spans) + len(special)), dtype=bool)
        for number, span in enumerate(spans):
            members[:, number] = trace.token_members[:, span.start : span.end].any(axis=1)
        members[special, len(spans) + np.arange(len(special))] = True
        labels = [f"segment {number}" for number in range(1, len(spans) + 1)]
        labels += [trace.pieces[place] for place in special]
        return cls(trace, labels, members, np.full(len(labels), NONE))
