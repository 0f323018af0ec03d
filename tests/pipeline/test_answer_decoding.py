"""Decoding against the plain loops of SQuAD's rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert.models.windows import Windows
from spacy_bert.pipeline.answer_decoding import Decoder

TEXT = "".join(chr(ord("a") + i % 26) for i in range(400))


def decoder(**settings: float) -> Decoder:
    defaults = {"n_best": 20, "max_answer_pieces": 30, "null_answers": False, "null_threshold": 0.0}
    return Decoder(**{**defaults, **settings})  # type: ignore[arg-type]


def make_windows(pieces: int, *, room: int, stride: int, question: int = 2) -> Windows:
    """Windows over a context in which each piece is two characters, with a question before it."""
    rows, lengths = [], []
    for start in range(0, max(pieces - room + stride, 1), stride):
        shown = range(start, min(start + room, pieces))
        lengths.append(question + 3 + len(shown))
        rows += [(-1, -1, False, False)]
        rows += [(2 * i, 2 * i + 2, False, True) for i in range(question)]
        rows += [(-1, -1, False, False)]
        for i in shown:
            best = max(
                range(0, max(pieces - room + stride, 1), stride),
                key=lambda s: (
                    min(i - s, min(s + room, pieces) - 1 - i) if 0 <= i - s < room else -1,
                    -s,
                ),
            )
            rows.append((10 + 2 * i, 12 + 2 * i, True, best == start))
        rows += [(-1, -1, False, False)]
    table = np.array(rows)
    return Windows(
        rows=np.zeros((len(rows), 2), "f"),
        lengths=np.array(lengths),
        offsets=table[:, :2],
        is_second=table[:, 2].astype(bool),
        is_best=table[:, 3].astype(bool),
    )


def brute_force(
    windows: Windows, logits: np.ndarray, *, n_best: int, longest: int
) -> list[tuple[int, int, float]]:
    """The official procedure, written as it is told."""
    found = []
    for start_row, length in zip(windows.starts, windows.lengths, strict=True):
        rows = [row for row in range(start_row, start_row + length) if windows.is_second[row]]
        starts = [row for row in rows if windows.is_best[row]]
        starts = sorted(starts, key=lambda row: -logits[row, 0])[:n_best]
        ends = sorted(rows, key=lambda row: -logits[row, 1])[:n_best]
        for i in starts:
            for j in ends:
                if i <= j < i + longest:
                    score = float(logits[i, 0] + logits[j, 1])
                    found.append((int(windows.offsets[i, 0]), int(windows.offsets[j, 1]), score))
    best: dict[tuple[int, int], float] = {}
    for start, end, score in sorted(found, key=lambda item: -item[2]):
        best.setdefault((start, end), score)
    return [(start, end, score) for (start, end), score in best.items()][:n_best]


@given(
    pieces=st.integers(0, 90),
    room=st.integers(5, 40),
    stride_share=st.floats(0.1, 1.0),
    n_best=st.integers(1, 25),
    longest=st.integers(1, 12),
    null=st.booleans(),
    threshold=st.floats(-3.0, 3.0),
    seed=st.integers(0, 10_000),
)
def test_equals_the_plain_loops(
    pieces: int,
    room: int,
    stride_share: float,
    n_best: int,
    longest: int,
    null: bool,
    threshold: float,
    seed: int,
) -> None:
    windows = make_windows(pieces, room=room, stride=max(int(room * stride_share), 1))
    logits = np.random.default_rng(seed).standard_normal((len(windows.rows), 2), dtype="f")
    decode = decoder(
        n_best=n_best, max_answer_pieces=longest, null_answers=null, null_threshold=threshold
    ).decode
    answers = decode(TEXT, windows, logits)
    expected = brute_force(windows, logits, n_best=n_best, longest=longest)
    spans = [answer for answer in answers if not answer.is_null]
    assert [(a.start_char, a.end_char, a.score) for a in spans] == expected
    assert all(a.text == TEXT[a.start_char : a.end_char] for a in spans)
    nulls = [answer for answer in answers if answer.is_null]
    assert len(nulls) == (1 if null or not expected else 0)
    if nulls:
        (only,) = nulls
        of_cls = [float(logits[row].sum()) for row in windows.starts]
        assert only.score == pytest.approx(min(of_cls), abs=1e-6)
        assert (only.text, only.start_char, only.end_char) == ("", -1, -1)
        if expected:
            assert answers[0].is_null == (only.score - expected[0][2] > threshold)
    total = sum(math.exp(a.score) for a in answers)
    assert [a.probability for a in answers] == pytest.approx(
        [math.exp(a.score) / total for a in answers], rel=1e-5
    )


def test_with_all_starts_and_ends_the_best_pair_is_found() -> None:
    windows = make_windows(50, room=60, stride=60)
    for seed in range(20):
        logits = np.random.default_rng(seed).standard_normal((len(windows.rows), 2), dtype="f")
        (best, *_) = decoder(n_best=100).decode(TEXT, windows, logits)
        context = np.flatnonzero(windows.is_second)
        pairs = [logits[i, 0] + logits[j, 1] for i in context for j in context if 0 <= j - i < 30]
        assert best.score == pytest.approx(max(pairs))


def test_a_start_at_the_edge_of_a_window_does_not_count() -> None:
    """The other window, which gives it more context, may have said otherwise."""
    windows = make_windows(30, room=20, stride=10)
    logits = np.zeros((len(windows.rows), 2), "f")
    edge = int(windows.starts[1]) + 4  # the first piece of the context in the second window
    assert windows.is_second[edge]
    assert not windows.is_best[edge]
    logits[edge] = 100.0
    assert decoder().decode(TEXT, windows, logits)[0].score < 100.0
