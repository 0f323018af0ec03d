"""Neighbours joined to texts of random length."""

from __future__ import annotations

from itertools import chain, pairwise
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus, Example

from spacy_bert.datasets.joined import build_joined_corpus, join_examples

NLP = spacy.blank("en")
SENTENCES = [
    (["Ada", "lived", "in", "London", "."], ["B-PER", "O", "O", "B-LOC", "O"]),
    (["She", "wrote", "."], ["O", "O", "O"]),
    (["Paris", "too", "!"], ["B-LOC", "O", "O"]),
]


def examples(count: int) -> list[Example]:
    found = []
    for i in range(count):
        words, ents = SENTENCES[i % 3]
        heads = [1] * len(words)
        reference = Doc(
            NLP.vocab, words=words, ents=ents, tags=words, heads=heads, deps=["dep"] * len(words)
        )
        found.append(Example(Doc(NLP.vocab, words=words), reference))
    return found


def words_of(docs: list[Doc]) -> list[str]:
    return [token.text for doc in docs for token in doc]


def test_nothing_is_lost_and_lengths_vary() -> None:
    corpus = examples(300)
    reader = build_joined_corpus(lambda nlp: corpus, max_tokens=60, seed=1)
    joined = list(reader(NLP))
    assert words_of([e.reference for e in joined]) == words_of([e.reference for e in corpus])
    assert words_of([e.predicted for e in joined]) == words_of([e.reference for e in corpus])
    lengths = [len(e.predicted) for e in joined]
    assert min(lengths) <= 5
    assert 30 < max(lengths) <= 60 + 5
    gold = [(e.text, e.label_) for x in joined for e in x.reference.ents]
    assert gold == [(e.text, e.label_) for x in corpus for e in x.reference.ents]
    again = [len(e.predicted) for e in reader(NLP)]
    assert again != lengths, "each pass cuts anew"
    same = build_joined_corpus(lambda nlp: corpus, max_tokens=60, seed=1)
    assert [len(e.predicted) for e in same(NLP)] == lengths


def test_annotations_move_with_their_tokens() -> None:
    example = join_examples(examples(3))
    reference = example.reference
    assert reference.text.strip() == "Ada lived in London . She wrote . Paris too !"
    assert [t.tag_ for t in reference] == [t.text for t in reference]
    starts = [0, 5, 8]
    assert [t.head.i for t in reference] == list(
        chain(*([start + 1] * (end - start) for start, end in pairwise([*starts, 11])))
    )
    assert [sent.start for sent in reference.sents] == starts
    assert example.get_aligned_ner()[0] == "U-PER"
    (alone,) = single = examples(1)
    assert join_examples(single) is alone


def test_reads_any_corpus(tmp_path: Path) -> None:
    docs = DocBin(docs=[e.reference for e in examples(9)])
    docs.to_disk(tmp_path / "train.spacy")
    corpus = Corpus(tmp_path / "train.spacy", gold_preproc=True)
    joined = list(build_joined_corpus(corpus, max_tokens=1000, seed=4)(NLP))
    assert sum(len(e.reference.ents) for e in joined) == 9
    assert len(joined) < 9


def test_a_wrong_length_is_named() -> None:
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        build_joined_corpus(lambda nlp: [], max_tokens=0)
