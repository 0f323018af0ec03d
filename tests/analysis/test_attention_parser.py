"""The probe that parses by attention: its scores by hand, planted trees, baselines, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from spacy.language import Language
from spacy.tokens import Doc

import spacy_bert
from spacy_bert.analysis.attention_features import ParsedSentence, ParsedSentences, WordVectors
from spacy_bert.analysis.attention_parser import (
    AttentionParsing,
    Batch,
    Probe,
    attention_parser,
    predict,
)
from spacy_bert.analysis.head_maps import kept_heads
from spacy_bert.analysis.trace import Trace
from spacy_bert.analysis.trees import ROOT
from tests.analysis.planted import plant, pruned
from tests.analysis.test_head_relations import heads_in, parsed


def random_sentence(rng: np.random.Generator, words: int, width: int) -> ParsedSentence:
    return ParsedSentence(
        attention=rng.random((3, words, words), dtype=np.float32),
        special=rng.random((3, 4, words), dtype=np.float32),
        vectors=rng.random((words, width), dtype=np.float32),
        heads=np.full(words, ROOT),
        scored=np.ones(words, dtype=bool),
    )


@pytest.mark.parametrize("width", [0, 5])
def test_scores_are_the_formula(width: int) -> None:
    rng = np.random.default_rng(0)
    sentences = [random_sentence(rng, words, width) for words in (4, 1, 6)]
    probe = Probe(3, width)
    for parameter in probe.parameters():
        torch.nn.init.normal_(parameter)
    weights, root, of_words = (
        p.detach().numpy() for p in (probe.weights, probe.root, probe.of_words)
    )
    scores = probe(Batch.of(sentences)).detach().numpy()
    assert scores.shape == (3, 6, 7)
    for found, sentence in zip(scores, sentences, strict=True):
        a, v = sentence.attention, sentence.vectors
        words = a.shape[1]
        for j in range(words):
            for i in range(words):
                if i == j:
                    continue
                from_j = weights[0] + v[j] @ of_words[0, 0] + v[i] @ of_words[0, 1]
                to_j = weights[1] + v[j] @ of_words[1, 0] + v[i] @ of_words[1, 1]
                expected = (from_j * a[:, j, i] + to_j * a[:, i, j]).sum()
                assert found[j, i] == pytest.approx(expected, abs=1e-4)
            expected = (root * sentence.special[:, :, j]).sum() + probe.bias.item()
            assert found[j, -1] == pytest.approx(expected, abs=1e-4)
            assert np.isneginf(found[j, j])
            assert np.isneginf(found[j, words:-1]).all()
        guess = predict(probe, sentence)
        likeliest = found[:words].argmax(axis=1)
        np.testing.assert_array_equal(guess, np.where(likeliest == 6, ROOT, likeliest))


def test_what_waits_on_disk_is_the_trace(narrow: Language) -> None:
    rng = np.random.default_rng(1)
    docs = [parsed(narrow, rng, 7, 5), parsed(narrow, rng, 16, 16, 16)]
    assert len(spacy_bert.trace(narrow, docs)[1].reading.lengths) > 1
    kept = np.array([[True, True], [False, True]])
    with ParsedSentences(kept, WordVectors(narrow, None)) as sentences:
        for trace in spacy_bert.trace(narrow, docs):
            sentences.add(trace)
        assert len(sentences) == 5
        numbers = iter(range(5))
        for trace in spacy_bert.trace(narrow, docs):
            attention = trace.tokens().attention[kept]
            special = trace.tokens(special=True)
            to_cls = special.attention[kept][..., np.array(special.labels) == "[CLS]"].sum(axis=-1)
            for sent in trace.doc.sents:
                found = sentences[next(numbers)]
                own = slice(sent.start, sent.end)
                np.testing.assert_allclose(found.attention, attention[:, own, own], atol=1e-3)
                rows = np.isin(special.token_of_unit, range(sent.start, sent.end))
                np.testing.assert_allclose(found.special[:, 0], to_cls[:, rows], atol=1e-3)
                np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1.0, atol=1e-2)
                assert found.heads.tolist() == [
                    ROOT if t.head == t else t.head.i - sent.start for t in sent
                ]
                assert found.scored.tolist() == [t.dep_ != "punct" for t in sent]
        # The same word has the same vector, whatever stands around it.
        first = {t.text: sentences[0].vectors[i] for i, t in enumerate(next(docs[0].sents))}
        for i, token in enumerate(list(docs[0].sents)[1]):
            if token.text in first:
                np.testing.assert_array_equal(sentences[1].vectors[i], first[token.text])


def show_trees(trace: Trace) -> np.ndarray:
    """0-0 looks at heads, and the root at [CLS]; 0-1 at dependents; layer 1 at all alike."""
    doc, of = trace.doc, np.float64(trace.token_members)
    gold = heads_in(doc) * (1 - np.eye(len(doc)))
    looking, looked_at = of @ gold @ of.T, of @ gold.T @ of.T
    roots = [token.i for token in doc if token.head == token]
    looking[:, 0] = of[:, roots].sum(axis=1)
    even = np.full_like(looking, 1 / len(looking))
    return np.stack([looking, looked_at, even, even]).reshape(2, 2, *even.shape)


def parse(nlp: Language, docs: list[Doc], **options: object) -> AttentionParsing:
    options = {"epochs": 20, "batch_size": 4, "learning_rate": 0.1, **options}
    return attention_parser(nlp, docs, **options)  # type: ignore[arg-type]


def test_planted_trees_are_found(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, show_trees)
    rng = np.random.default_rng(2)
    docs = [parsed(nlp, rng, 6, 4) for _ in range(20)]
    counted: list[int] = []
    found = parse(nlp, docs, progress=counted.append)
    assert counted == [1] * (20 + 20)
    assert found.uas == 1.0
    assert (found.learned, found.sentences) == (32, 8)
    held_out = [t for doc in docs[::5] for t in doc if t.dep_ != "punct"]
    assert found.words == len(held_out)
    assert len(found.losses) == 20
    assert found.losses[-1] < 0.1 < found.losses[0]
    looking, looked_at = found.weights[0, 0, 0], found.weights[0, 1, 0]
    assert looking > 1.0  # and what looks at the word is its dependent:
    assert looked_at < 0.0
    assert found.weights[0, 1, 1] > 1.0  # from a word to the dependent: its head looks at it
    again = parse(nlp, docs)
    np.testing.assert_array_equal(again.weights, found.weights)


def test_baselines_by_hand(nlp: Language) -> None:
    rng = np.random.default_rng(3)
    docs = [parsed(nlp, rng, 5, 3) for _ in range(6)]
    test = [parsed(nlp, rng, 6, 4) for _ in range(4)]
    found = parse(nlp, docs, test=test, epochs=1)

    def uas(parsed: list[Doc], offset: int) -> float:
        right = []
        for doc in parsed:
            for sent in doc.sents:
                for token in sent:
                    guess = token.i + offset
                    head = token.i if not sent.start <= guess < sent.end else guess
                    if token.dep_ != "punct":
                        right.append(token.head.i == head)
        return float(np.mean(right))

    assert found.next_word == pytest.approx(uas(test, 1))
    assert found.previous_word == pytest.approx(uas(test, -1))
    best = max(uas(docs, offset) for offset in (-3, -2, -1, 1, 2))
    assert uas(docs, found.offset) == best
    assert found.offset_uas == pytest.approx(uas(test, found.offset))


def test_words_tell_which_head_to_trust(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    def maps(trace: Trace) -> np.ndarray:
        # Of "keys", 0-0 shows the head and 0-1 another word; of other words it is the reverse.
        found = np.zeros((2, 2, len(trace.pieces), len(trace.pieces)))
        for token in trace.doc:
            others = [t.i for t in trace.doc if t.i not in (token.i, token.head.i)]
            for head, right in enumerate((token.text == "keys", token.text != "keys")):
                found[
                    0, head, token.i + 1, 1 + (token.head.i if right else others[token.i % 4])
                ] = 1.0
        found[1, 0, 1 + next(t.i for t in trace.doc if t.head == t), 0] = 1.0
        return found

    plant(monkeypatch, maps)
    rng = np.random.default_rng(4)
    docs = []
    for _ in range(30):
        made = parsed(nlp, rng, 6)
        words = rng.choice(["keys", "keys", "list", "order"], 6).tolist()
        heads, deps = [t.head.i for t in made], [t.dep_ for t in made]
        docs.append(Doc(nlp.vocab, words=words, heads=heads, deps=deps))
    without, with_words = (parse(nlp, docs, words=words) for words in (False, True))
    assert (without.with_words, with_words.with_words) == (False, True)
    assert without.uas < with_words.uas == 1.0


def test_pruned_heads_are_left_out(checkpoint: Path) -> None:
    nlp = pruned(checkpoint, {1: [1]})
    assert kept_heads(nlp).tolist() == [[True, True], [True, False]]
    rng = np.random.default_rng(5)
    found = parse(nlp, [parsed(nlp, rng, 4) for _ in range(5)], epochs=1)
    assert np.isnan(found.weights).all(axis=2).tolist() == [[False, False], [False, True]]


def test_what_cannot_be_learned(nlp: Language) -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(ValueError, match="0 Docs have no words to learn from"):
        parse(nlp, [parsed(nlp, rng, 4)])
    with pytest.raises(ValueError, match="0 Docs have no words to score on"):
        parse(nlp, [parsed(nlp, rng, 4)], test=[])
    with pytest.raises(ValueError, match="no dependency tree"):
        parse(nlp, [parsed(nlp, rng, 4)], test=[nlp.make_doc("A list")])
