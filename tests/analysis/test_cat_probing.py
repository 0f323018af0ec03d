"""CAT-probing: the score's closed forms, and parity with a naive reading of its definition."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import textwrap
from collections import Counter

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

import spacy_bert
from spacy_bert.analysis.cat_probing import CatScores, cat_probe, cat_score, mean_attention
from spacy_bert.analysis.code_structure import Structure, read_code, read_tree
from tests.weights import MINILM, needs_minilm

CODES = [
    "def area(width, height):\n    return f(width * height, by=2)\n",
    "for key in f(x, y=1):\n    total = total + g(values[key], z=2)\n",
    "x = y",
    "a = (f(a, b=(1, 2)), h(c, d=3), k(e=(4, 5)), (x, y))\nb = ((a, b), (c, d))\n",
    inspect.getsource(textwrap.indent),
]


def structures(nlp: Language) -> list[Structure]:
    return [read_code(code, nlp.vocab) for code in CODES]


def test_chance() -> None:
    generator = np.random.default_rng(0)
    found = [cat_score(*generator.random((2, 60, 60))) for _ in range(200)]
    scores = [one[0] for one in found if one is not None]
    assert len(scores) == 200
    assert abs(np.mean(scores) - 0.25 / 1.75) < 0.002
    np.testing.assert_allclose([one[1] for one in found if one is not None], 1.0)


def test_attention_that_follows_the_structure(nlp: Language) -> None:
    distances = np.random.default_rng(1).random((40, 40))
    assert cat_score(-distances, distances) == (1.0, 1.0)
    assert cat_score(distances, distances) == (0.0, 1.0)
    # Whole numbers tie: a perfect match has the ceiling.
    everywhere = 1.0 - np.eye(10)  # a quarter of the pairs is strong, a tenth is near
    noise = np.random.default_rng(2).random((10, 10)) * 0.1
    assert cat_score(-everywhere - noise, everywhere) == (0.4, 0.4)
    tied = read_code(CODES[-1], nlp.vocab).distances()
    perfect = cat_score(-tied - np.random.default_rng(2).random(tied.shape) * 0.1, tied)
    assert perfect is not None
    assert perfect[0] == perfect[1] < 1.0
    other = cat_score(np.random.default_rng(3).random(tied.shape), tied)
    assert other is not None
    assert other[0] < 0.25
    assert other[1] == perfect[1]


def test_nothing_to_compare() -> None:
    assert cat_score(np.zeros((4, 4)), np.eye(4)) is None
    assert cat_score(np.ones((4, 4)), np.ones((4, 4))) is None
    assert cat_score(np.zeros((0, 0)), np.zeros((0, 0))) is None


def test_mean_over_heads_and_pieces() -> None:
    weights = np.random.default_rng(4).random((2, 3, 4, 4))
    members = np.array([[0, 0], [1, 0], [1, 0], [0, 1]], dtype=bool)
    found = mean_attention(weights, members)
    pieces = [[1, 2], [3]]
    for layer, row, column in itertools.product(range(2), range(2), range(2)):
        block = weights[layer][:, pieces[row]][:, :, pieces[column]]
        np.testing.assert_allclose(found[layer, row, column], block.mean())


def naive(nlp: Language, wanted: int | None) -> tuple[np.ndarray, list[list[str]]]:
    """The definition, token by token: scores and baselines, (layers, 2), and types."""
    samples = []
    for structure in structures(nlp):
        trace = spacy_bert.trace(nlp, structure.doc)
        for window, weights in enumerate(trace.attentions):
            own = np.flatnonzero(trace.window_of_piece == window)
            tokens = np.flatnonzero(trace.window_of_token == window)
            pieces = [np.flatnonzero(trace.token_members[own][:, i]) for i in tokens]
            heads = weights.mean(axis=1)
            attention = np.array(
                [[[layer[np.ix_(a, b)].mean() for b in pieces] for a in pieces] for layer in heads]
            )
            kinds = [structure.types[i] for i in tokens]
            samples.append((attention, structure.distances()[np.ix_(tokens, tokens)], kinds))
    counts = Counter(kind for *_, kinds in samples for kind in kinds)
    scores, types = [], []
    for layer in range(len(samples[0][0])):
        strong, pairs = Counter(), Counter()
        for attention, _, kinds in samples:
            limit = np.quantile(attention[layer], 0.75)
            for i, j in itertools.product(range(len(kinds)), repeat=2):
                for kind in (kinds[i], kinds[j]):
                    pairs[kind] += 1
                    strong[kind] += attention[layer, i, j] > limit
        common = [kind for kind in sorted(pairs) if counts[kind] >= len(samples)]
        best = sorted(common, key=lambda kind: -strong[kind] / pairs[kind])[:wanted]
        types.append(best)
        own = []
        for attention, distances, kinds in samples:
            keep = [i for i, kind in enumerate(kinds) if wanted is None or kind in best]
            if len(keep) < 3:
                continue
            d = distances[np.ix_(keep, keep)]
            near = d < np.quantile(d, 0.25)
            own.append([])
            by_place = np.array([[-float(abs(i - j)) for j in keep] for i in keep])
            for a in (attention[layer][np.ix_(keep, keep)], by_place):
                strong_pairs = a > np.quantile(a, 0.75)
                either = (strong_pairs | near).sum()  # none by place, of three tokens
                own[-1].append((strong_pairs & near).sum() / max(either, 1))
        scores.append(np.mean(own, axis=0))
    return np.array(scores), types


@pytest.mark.parametrize("wanted", [None, 3])
def test_parity_with_the_definition(narrow: Language, wanted: int | None) -> None:
    done: list[int] = []
    found = cat_probe(narrow, structures(narrow), frequent_types=wanted, progress=done.append)
    scores, types = naive(narrow, wanted)
    np.testing.assert_allclose(found.scores, scores[:, 0], atol=1e-6)
    np.testing.assert_allclose(found.neighbours, scores[:, 1], atol=1e-6)
    assert [list(own) for own in found.types] == ([] if wanted is None else types)
    assert len(done) == len(CODES) * (1 if wanted is None else 2)
    assert found.chance == pytest.approx(1 / 7)
    if wanted is None:  # some are read in several windows
        assert found.samples[0] > len(CODES)
        assert (found.ceilings < 1.0).all()
    assert (found.scores <= found.ceilings).all()


def test_types_by_their_rate(narrow: Language) -> None:
    found = cat_probe(narrow, structures(narrow), frequent_types=100)
    for own in found.types:
        rates = list(own.values())
        assert rates == sorted(rates, reverse=True)
        assert len(rates) > 3
        assert max(rates) > 0.25 > min(rates) > 0
        assert {"identifier", "(", ","} < own.keys()
        assert "for" not in own  # it is in one sample only


def test_prose(nlp: Language) -> None:
    words = ["A", "list", "keeps", "the", "values", "in", "order", "."]
    heads = [1, 2, 2, 4, 2, 2, 5, 2]
    deps = ["det", "nsubj", "ROOT", "det", "obj", "prep", "pobj", "punct"]
    pos = ["DET", "NOUN", "VERB", "DET", "NOUN", "ADP", "NOUN", "PUNCT"]
    docs = [Doc(nlp.vocab, words=words, heads=heads, deps=deps, pos=pos)] * 2
    found = cat_probe(nlp, [read_tree(doc) for doc in docs], frequent_types=2)
    assert found.samples.tolist() == [2, 2]
    assert set(found.types[0]) <= set(pos)
    assert all(len(own) == 2 for own in found.types)


def test_the_result_does_not_depend_on_the_order(narrow: Language) -> None:
    one = cat_probe(narrow, structures(narrow))
    other = cat_probe(narrow, structures(narrow)[::-1])
    for field in dataclasses.fields(CatScores):
        if field.name != "types":
            np.testing.assert_allclose(
                getattr(one, field.name), getattr(other, field.name), atol=1e-6
            )


def test_what_cannot_be_scored(nlp: Language) -> None:
    with pytest.raises(ValueError, match="there is nothing to score"):
        cat_probe(nlp, [])
    with pytest.raises(ValueError, match="texts of at least 3 tokens"):
        cat_probe(nlp, [read_code("x", nlp.vocab)])
    with pytest.raises(ValueError, match=r"quantile must be from 0\.5 to below 1, got 1\.0"):
        cat_probe(nlp, structures(nlp), quantile=1.0)
    with pytest.raises(ValueError, match="frequent_types must be at least 1"):
        cat_probe(nlp, structures(nlp), frequent_types=0)


@needs_minilm
def test_real_attention_follows_the_structure() -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(MINILM)}})
    nlp.initialize()
    found = cat_probe(nlp, structures(nlp))
    assert found.scores.max() > 2 * found.chance
    assert found.scores[:3].mean() > found.scores[3:].mean()
