"""What holds for any text, any tokenization and any batch."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

import spacy_bert
from spacy_bert.models.layout import LayoutOptions, lay_out
from spacy_bert.models.optimizer import build_adamw
from spacy_bert.models.segments import SEPARATOR
from spacy_bert.wordpiece import WordPiece
from tests.conftest import SENTENCES

VOCAB = spacy.blank("en").vocab
WORDS = [*" ".join(SENTENCES).split(), " ", "\n", "éa", "北京", "\u200b", "x" * 120, "can't"]
# A text may name special pieces ("[CLS]"): the tokenizer takes them for such, as Hugging Face's.
SHORT = st.text(max_size=15).map(lambda text: text.replace(SEPARATOR, "").replace("[", "("))
LONG = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join) | SHORT
# The first of several is read whole, with each of the others: it must leave them room.
SEGMENTED = st.tuples(LONG).map(list) | st.tuples(SHORT, LONG, LONG).map(list)


@pytest.fixture(scope="module")
def nlp(checkpoint: Path) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    nlp.add_pipe("bert_ner")
    nlp.add_pipe("bert_textcat")
    examples = [
        Example.from_dict(
            nlp.make_doc(text),
            {"entities": [(0, len(text.split()[0]), "X")], "cats": {"A": i % 2, "B": 1 - i % 2}},
        )
        for i, text in enumerate(SENTENCES)
    ]
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: examples, sgd=build_adamw(1e-3))
    for _ in range(10):
        nlp.update(examples, sgd=optimizer)
    nlp("the last step is taken")
    return nlp


def check(one: Doc, two: Doc) -> None:
    """The same up to rounding."""
    assert one.text == two.text
    if len(one):
        states = [d._.trf_data.model_output.last_hidden_state for d in (one, two)]
        np.testing.assert_allclose(*states, atol=1e-5)
    for label in ("A", "B"):
        assert one.cats[label] == pytest.approx(two.cats[label], abs=1e-5)
    # An argmax may tip over where two tags are as good: then the probabilities tell, not the tags.
    scores = [
        dict(zip(map(str, d.ents), d.spans["ents"].attrs["scores"], strict=True))
        for d in (one, two)
    ]
    for text in scores[0].keys() & scores[1].keys():
        assert scores[0][text] == pytest.approx(scores[1][text], abs=1e-4)


@settings(max_examples=25)
@given(texts=st.lists(SEGMENTED, min_size=1, max_size=6), data=st.data())
def test_batch_order_and_company_do_not_matter(
    nlp: Language, texts: list[list[str]], data: st.DataObject
) -> None:
    joined = [SEPARATOR.join(parts) for parts in texts]
    alone = [nlp(text) for text in joined]
    batch_size = data.draw(st.integers(1, 9))
    for one, two in zip(alone, nlp.pipe(joined, batch_size=batch_size), strict=True):
        check(one, two)
    order = data.draw(st.permutations(range(len(joined))))
    for i, two in zip(order, nlp.pipe(joined[i] for i in order), strict=True):
        check(alone[i], two)


@given(text=st.text(min_size=1, max_size=80), data=st.data())
def test_any_tokenization_is_aligned(wordpiece: WordPiece, text: str, data: st.DataObject) -> None:
    """Tokens cut at random, through words and pieces: each has every piece that it overlaps."""
    text = text.replace(SEPARATOR, "").replace(" ", "") or "x"
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(text) - 1, 1)), max_size=12)))
    words = [text[a:b] for a, b in pairwise([0, *cuts, len(text)]) if text[a:b]]
    spaces = data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    doc = Doc(VOCAB, words=words, spaces=spaces)
    (layout,) = lay_out([doc], wordpiece, LayoutOptions(window=1000, stride=500))
    assert layout is not None
    assert len(layout.align_lengths) == len(doc)
    (pieces,) = wordpiece.encode([doc.text])
    expected = [
        [
            i + 1
            for i, (a, b) in enumerate(pieces.offsets.tolist())
            if a < t.idx + len(t) and b > t.idx
        ]
        for t in doc
    ]
    found = np.split(layout.align_pieces, np.cumsum(layout.align_lengths)[:-1])
    assert [list(map(int, token)) for token in found] == expected


@settings(max_examples=25)
@given(parts=SEGMENTED)
def test_every_token_keeps_its_pieces_through_the_pipeline(nlp: Language, parts: list[str]) -> None:
    doc = nlp(spacy_bert.join(nlp, *parts))
    assert len(doc._.segments) == len(parts)
    if not len(doc):
        return
    data = doc._.trf_data
    assert len(data.align.lengths) == len(doc)
    strings = [piece for row in data.wordpieces.strings for piece in row]
    assert all(strings[i] not in ("[CLS]", "[SEP]", "[PAD]") for i in data.align.dataXd.reshape(-1))
    assert max(data.wordpieces.lengths) <= 64
