"""Batches: no batch is larger than asked, no text is lost."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.training import Example

from spacy_bert.models.batchers import build_batch_by_length, build_batch_by_pieces
from spacy_bert.models.layout import LayoutOptions, lay_out
from spacy_bert.models.segments import join
from spacy_bert.wordpiece import WordPiece
from tests.conftest import SENTENCES

NLP = spacy.blank("en")


def pieces(doc: Doc, checkpoint: Path) -> int:
    (layout,) = lay_out([doc], WordPiece.load(checkpoint), LayoutOptions())
    return 0 if layout is None else sum(layout.lengths)


@given(
    texts=st.lists(st.sampled_from([*SENTENCES, "", "a", " ".join(SENTENCES)]), max_size=80),
    size=st.integers(1, 200),
    max_docs=st.none() | st.integers(1, 5),
)
def test_batches_hold_what_they_should(
    checkpoint: Path, texts: list[str], size: int, max_docs: int | None
) -> None:
    docs = [NLP.make_doc(text) for text in texts]
    batcher = build_batch_by_pieces(size, str(checkpoint), max_docs=max_docs)
    batches = list(batcher(docs))
    assert list(itertools.chain(*batches)) == docs
    sizes = [[pieces(doc, checkpoint) for doc in batch] for batch in batches]
    assert all(sum(found) <= size or len(found) == 1 for found in sizes)
    if max_docs is not None:
        assert all(len(batch) <= max_docs for batch in batches)
    else:  # as full as it can be: the next Doc would not have fitted
        for found, following in itertools.pairwise(sizes):
            assert sum(found) + following[0] > size


def test_examples_schedules_and_oversize(checkpoint: Path) -> None:
    examples = [Example(NLP(text), NLP(text)) for text in SENTENCES]
    one = max(pieces(eg.predicted, checkpoint) for eg in examples)
    growing = build_batch_by_pieces(
        itertools.chain([one], itertools.repeat(10_000)), str(checkpoint)
    )
    assert [len(batch) for batch in growing(examples)] == [1, len(examples) - 1]
    strict = build_batch_by_pieces(one - 1, str(checkpoint), discard_oversize=True)
    assert len(list(itertools.chain(*strict(examples)))) == len(examples) - 1


def test_wrong_settings_are_named(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="size must be at least 1 piece, got 0"):
        build_batch_by_pieces(0, str(checkpoint))
    with pytest.raises(ValueError, match="tokenizer must name the encoder"):
        build_batch_by_pieces(9, None)
    with pytest.raises(ValueError, match="max_docs must be at least 1"):
        build_batch_by_pieces(9, str(checkpoint), max_docs=0)
    with pytest.raises(ValueError, match="/no/such/place: no such directory"):
        list(build_batch_by_pieces(9, "/no/such/place")([NLP("text")]))


@given(
    lengths=st.lists(st.integers(0, 30), max_size=60),
    size=st.integers(1, 9),
    buffer=st.integers(1, 40),
    seed=st.integers(0, 3),
)
def test_like_lengths_come_together(lengths: list[int], size: int, buffer: int, seed: int) -> None:
    docs = [Doc(NLP.vocab, words=["a"] * length) for length in lengths]

    def batches() -> list[list[Doc]]:
        random.seed(seed)
        return list(build_batch_by_length(size, buffer)(docs))

    found = batches()
    assert found == batches()  # by the seed
    assert sorted(map(id, itertools.chain(*found))) == sorted(map(id, docs))
    for start in range(0, len(docs), buffer):
        here = {id(doc) for doc in docs[start : start + buffer]}
        inside = [batch for batch in found if id(batch[0]) in here]
        assert all(id(doc) in here for batch in inside for doc in batch)
        assert sum(len(batch) < size for batch in inside) <= 1
        ranges = sorted((len(batch[0]), len(batch[-1])) for batch in inside)
        assert all(high <= low for (_, high), (low, _) in itertools.pairwise(ranges))


def test_batches_of_like_length_in_random_order_and_by_schedule() -> None:
    docs = [Doc(NLP.vocab, words=["a"] * length) for length in range(100)]
    random.seed(0)
    lengths = [len(batch[0]) for batch in build_batch_by_length(5)(docs)]
    assert lengths != sorted(lengths)
    assert sorted(lengths) == list(range(0, 100, 5))
    examples = [Example(doc, doc) for doc in docs]
    growing = build_batch_by_length(itertools.count(1))(examples)
    assert sorted(len(batch) for batch in growing) == sorted([*range(1, 14), 100 - 13 * 14 // 2])
    for settings, message in (((0,), "size must be at least 1"), ((1, 0), "buffer must be")):
        with pytest.raises(ValueError, match=message):
            build_batch_by_length(*settings)


def test_pairs_that_no_window_takes_are_left_to_the_encoder(checkpoint: Path) -> None:
    nlp = spacy.blank("en")
    pair = join(nlp, "word " * 600, "word " * 600)
    docs = [nlp.make_doc("short"), pair, nlp.make_doc("short")]
    batches = list(build_batch_by_pieces(100, str(checkpoint))(docs))
    assert [len(batch) for batch in batches] == [1, 1, 1]
