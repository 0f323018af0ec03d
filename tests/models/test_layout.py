"""Layout: alignment, windows, and what they promise for any text."""

from __future__ import annotations

import dataclasses
import gzip
import json
import tempfile
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import spacy
from hypothesis import given, reject
from hypothesis import strategies as st
from spacy.tokens import Doc
from transformers import BertTokenizerFast

import spacy_bert
from spacy_bert.models import layout as layout_module
from spacy_bert.models.layout import DocLayout, LayoutOptions, lay_out
from spacy_bert.wordpiece import WordPiece
from tests.conftest import SENTENCES
from tests.shared_data import SHARED, needs_shared

NLP = spacy.blank("en")
SCRIPTS = [
    "한국어 문장은 자모로 나뉜다, 그렇지 않은가?",
    "ひらがなとカタカナ、そして漢字。東京タワー",
    "汉字没有空格，每个字都是一个词。",
    "اللغة العربية تُكتب من اليمين إلى اليسار.",
    "देवनागरी लिपि में लिखा हुआ वाक्य।",
    "Русский текст: ёлка, йод и щи!",
    "עברית נכתבת מימין לשמאל; שָׁלוֹם",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "Ελληνικά: Ὀδυσσεύς, σίγμα τελικό ς",
    "emoji 👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 e\u0301 n\u0303 é ñ o\u0302\u0323",
    "control\x00 char\x07acters\x1f, zero\u200bwidth, soft\xadhyphen, \ufffd, no\xa0break",
    "line\u2028separator\n\nand\ttab  spaces   [SEP] [MASK]ed " + "x" * 250,
]


def lay(doc: Doc, wordpiece: WordPiece, **options: object) -> DocLayout:
    (layout,) = lay_out([doc], wordpiece, LayoutOptions(**options))
    assert layout is not None
    return layout


def token_pieces(layout: DocLayout) -> list[np.ndarray]:
    return np.split(layout.align_pieces, np.cumsum(layout.align_lengths)[:-1])


def check_alignment(doc: Doc, wordpiece: WordPiece, tokenizer: BertTokenizerFast) -> int:
    """A one-window Doc: pieces equal Hugging Face's, and every overlap is aligned."""
    layout = lay(doc, wordpiece, window=100_000)
    encoding = tokenizer(doc.text, add_special_tokens=False, return_offsets_mapping=True)
    cls, *ids, sep = layout.pieces.tolist()
    assert (cls, sep) == (wordpiece.cls_id, wordpiece.sep_id)
    assert ids == encoding["input_ids"]
    expected: list[set[int]] = [set() for _ in doc]
    token_at = {i: t.i for t in doc for i in range(t.idx, t.idx + len(t))}
    for piece, (start, end) in enumerate(encoding["offset_mapping"], start=1):
        for char in range(start, end):
            if char in token_at:
                expected[token_at[char]].add(piece)
    assert [set(pieces.tolist()) for pieces in token_pieces(layout)] == expected
    return sum(map(len, expected))


@cache
def own_tokenizer() -> tuple[WordPiece, BertTokenizerFast]:
    wordpiece = WordPiece.train([*SENTENCES, *SCRIPTS] * 3, vocab_size=700)
    with tempfile.TemporaryDirectory() as folder:
        wordpiece.save(folder)
        return wordpiece, BertTokenizerFast.from_pretrained(folder)


@pytest.mark.parametrize("text", SCRIPTS + SENTENCES)
def test_alignment_in_all_scripts(text: str) -> None:
    assert check_alignment(NLP(text), *own_tokenizer()) > 0


@given(st.text())
def test_alignment_of_any_text(text: str) -> None:
    text = text.replace("\x1e", "")
    if text:
        check_alignment(NLP(text), *own_tokenizer())


@pytest.fixture(scope="module")
def bert_base() -> tuple[WordPiece, BertTokenizerFast]:
    folder = SHARED / "bert-base-uncased"
    return WordPiece.load(folder), BertTokenizerFast(str(folder / "vocab.txt"))


@needs_shared
@pytest.mark.parametrize("text", SCRIPTS)
def test_alignment_in_all_scripts_with_bert_base(
    text: str, bert_base: tuple[WordPiece, BertTokenizerFast]
) -> None:
    assert check_alignment(NLP(text), *bert_base) > 0


@needs_shared
def test_pieces_and_alignment_of_5000_wikipedia_paragraphs(
    bert_base: tuple[WordPiece, BertTokenizerFast],
) -> None:
    (source,) = (SHARED / "wikipedia_en").glob("*.jsonl.gz")
    seen = aligned = 0
    with gzip.open(source, "rt", encoding="utf8") as lines:
        for line in lines:
            for paragraph in filter(str.strip, json.loads(line)["text"].split("\n")):
                doc = NLP(paragraph)
                check_alignment(doc, *bert_base)
                seen += 1
                aligned += len(doc)
            if seen >= 5000:
                break
    assert seen >= 5000
    assert aligned > 100_000


def test_one_segment_is_cls_a_sep(wordpiece: WordPiece) -> None:
    layout = lay(NLP("the lazy dog"), wordpiece)
    assert layout.segment_ids.tolist() == [0] * len(layout.pieces)
    assert layout.positions.tolist() == list(range(len(layout.pieces)))


@given(st.text(min_size=1))
def test_a_short_doc_is_laid_out_as_by_windows(text: str) -> None:
    doc, options = NLP(text), LayoutOptions(window=400)
    wordpiece, _ = own_tokenizer()
    quick = lay_out([doc], wordpiece, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            layout_module,
            "_lay_out_whole",
            lambda tokens, part, pieces: layout_module._lay_out_windows(
                tokens, [part], pieces, options
            ),
        )
        slow = lay_out([doc], wordpiece, options)
    for one, other in zip(quick, slow, strict=True):
        assert one is not None
        for field in dataclasses.fields(DocLayout):
            mine, theirs = getattr(one, field.name), getattr(other, field.name)
            np.testing.assert_array_equal(mine, theirs)
            assert getattr(mine, "dtype", None) == getattr(theirs, "dtype", None)


def test_segments_are_paired_with_the_first(wordpiece: WordPiece) -> None:
    doc = spacy_bert.join(NLP, "the fox", "a dog", "the cells of plants")
    layout = lay(doc, wordpiece)
    a, b, c = (wordpiece.encode([s.text])[0].ids.tolist() for s in doc._.segments)
    cls, sep = wordpiece.cls_id, wordpiece.sep_id
    assert layout.pieces.tolist() == [cls, *a, sep, *b, sep, cls, *a, sep, *c, sep]
    assert layout.lengths == (len(a) + len(b) + 3, len(a) + len(c) + 3)
    first = (len(a) + 2) * [0] + (len(b) + 1) * [1]
    assert layout.segment_ids.tolist()[: layout.lengths[0]] == first
    # Tokens of A are seen twice and taken from the first reading; borders have no pieces.
    assert layout.align_pieces[: len(a)].tolist() == list(range(1, len(a) + 1))
    lengths = dict(zip([t.text for t in doc], layout.align_lengths.tolist(), strict=True))
    assert lengths["\x1e"] == 0


@given(
    words=st.lists(st.sampled_from(" ".join(SENTENCES).split()), min_size=1, max_size=150),
    borders=st.sets(st.integers(1, 149), max_size=2),
    window=st.integers(35, 90),
    share=st.floats(0.0, 1.0),
    slide=st.sampled_from(["first", "last"]),
)
def test_windows_cover_every_token_within_the_limit(
    words: list[str], borders: set[int], window: int, share: float, slide: str
) -> None:
    wordpiece, _ = own_tokenizer()
    stride = 1 + int(share * (window - 3))
    cuts = [0, *sorted(b for b in borders if b < len(words)), len(words)]
    parts = [" ".join(words[a:b]) for a, b in pairwise(cuts)]
    doc = spacy_bert.join(NLP, *parts)
    try:
        layout = lay(doc, wordpiece, window=window, stride=stride, slide=slide)
    except ValueError as error:
        if len(parts) > 1 and "leaves" in str(error):
            reject()
        raise
    assert max(layout.lengths) <= window
    assert sum(layout.lengths) == len(layout.pieces)
    whole = lay(doc, wordpiece, window=100_000)
    # Each token keeps all its pieces, in order, whatever the windows.
    for pieces, expected in zip(token_pieces(layout), token_pieces(whole), strict=True):
        assert layout.pieces[pieces].tolist() == whole.pieces[expected].tolist()
    starts = np.cumsum(layout.lengths) - layout.lengths
    assert (layout.pieces[starts] == wordpiece.cls_id).all()


WORDS = st.sampled_from(" ".join(SENTENCES).split())


@given(
    whole=st.lists(st.lists(WORDS, max_size=3), min_size=3, max_size=3),
    sliding=st.lists(st.lists(WORDS, max_size=120), min_size=3, max_size=3),
    slide=st.sampled_from(["first", "last"]),
)
def test_each_pair_has_the_windows_that_it_would_have_alone(
    whole: list[list[str]], sliding: list[list[str]], slide: str
) -> None:
    wordpiece, _ = own_tokenizer()
    context, *choices = (
        " ".join(words)
        for words in ([whole[0], *sliding] if slide == "last" else [sliding[0], *whole])
    )
    docs = [spacy_bert.join(NLP, context, *choices)]
    docs += [spacy_bert.join(NLP, context, choice) for choice in choices]
    layout, *alone = (lay(doc, wordpiece, window=90, stride=30, slide=slide) for doc in docs)
    assert layout.pairs.tolist() == [i for i, pair in enumerate(alone) for _ in pair.lengths]
    assert layout.pieces.tolist() == [piece for pair in alone for piece in pair.pieces]
    assert not any(pair.pairs.any() for pair in alone)


def test_a_token_takes_the_window_with_most_context(wordpiece: WordPiece) -> None:
    doc = NLP("the dog " * 60)
    layout = lay(doc, wordpiece, window=42, stride=20)
    windows = np.repeat(np.arange(len(layout.lengths)), layout.lengths)
    starts = np.arange(len(layout.lengths)) * 20
    for token, (pieces,) in enumerate(token_pieces(layout)[: 2 * 60]):
        ends = np.minimum(starts + 40, 120)
        inside = (starts <= token) & (token < ends)
        context = np.where(inside, np.minimum(token - starts, ends - token - 1), -1)
        assert windows[pieces] == context.argmax()


def test_no_room_for_the_sliding_segment_is_an_error(wordpiece: WordPiece) -> None:
    doc = spacy_bert.join(NLP, "the dog " * 20, "the fox " * 40)
    with pytest.raises(
        ValueError, match=r"segment 1 .* leaves 21 of the window's 64 .*: shorten it to 29 pieces$"
    ):
        lay(doc, wordpiece, window=64)
    with pytest.raises(ValueError, match=r"segment 2 .* 80 pieces; read whole, it leaves 0 of"):
        lay(doc, wordpiece, window=64, slide="first")
    short_second = spacy_bert.join(NLP, "the dog " * 40, "the fox")
    with pytest.raises(ValueError, match='or set slide = "first"'):
        lay(short_second, wordpiece, window=64)
    assert len(lay(short_second, wordpiece, window=64, slide="first").lengths) > 1
    assert len(lay(doc, wordpiece, window=80).lengths) > 1


def test_empty_and_blank_docs(wordpiece: WordPiece) -> None:
    empty, blank = NLP(""), NLP(" \n ")
    none, layout = lay_out([empty, blank], wordpiece, LayoutOptions())
    assert none is None
    assert layout is not None
    assert layout.pieces.tolist() == [wordpiece.cls_id, wordpiece.sep_id]
    assert layout.align_lengths.tolist() == [0] * len(blank)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 34}, "window must be at least 35"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"window": 40, "stride": 39}, r"stride must be at most 38 pieces .*, got 39"),
        ({"slide": "both"}, 'slide must be "first" or "last"'),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayoutOptions(**options)
