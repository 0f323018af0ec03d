"""Cheap answers to next sentence prediction find what is there to be found."""

from __future__ import annotations

import numpy as np
import pytest

from spacy_bert.pretraining.nsp_baselines import TextPairs, score_baselines

LABELS = np.arange(400) % 2 == 1


def pairs(make) -> TextPairs:
    """Pairs whose B is `make(label, rng)`; A is ten random words and a full stop."""
    rng = np.random.default_rng(0)
    words = [[f"w{number}" for number in rng.integers(0, 500, 10)] for _ in LABELS]
    return TextPairs(
        a=[[*a, "."] for a in words],
        b=[make(label, a, rng) for label, a in zip(LABELS, words, strict=True)],
        is_random=LABELS,
    )


def fresh(rng, size: int) -> list[str]:
    return [f"v{number}" for number in rng.integers(0, 500, size)]


@pytest.mark.parametrize(
    ("make", "form", "overlap"),
    [
        (lambda label, a, rng: [*fresh(rng, 9), "."], 0.5, 0.5),
        (lambda label, a, rng: [*fresh(rng, 20 if label else 9), "."], 1.0, 0.5),
        (lambda label, a, rng: [*fresh(rng, 9), "?" if label else "."], 1.0, 0.5),
        (
            lambda label, a, rng: [*fresh(rng, 7), *(["x", "##y"] if label else a[:2]), "."],
            0.5,
            1,
        ),
    ],
    ids=["nothing", "length", "punctuation", "words"],
)
def test_each_baseline_sees_its_own_cue(make, form, overlap):
    data = pairs(make)
    scores = score_baselines(data, data)
    assert scores.majority == 0.5
    assert scores.lengths_and_punctuation == pytest.approx(form, abs=0.1)
    assert scores.word_overlap == pytest.approx(overlap, abs=0.1)


def test_pairs_are_read_as_tokens(shards, wordpiece):
    from spacy_bert.pretraining.pairs import draw_pairs

    drawn = draw_pairs(
        shards.dev,
        np.arange(20),
        max_pieces=60,
        short_share=0.0,
        rng=np.random.default_rng(0),
    )
    text = TextPairs.read(shards.dev, drawn, wordpiece.tokens)
    assert text.a[0][0] == wordpiece.tokens[shards.dev.pieces[drawn.a[0, 0]]]
    assert [len(segment) for segment in text.b] == np.diff(drawn.b)[:, 0].tolist()
