"""Pieces of all windows: their rows, and where they stand in the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy_transformers.data_classes import TransformerData

import spacy_bert
from spacy_bert.models.layout import LayoutOptions, lay_out
from spacy_bert.models.pooling import pool_windows
from spacy_bert.models.segments import SEPARATOR
from spacy_bert.models.windows import Windows
from spacy_bert.wordpiece import WordPiece
from tests.conftest import SENTENCES

ODD = "It can't cost $5.50; façades of the mid-1980s, naïve 北京 (1848) …"
VOCAB = spacy.blank("en").vocab


@pytest.fixture(scope="module")
def nlp(checkpoint: Path) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint), "stride": 20}})
    return nlp


def windows_of(data: TransformerData) -> Windows:
    (windows,) = pool_windows().predict([data])
    return windows


@given(
    parts=st.lists(
        st.text(max_size=40).map(lambda text: text.replace(SEPARATOR, "").replace("[", "(")),
        min_size=1,
        max_size=3,
    )
)
def test_each_piece_covers_the_characters_that_the_tokenizer_says(
    wordpiece: WordPiece, parts: list[str]
) -> None:
    doc = spacy_bert.join(spacy.blank("en"), *parts)
    (layout,) = lay_out([doc], wordpiece, LayoutOptions(window=500))
    if layout is None:
        assert not len(doc)
        return
    expected: list[tuple[int, int]] = []
    spans = doc._.segments
    for pair in [spans] if len(spans) == 1 else [(spans[0], other) for other in spans[1:]]:
        expected.append((-1, -1))
        for span in pair:
            (encoded,) = wordpiece.encode([span.text])
            expected += [(a + span.start_char, b + span.start_char) for a, b in encoded.offsets]
            expected.append((-1, -1))
    np.testing.assert_array_equal(layout.offsets, expected)


def test_a_piece_covers_the_same_characters_in_every_window(
    nlp: Language, wordpiece: WordPiece
) -> None:
    doc = nlp(spacy_bert.join(nlp, "Who is it?", " ".join([ODD, *SENTENCES])))
    data = doc._.trf_data
    windows = windows_of(data)
    assert len(windows.lengths) > 3
    strings = np.array(data.wordpieces.strings)[windows.window_of, windows.position_of]
    shown = windows.offsets[:, 0] >= 0
    assert set(strings[~shown]) == {"[CLS]", "[SEP]"}
    for string, (start, end) in zip(strings[shown], windows.offsets[shown], strict=True):
        if string != "[UNK]":
            (piece,) = wordpiece.encode([doc.text[start:end]])
            assert string.removeprefix("##") == "".join(
                wordpiece.tokens[i].removeprefix("##") for i in piece.ids
            )
    border = doc.text.index(SEPARATOR)
    np.testing.assert_array_equal(windows.is_second, windows.offsets[:, 0] > border)


def test_each_token_is_best_seen_in_one_window(nlp: Language) -> None:
    doc = nlp(spacy_bert.join(nlp, "Who is it?", " ".join([ODD, *SENTENCES])))
    windows = windows_of(doc._.trf_data)
    for token in doc:
        touches = windows.offsets[:, 1] > token.idx
        touches &= windows.offsets[:, 0] < token.idx + len(token)
        if token.is_space:
            assert not touches.any()
            continue
        best = np.flatnonzero(touches & windows.is_best)
        whole = windows.offsets[best]
        assert whole[:, 0].min() <= token.idx
        assert whole[:, 1].max() >= token.idx + len(token)
        if token.whitespace_ and (not token.i or token.nbor(-1).whitespace_):
            assert len(set(windows.window_of[best])) == 1


def test_rows_are_the_states_without_padding_and_gradients_go_back(nlp: Language) -> None:
    long, short = (
        nlp(spacy_bert.join(nlp, "Who?", text))._.trf_data for text in (ODD + ODD, "Me.")
    )
    batch = [long, TransformerData.empty(), short]
    windows, backprop = pool_windows()(batch, True)
    assert [len(w.rows) for w in windows] == [sum(d.wordpieces.lengths) for d in batch]
    states = [d.model_output.last_hidden_state for d in (long, short)]
    assert len(set(long.wordpieces.lengths)) > 1, "some windows are padded"
    for i, state in ((0, states[0]), (2, states[1])):
        np.testing.assert_array_equal(
            windows[i].rows, state[windows[i].window_of, windows[i].position_of]
        )
    gradients = backprop([np.full_like(w.rows, number + 1) for number, w in enumerate(windows)])
    for gradient, data, value in zip(gradients, (long, short), (1.0, 3.0), strict=True):
        mask = data.wordpieces.attention_mask[..., None]
        expected = np.broadcast_to(mask * value, data.model_output.last_hidden_state.shape)
        np.testing.assert_array_equal(gradient.model_output.last_hidden_state, expected)


def test_data_of_another_encoder_say_nothing_of_the_text() -> None:
    windows = windows_of(TransformerData.zeros(3, 4))
    assert windows.rows.shape == (3, 4)
    assert (windows.offsets == -1).all()
    assert not windows.is_second.any()
