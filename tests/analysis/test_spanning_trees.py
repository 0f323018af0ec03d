"""Trees of single heads: the greatest of all trees, planted heads, and figures by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.analysis.look_at_layers import look_at_spanning_trees
from spacy_bert.analysis.look_inside import Look
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.spanning_trees import maximum_spanning_tree, spanning_trees
from spacy_bert.analysis.trace import Trace
from spacy_bert.analysis.trees import ROOT
from tests.analysis.planted import plant, pruned
from tests.analysis.test_head_relations import by_pieces, heads_in, parsed


def is_tree(heads: np.ndarray, root: int) -> bool:
    """Whether every word reaches the root."""
    for start in range(len(heads)):
        at = start
        for _ in range(len(heads)):
            if at != root:
                at = int(heads[at])
        if at != root:
            return False
    return int(heads[root]) == ROOT


# Few values, so that there are ties and circles.
MAPS = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        st.lists(st.integers(0, 3), min_size=size**2, max_size=size**2).map(
            lambda values: np.array(values, dtype=float).reshape(size, size)
        ),
        st.integers(0, size - 1),
    )
)


@given(MAPS)
def test_it_is_always_a_tree(case: tuple[np.ndarray, int]) -> None:
    scores, root = case
    assert is_tree(maximum_spanning_tree(scores, root), root)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_no_tree_is_greater(size: int) -> None:
    rng = np.random.default_rng(size)
    for _ in range(10):
        scores, root = rng.random((size, size)), int(rng.integers(size))
        others = [place for place in range(size) if place != root]
        best = -np.inf
        for chosen in product(range(size), repeat=size - 1):
            heads = np.full(size, ROOT)
            heads[others] = chosen
            if is_tree(heads, root):
                best = max(best, scores[others, heads[others]].sum())
        found = maximum_spanning_tree(scores, root)
        assert scores[others, found[others]].sum() == pytest.approx(best)


def test_the_gold_tree_is_found_in_both_directions(
    nlp: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    def maps(trace: Trace) -> np.ndarray:
        gold = by_pieces(trace, heads_in(trace.doc))
        turned = by_pieces(trace, heads_in(trace.doc).T)
        backwards = by_pieces(trace, np.fliplr(np.eye(len(trace.doc))))
        return np.stack([backwards, turned, gold, backwards]).reshape(2, 2, *gold.shape)

    plant(monkeypatch, maps)
    rng = np.random.default_rng(1)
    docs = [parsed(nlp, rng, 7, 6) for _ in range(8)]
    counted: list[int] = []
    found = spanning_trees(nlp, docs, progress=counted.append)
    assert counted == [1] * 8
    # The column of head 0-1 and the row of head 1-0; the first of equals is named.
    assert (found.layer, found.head, found.direction) == (0, 1, "head to dependent")
    assert found.best == (1.0, 1.0)
    assert found.directed[1, 0, 0] == found.directed[0, 1, 1] == 1.0
    assert found.undirected[0, 0].max() < 0.8
    assert (found.directed <= found.undirected).all()
    scored = [token for doc in docs[1::2] for token in doc if token.dep_ in ("det", "obj")]
    distances = np.array([token.head.i - token.i for token in scored])
    assert (found.words, found.sentences) == (len(scored), 8)
    assert found.chain == pytest.approx((abs(distances) == 1).mean())
    assert found.offset_directed == pytest.approx((distances == found.offset).mean())


def test_attention_that_knows_nothing_is_at_chance(
    nlp: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree by chance holds any of the n (n - 1) / 2 joints with 2 / n."""
    rng = np.random.default_rng(2)
    size = 10

    def maps(trace: Trace) -> np.ndarray:
        length = len(trace.doc)
        heads = [by_pieces(trace, rng.random((length, length))) for _ in range(4)]
        return np.stack(heads).reshape(2, 2, *heads[0].shape)

    plant(monkeypatch, maps)
    found = spanning_trees(nlp, [parsed(nlp, rng, size) for _ in range(120)])
    assert found.undirected.mean() == pytest.approx(2 / size, abs=0.03)
    assert found.best[0] < 0.3


def test_uniform_attention_gives_no_tree_of_its_own(
    nlp: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    def maps(trace: Trace) -> np.ndarray:
        size = len(trace.pieces)
        return np.full((2, 2, size, size), 1 / size)

    plant(monkeypatch, maps)
    rng = np.random.default_rng(3)
    found = spanning_trees(nlp, [parsed(nlp, rng, 10) for _ in range(120)])
    assert found.best[0] < 0.3


def test_pruned_heads_and_too_few_docs(nlp: Language, checkpoint: object) -> None:
    rng = np.random.default_rng(4)
    docs = [parsed(nlp, rng, 6) for _ in range(6)]
    cut = pruned(checkpoint, {0: [0, 1]})  # type: ignore[arg-type]
    found = spanning_trees(cut, docs)
    assert np.isnan(found.undirected[0]).all()
    assert np.isfinite(found.directed[1]).all()
    assert found.layer == 1
    with pytest.raises(ValueError, match="1 Docs have no trees to choose a head on, or none to"):
        spanning_trees(nlp, docs[:1])
    with pytest.raises(ValueError, match="has no dependency tree"):
        spanning_trees(nlp, [nlp.make_doc("A list")])


def test_white_space_is_left_out(nlp: Language) -> None:
    words = ["a", "  ", "list", "\n", "order", "."]
    deps = ["det", "dep", "ROOT", "dep", "obj", "punct"]
    doc = Doc(nlp.vocab, words=words, heads=[2, 0, 2, 2, 2, 2], deps=deps)
    assert spanning_trees(nlp, [doc, doc]).words == 2  # "a" and "order"


def test_the_section(nlp: Language) -> None:
    rng = np.random.default_rng(5)
    report = Report("x")
    look_at_spanning_trees(
        Look(report=report, nlp=nlp, source="x"), [parsed(nlp, rng, 6) for _ in range(6)]
    )
    text, rows = report.said[-2:]
    assert "joining neighbours" in str(text)
    assert not isinstance(rows, str)
    names = [str(row["tree"]) for row in rows]
    assert names[0].startswith("head ")
    assert names[1::2] == ["neighbours joined", "mean of all heads"]
