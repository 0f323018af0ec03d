"""Heads as parsers and pickers of antecedents: by hand, on planted maps, and on bad input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

import spacy_bert
from spacy_bert.analysis.head_relations import (
    DIRECTIONS,
    OFFSETS,
    RelationScore,
    coreference,
    head_relations,
)
from spacy_bert.analysis.trace import Trace
from spacy_bert.analysis.trees import ROOT, UNREAD, trees
from spacy_bert.datasets.conllu import read_conllu
from tests.analysis.planted import plant, pruned
from tests.shared_data import SHARED, needs_shared
from tests.weights import MINILM, needs_minilm

WORDS = ["keys", "values", "list", "order", "the", "dog", "Photosynthesis", "a", "string", "error"]


def parsed(nlp: Language, rng: np.random.Generator, *sizes: int) -> Doc:
    """Sentences of these sizes, with random words, trees and relations."""
    words: list[str] = []
    heads: list[int] = []
    deps: list[str] = []
    for size in sizes:
        first = len(words)
        order = rng.permutation(size)
        own = np.zeros(size, dtype=int)
        own[order[0]] = order[0]
        for place in range(1, size):
            own[order[place]] = order[rng.integers(place)]
        words += rng.choice(WORDS, size).tolist()
        heads += (first + own).tolist()
        found = rng.choice(["det", "obj", "punct"], size).tolist()
        found[order[0]] = "ROOT"
        deps += found
    return Doc(nlp.vocab, words=words, heads=heads, deps=deps)


def by_hand(
    nlp: Language, docs: Sequence[Doc], relation: str
) -> tuple[np.ndarray, np.ndarray, int]:
    """Accuracy of each head, (2, 2, 2), and of each offset, and the count: word by word."""
    heads, offsets, count = np.zeros((2, 2, 2)), np.zeros(len(OFFSETS)), 0
    for trace in spacy_bert.trace(nlp, docs):
        attention = trace.tokens().attention
        for token in trace.doc:
            if token.dep_ in ("ROOT", "punct") or relation not in ("all", token.dep_):
                continue
            count += 1
            offsets += [token.head.i - token.i == offset for offset in OFFSETS]
            others = [other.i for other in token.sent if other.i != token.i]
            for layer, head in np.ndindex(2, 2):
                maps = attention[layer, head]
                looks_at = max(others, key=lambda other: maps[token.i, other])
                looked_at_by = max(others, key=lambda other: maps[other, token.i])
                heads[layer, head] += [looks_at == token.head.i, looked_at_by == token.head.i]
    return heads / count, offsets / count, count


@pytest.mark.parametrize("held_out", [False, True])
def test_equal_to_word_by_word(nlp: Language, held_out: bool) -> None:
    rng = np.random.default_rng(0)
    docs = [parsed(nlp, rng, *rng.integers(1, 8, size=3)) for _ in range(12)]
    counted: list[int] = []
    found = head_relations(nlp, docs, held_out=held_out, minimum=1, progress=counted.append)
    assert counted == [1] * 12
    chosen, scored = (docs[::2], docs[1::2]) if held_out else (docs, docs)
    assert {score.relation for score in found.scores} == {"all", "det", "obj"}
    assert found.scores[0].relation == "all"
    for score, accuracy in zip(found.scores, found.accuracy, strict=True):
        heads, offsets, _ = by_hand(nlp, chosen, score.relation)
        best = np.unravel_index(heads.argmax(), heads.shape)
        offset = int(offsets.argmax())
        heads, offsets, count = by_hand(nlp, scored, score.relation)
        np.testing.assert_allclose(accuracy, heads)
        layer, head, direction = (int(index) for index in best)
        assert score == RelationScore(
            relation=score.relation,
            count=count,
            layer=layer,
            head=head,
            direction=DIRECTIONS[direction],
            accuracy=pytest.approx(heads[best]),
            offset=OFFSETS[offset],
            offset_accuracy=pytest.approx(offsets[offset]),
        )


def heads_in(doc: Doc) -> np.ndarray:
    """1 where the column is the head of the row, (tokens, tokens)."""
    maps = np.zeros((len(doc), len(doc)))
    for token in doc:
        maps[token.i, token.head.i] = 1.0
    return maps


def by_pieces(trace: Trace, maps: np.ndarray) -> np.ndarray:
    """A map of tokens as one of pieces; the largest weights go to [CLS] and the piece itself."""
    of = np.float64(trace.token_members)
    found = of @ maps @ of.T
    found[:, 0] = 5.0
    return found + 5.0 * np.eye(len(found))


def test_planted_parser(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    def maps(trace: Trace) -> np.ndarray:
        gold = by_pieces(trace, heads_in(trace.doc))
        turned = by_pieces(trace, heads_in(trace.doc).T)
        nothing = np.eye(len(gold))
        return np.stack([nothing, gold, turned, nothing]).reshape(2, 2, *gold.shape)

    plant(monkeypatch, maps)
    rng = np.random.default_rng(1)
    docs = [parsed(nlp, rng, 6, 5) for _ in range(6)]
    found = head_relations(nlp, docs, minimum=1, annotation="spaCy")
    assert (found.annotation, found.held_out, found.docs) == ("spaCy", True, 6)
    for score in found.scores:
        assert (score.layer, score.head, score.direction) == (0, 1, "dependent to head")
        assert score.accuracy == 1.0
        assert score.offset_accuracy < 0.9
    np.testing.assert_array_equal(found.accuracy[:, 0, 1, 0], 1.0)
    np.testing.assert_array_equal(found.accuracy[:, 1, 0, 1], 1.0)


def test_offsets_count_from_the_dependent(nlp: Language) -> None:
    words, heads = ["a", "list", "keys", "order"], [1, 1, 1, 1]
    deps = ["det", "ROOT", "obj", "det"]
    doc = Doc(nlp.vocab, words=words, heads=heads, deps=deps)
    found = head_relations(nlp, [doc], held_out=False, minimum=1)
    best = {score.relation: (score.offset, score.offset_accuracy) for score in found.scores}
    assert best["obj"] == (-1, 1.0)
    assert best["det"] == (-2, 0.5)  # the first of two equals


def test_white_space_is_no_word(nlp: Language) -> None:
    words = ["a", "  ", "list", "\n", "order", "."]
    deps = ["det", "dep", "ROOT", "dep", "obj", "punct"]
    doc = Doc(nlp.vocab, words=words, heads=[2, 0, 2, 2, 3, 2], deps=deps)
    read = spacy_bert.trace(nlp, doc).reading.align_lengths > 0
    (tree,) = trees(doc, read)
    assert tree.words.tolist() == [0, 2, 4, 5]
    assert tree.heads.tolist() == [1, ROOT, UNREAD, 1]
    assert tree.dependents.tolist() == [0]
    found = head_relations(nlp, [doc], held_out=False, minimum=1)
    assert [(score.relation, score.count) for score in found.scores] == [("all", 1), ("det", 1)]
    assert (found.scores[1].offset, found.scores[1].offset_accuracy) == (1, 1.0)


def test_rare_relations_are_left_out(nlp: Language) -> None:
    rng = np.random.default_rng(2)
    docs = [parsed(nlp, rng, 9) for _ in range(8)]
    docs.append(Doc(nlp.vocab, words=["a", "list"], heads=[1, 1], deps=["amod", "ROOT"]))
    found = head_relations(nlp, docs, minimum=2)
    names = [score.relation for score in found.scores]
    assert sorted(names) == ["all", "det", "obj"]
    assert found.left_out == {"amod": 1}
    # One there is in the half for choosing alone cannot be scored.
    names = [score.relation for score in head_relations(nlp, docs, minimum=1).scores]
    assert "amod" not in names
    names = [s.relation for s in head_relations(nlp, docs, minimum=1, held_out=False).scores]
    assert "amod" in names


def test_pruned_heads_are_left_out(checkpoint: Path) -> None:
    nlp = pruned(checkpoint, {0: [0, 1]})
    rng = np.random.default_rng(3)
    found = head_relations(nlp, [parsed(nlp, rng, 6) for _ in range(6)], minimum=1)
    assert np.isnan(found.accuracy[:, 0]).all()
    assert not np.isnan(found.accuracy[:, 1]).any()
    assert {score.layer for score in found.scores} == {1}


def test_what_cannot_be_scored(nlp: Language) -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(ValueError, match=r"Doc 1 \('A list'\) has no dependency tree: read a tree"):
        head_relations(nlp, [parsed(nlp, rng, 4), nlp.make_doc("A list")])
    with pytest.raises(ValueError, match="1 Docs have no dependents to score: give more"):
        head_relations(nlp, [parsed(nlp, rng, 4)])
    with pytest.raises(ValueError, match="no Docs to look at"):
        head_relations(nlp, [])


# Coreference

TEXT = "Ann met Bob . She said he saw her dog and it barked ."
MENTIONS = {"Ann": 0, "Bob": 1, "She": 0, "he": 1, "her": 0, "her dog": 2, "it": 2}


def mentions(nlp: Language) -> Doc:
    words = TEXT.split()
    doc = Doc(nlp.vocab, words=words)
    for cluster in range(3):
        starts = [
            (words.index(name.split()[0]), len(name.split()))
            for name, number in MENTIONS.items()
            if number == cluster
        ]
        doc.spans[f"coref_clusters_{cluster}"] = [doc[i : i + size] for i, size in starts]
    return doc


def test_planted_antecedents(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    def maps(trace: Trace) -> np.ndarray:
        words = [token.text for token in trace.doc]
        right = np.zeros((len(words), len(words)))
        last = np.zeros_like(right)
        for word, antecedent in [("She", "Ann"), ("he", "Bob"), ("her", "Ann"), ("it", "dog")]:
            right[words.index(word), words.index(antecedent)] = 1.0
            last[words.index(word), words.index("barked")] = 1.0  # no mention
            last[words.index(word), words.index("Bob")] = 0.5
        maps = [by_pieces(trace, one) for one in (last, last, right, last)]
        return np.stack(maps).reshape(2, 2, *maps[0].shape)

    plant(monkeypatch, maps)
    counted: list[int] = []
    found = coreference(nlp, [mentions(nlp)] * 3, progress=counted.append)
    assert counted == [1] * 3
    assert (found.layer, found.head, found.best, found.mentions) == (1, 0, 1.0, 4)
    np.testing.assert_allclose(found.accuracy, [[0.25, 0.25], [1.0, 0.25]])
    assert found.nearest == 0.25  # "it", of "her dog"
    assert found.first == 0.5  # "She" and "her", of "Ann"


def test_the_root_heads_a_mention(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    def maps(trace: Trace) -> np.ndarray:
        gold = np.zeros((4, 4))
        gold[3, [0, 2]] = 1.0, 0.5
        return np.broadcast_to(by_pieces(trace, gold), (2, 2, *[len(trace.pieces)] * 2))

    plant(monkeypatch, maps)
    for heads, right in [([0, 0, 0, 0], 1.0), ([1, 1, 1, 1], 0.0)]:
        doc = Doc(nlp.vocab, words=["list", "order", "keys", "it"], heads=heads, deps=["dep"] * 4)
        clusters = [[doc[0:2], doc[3:4]], [doc[2:3]]]
        found = coreference(nlp, [doc], clusters=lambda _, c=clusters: c, held_out=False)
        assert found.best == right
        assert (found.nearest, found.first) == (0.0, 1.0)


def test_without_antecedents(nlp: Language) -> None:
    doc = nlp.make_doc("A list keeps keys.")
    with pytest.raises(ValueError, match="no mentions with an antecedent"):
        coreference(nlp, [doc, doc])
    with pytest.raises(ValueError, match="no mentions with an antecedent"):
        coreference(nlp, [mentions(nlp)])
    assert coreference(nlp, [mentions(nlp)], held_out=False).mentions == 4


@needs_shared
@needs_minilm
def test_real_heads_beat_offsets() -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(MINILM)}})
    nlp.initialize()
    source = SHARED / "ud_en_ewt" / "en_ewt-ud-dev.conllu.gz"
    docs = list(read_conllu(source, nlp.vocab))[:600]
    found = {score.relation: score for score in head_relations(nlp, docs).scores}
    for relation in ("all", "det", "nsubj", "obj"):
        assert found[relation].accuracy > found[relation].offset_accuracy + 0.05
