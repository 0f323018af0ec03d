"""Gold answers: characters -> pieces -> characters, and what cannot be one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

import spacy_bert
from spacy_bert.models.pooling import pool_windows
from spacy_bert.models.windows import Windows
from spacy_bert.pipeline.answer_gold import MISSING, find_targets, gold_characters, locate
from tests.conftest import SENTENCES
from tests.pipeline.questions import KEY, example, gold, qa_pipeline

CONTEXT = "Paris can't pay $5. Façades of the mid-1980s, naïve 北京 and a1b (1848). " + SENTENCES[0]
ANSWERS = [
    "Paris",
    "can't",
    "can",
    "n't",
    "$5",
    "$5.",
    "5",
    "1980",
    "mid-1980s",
    "Façades",
    "naïve",
]
ANSWERS += ["naïve 北京", "京", "a1b (1848)", "1848", "b", "fox jumps over the lazy dog."]
WORDS = [*CONTEXT.split(), "\n", "x" * 20, "cannot", "it's", "\u200b"]


@pytest.fixture(scope="module")
def nlp(checkpoint: Path) -> Language:
    nlp, _ = qa_pipeline(checkpoint, encoder={"stride": 30})
    nlp.initialize()
    return nlp


def encode(nlp: Language, doc: Doc) -> Windows:
    (windows,) = pool_windows().predict([nlp.get_pipe("bert")(doc)._.trf_data])
    return windows


@pytest.mark.parametrize("answer", ANSWERS)
def test_round_trip(nlp: Language, answer: str) -> None:
    doc = gold(nlp, "What is it?", CONTEXT, answer)
    start, end = gold_characters(example(nlp, doc), KEY)
    assert doc.text[start:end] == answer
    assert start == doc.text.index(answer, 12)
    windows = encode(nlp, nlp.make_doc(doc.text))
    found = find_targets(windows, (start, end))
    shown = np.flatnonzero(found.any(axis=1))
    assert 0 < len(shown) <= len(windows.lengths)
    for window in shown:
        first, last = windows.starts[window] + found[window]
        text = doc.text[windows.offsets[first, 0] : windows.offsets[last, 1]]
        # A piece is not cut: this vocabulary has no "$5", "a1b" or "n't" of its own.
        assert answer in text
        assert len(text.split()) == len(answer.split())
    exact = {"Paris", "can't", "mid-1980s", "naïve", "1848", "Façades", "$5."}
    if answer in exact:
        assert text == answer


def test_a_window_must_show_the_whole_answer(nlp: Language) -> None:
    """All stretches of four tokens in a text: some windows begin or end inside of one."""
    doc = spacy_bert.join(nlp, "Who?", " ".join(SENTENCES))
    windows = encode(nlp, doc)
    cut = {"begin": 0, "end": 0}
    for token in doc[3:-3]:
        behind = token.nbor(3)
        if not (token.is_alpha and token.whitespace_ and behind.whitespace_):
            continue  # "isn't" is two tokens, but no piece begins where the second one does
        start, end = token.idx, behind.idx + len(behind)
        found = find_targets(windows, (start, end))
        for window, targets in enumerate(found.tolist()):
            inside = windows.window_of == window
            first = np.flatnonzero(inside & (windows.offsets[:, 0] == start))
            last = np.flatnonzero(inside & (windows.offsets[:, 1] == end))
            if len(first) and len(last):
                assert targets == windows.position_of[[*first, *last]].tolist()
            else:
                assert targets == [0, 0]
                cut["begin"] += len(last)
                cut["end"] += len(first)
    assert min(cut.values()) > 0


@settings(max_examples=40)
@given(words=st.lists(st.sampled_from(WORDS), min_size=30, max_size=60), data=st.data())
def test_any_pieces_are_found_again_by_their_characters(
    nlp: Language, words: list[str], data: st.DataObject
) -> None:
    windows = encode(nlp, spacy_bert.join(nlp, "Who?", " ".join(["It", *words])))
    first = data.draw(st.sampled_from(np.flatnonzero(windows.is_second).tolist()))
    window = windows.window_of[first]
    same = np.flatnonzero(windows.is_second & (windows.window_of == window))
    last = data.draw(st.sampled_from(same[same >= first].tolist()))
    gold = int(windows.offsets[first, 0]), int(windows.offsets[last, 1])
    found = find_targets(windows, gold)
    assert found[window].tolist() == windows.position_of[[first, last]].tolist()
    shown = np.flatnonzero(found.any(axis=1))
    rows = windows.starts[shown, None] + found[shown]
    assert (windows.offsets[rows[:, 0], 0] == gold[0]).all()
    assert (windows.offsets[rows[:, 1], 1] == gold[1]).all()


def test_no_answer_is_cls_and_what_no_piece_shows_is_missing(nlp: Language) -> None:
    doc = gold(nlp, "Who?", "one \u200b two")
    windows = encode(nlp, nlp.make_doc(doc.text))
    assert gold_characters(example(nlp, doc), KEY) is None
    assert not find_targets(windows, None).any()
    unseen = doc.text.index("\u200b")
    assert (find_targets(windows, (unseen, unseen + 1)) == MISSING).all()


def test_another_tokenization_and_other_white_space(nlp: Language) -> None:
    doc = gold(nlp, "Who?", "It was  the mid-1980s.", "1980")
    predicted = Doc(nlp.vocab, words=["Who", "?", "\x1e", "It", "was", "the", "mid", "-1980s."])
    start, end = gold_characters(Example(predicted, doc), KEY)
    assert predicted.text != doc.text
    assert predicted.text[start:end] == "1980"


def test_the_first_alternative_is_learned(nlp: Language) -> None:
    doc = gold(nlp, "Who?", "a fox and a dog", "dog", "fox")
    start, end = gold_characters(example(nlp, doc), KEY)
    assert doc.text[start:end] == "dog"


def test_a_text_that_occurs_twice_in_its_tokens_touches_both_ends(nlp: Language) -> None:
    doc = Doc(nlp.vocab, words=["1848", "to", "1848"])
    assert locate(doc[2:], "1848") == (8, 12)
    assert locate(doc[:], "8 to 1") == (3, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": [(0, 1)]}, "the gold answer 'Who' stands in the first segment"),
        ({"answers": [(3, 5)], "texts": ["cat"]}, "the gold text 'cat' is not in its span 'a fox'"),
        ({"answers": [(3, 5)], "texts": ["a"]}, "the gold text 'a' is not in its span 'a fox'"),
        ({"answers": [(3, 5)], "texts": [""]}, "the gold text '' is not in its span"),
        ({"answers": [(3, 4)], "texts": []}, "has 1 answers, but its attrs have 0 texts"),
        ({"answers": [(3, 9)]}, "runs over the border of two segments"),
    ],
)
def test_what_cannot_be_an_answer_is_refused(
    nlp: Language, change: dict[str, list], message: str
) -> None:
    doc = spacy_bert.join(nlp, "Who ?", "a fox ran .", "a dog")
    doc.spans[KEY] = [doc[a:b] for a, b in change["answers"]]
    if "texts" in change:
        doc.spans[KEY].attrs["texts"] = change["texts"]
    with pytest.raises(ValueError, match=message) as caught:
        gold_characters(example(nlp, doc), KEY)
    assert "\n" not in str(caught.value)


def test_answers_without_a_question_are_refused(nlp: Language) -> None:
    doc = nlp.make_doc("a fox ran")
    doc.spans[KEY] = [doc[:2]]
    with pytest.raises(ValueError, match=r"^no question: .*spacy_bert\.join\(nlp, question, cont"):
        gold_characters(example(nlp, doc), KEY)
