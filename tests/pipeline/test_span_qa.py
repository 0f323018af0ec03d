"""The component `bert_span_qa`."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.training import Example
from spacy_transformers.data_classes import TransformerData
from transformers import BertForQuestionAnswering

import spacy_bert
from spacy_bert.bert import PackedBatch
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.heads import head_shim
from spacy_bert.models.optimizer import build_adamw
from tests.conftest import SENTENCES
from tests.pipeline.questions import (
    CONTEXT,
    GOLD,
    KEY,
    docs,
    example,
    examples,
    finder,
    gold,
    qa_pipeline,
)

# Learning


def test_learns_exact_answers_alternatives_and_silence(reader: Language) -> None:
    scores = reader.evaluate(examples(reader))
    assert scores["answers_em"] == scores["answers_f1"] == 1.0
    assert scores["answers_no_em"] == scores["answers_has_em"] == scores["answers_best_f1"] == 1.0
    for doc, (_, texts) in zip(reader.pipe(docs(reader)), GOLD, strict=True):
        best, *others = doc._.answers
        group = doc.spans[KEY]
        assert group.attrs["scores"] == ([best.score] if texts else [])
        assert best.probability > 0.5
        if not texts:
            assert (best.text, best.start_char, best.end_char) == ("", -1, -1)
            assert best.is_null
            assert list(group) == group.attrs["texts"] == []
            continue
        assert best.text == texts[0], "the first alternative is learned"
        assert doc.text[best.start_char : best.end_char] == best.text
        assert group.attrs["texts"] == [best.text]
        (span,) = group
        assert span.start_char <= best.start_char < best.end_char <= span.end_char
        assert len(others) == 20
        assert sum(answer.probability for answer in doc._.answers) == pytest.approx(1.0)
        assert len({(a.start_char, a.end_char) for a in doc._.answers}) == 21
        ranked = [answer.score for answer in doc._.answers if not answer.is_null]
        assert ranked == sorted(ranked, reverse=True)


def test_ask(reader: Language) -> None:
    answer = spacy_bert.ask(reader, "Since when?", CONTEXT)
    assert answer.text == "mid-1980s"
    assert CONTEXT[answer.start_char : answer.end_char] == "mid-1980s"
    several = spacy_bert.ask(reader, [question for question, _ in GOLD], CONTEXT)
    assert [a.text for a in several] == [texts[0] if texts else "" for _, texts in GOLD]
    assert (several[-1].start_char, several[-1].end_char) == (-1, -1)
    assert spacy_bert.ask(reader, [], CONTEXT) == []
    for pipeline in (spacy.blank("en"), spacy.blank("en")):
        with pytest.raises(ValueError, match='no component "bert_span_qa", which ask'):
            spacy_bert.ask(pipeline, "Who?", CONTEXT)
    with reader.select_pipes(disable=["bert_span_qa"]), pytest.raises(ValueError, match="enable"):
        spacy_bert.ask(reader, "Who?", CONTEXT)


# Parity


def test_logits_and_loss_equal_hugging_face(checkpoint: Path) -> None:
    nlp, qa = qa_pipeline(checkpoint, encoder={"stride": 24}, loss_weight=2.0)
    nlp.initialize(lambda: examples(nlp))
    golds = examples(nlp)
    reference = BertForQuestionAnswering.from_pretrained(checkpoint).eval()
    head = head_shim(qa.model).module.output
    with torch.no_grad():
        reference.qa_outputs.weight.copy_(head.weight.normal_(generator=torch.manual_seed(1)))
        reference.qa_outputs.bias.copy_(head.bias.normal_())
    batch = [nlp.get_pipe("bert")(eg.predicted) for eg in golds]
    scores = qa.predict(batch)
    loss, gradient = qa.get_loss(golds, scores)
    total, windows = torch.zeros(()), 0
    expected_gradient = []
    for eg, predicted in zip(golds, scores, strict=True):
        pieces = eg.predicted._.trf_data.wordpieces
        assert len(pieces) > 1
        for row, (start, length) in enumerate(zip(predicted.starts, pieces.lengths, strict=True)):
            shown = [
                eg.predicted.text[a:b] if a >= 0 else ""
                for a, b in predicted.offsets[start : start + length]
            ]
            texts = eg.reference.spans[KEY].attrs["texts"]
            targets = window_target(shown, texts[0] if texts else None, pieces.strings[row])
            out = reference(
                input_ids=torch.tensor(pieces.input_ids[row : row + 1, :length]),
                token_type_ids=torch.tensor(pieces.token_type_ids[row : row + 1, :length]),
                start_positions=torch.tensor([targets[0]]),
                end_positions=torch.tensor([targets[1]]),
            )
            ours = predicted.rows[start : start + length]
            theirs = torch.stack([out.start_logits[0], out.end_logits[0]], dim=1)
            np.testing.assert_allclose(ours, theirs.detach(), atol=1e-5)
            theirs.retain_grad()
            total, windows = total + out.loss, windows + 1
            probabilities = theirs.detach().softmax(dim=0)
            probabilities[targets[0], 0] -= 1.0
            probabilities[targets[1], 1] -= 1.0
            expected_gradient.append(probabilities)
    assert loss == pytest.approx(2.0 * total.item() / windows, rel=1e-5)
    np.testing.assert_allclose(
        np.concatenate(gradient), torch.cat(expected_gradient) / windows, atol=1e-6
    )


def window_target(shown: list[str], text: str | None, strings: list[str]) -> tuple[int, int]:
    """Where the answer stands in a window, found by trying all pairs of pieces."""
    border = strings.index("[SEP]")
    if text is not None:
        wanted = text.replace(" ", "")
        for first in range(border, len(shown)):
            for last in range(first, len(shown)):
                if "".join(shown[first : last + 1]) == wanted and shown[first] and shown[last]:
                    return first, last
    return 0, 0


def test_no_dropout_between_encoder_and_head(checkpoint: Path) -> None:
    nlp, qa = qa_pipeline(checkpoint)
    nlp.initialize(lambda: examples(nlp))
    nlp.update(examples(nlp), drop=0.9)
    assert head_shim(qa.model).module.dropout.p == 0.0


# What is not annotated, and gradients


def test_only_annotated_docs_count(checkpoint: Path) -> None:
    nlp, qa = qa_pipeline(checkpoint)
    nlp.initialize(lambda: examples(nlp))
    known = examples(nlp)[0]
    unknown = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in ("no question", "", " ")]
    batch = [unknown[0], known, *unknown[1:]]
    scores, _ = qa.model.begin_update([nlp.get_pipe("bert")(eg.predicted) for eg in batch])
    loss, gradient = qa.get_loss(batch, scores)
    alone, alone_gradient = qa.get_loss([known], scores[1:2])
    assert loss == pytest.approx(alone)
    np.testing.assert_allclose(gradient[1], alone_gradient[0])
    assert not any(g.any() for g in (gradient[0], *gradient[2:]))
    assert nlp.update(unknown, losses={}, sgd=build_adamw(1e-4))["bert_span_qa"] == 0.0


def test_gradients_reach_the_encoder_as_autograd_says(checkpoint: Path) -> None:
    """A step against the gradient lowers the loss by the gradient's squared norm."""
    nlp, qa = qa_pipeline(checkpoint, encoder={"stride": 24})
    nlp.initialize(lambda: examples(nlp))
    golds = examples(nlp)
    nlp.update(golds, sgd=False)  # type: ignore[arg-type] - no optimizer: the gradients stay
    shims = [encoder_shim(nlp.get_pipe("bert").model), head_shim(qa.model)]
    for shim in shims:
        shim.finish_late_gradient()
    parameters = [p for shim in shims for p in shim.module.parameters() if p.grad is not None]
    squared = sum(float(p.grad.square().sum()) for p in parameters)
    gradients = [p.grad.clone() for p in parameters]

    def loss_after(step: float) -> float:
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient, alpha=-step)
        predicted = [nlp.get_pipe("bert")(eg.predicted) for eg in golds]
        loss, _ = qa.get_loss(golds, qa.predict(predicted))
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient, alpha=step)
        return loss

    step = 1e-2 / math.sqrt(squared)
    slope = (loss_after(-step) - loss_after(step)) / (2 * step)
    assert slope == pytest.approx(squared, rel=0.02)


# Long contexts


@pytest.fixture(scope="module")
def hand_built(checkpoint: Path) -> Language:
    return finder(checkpoint, "fox", "dog", encoder={"stride": 24})


ANSWER = "fox jumps over the lazy dog"


@settings(max_examples=30)
@given(
    before=st.lists(st.sampled_from(SENTENCES[1:]), max_size=6),
    after=st.lists(st.sampled_from(SENTENCES[1:]), max_size=6),
)
def test_the_answer_is_the_same_wherever_it_stands(
    hand_built: Language, before: list[str], after: list[str]
) -> None:
    near = spacy_bert.ask(hand_built, "Who?", SENTENCES[0])
    assert near.text == ANSWER
    context = "\n\n".join([*before, SENTENCES[0], *after])
    far = spacy_bert.ask(hand_built, "Who?", context)
    assert far.text == ANSWER
    assert far.start_char == context.index(ANSWER)
    assert far.score == pytest.approx(near.score, abs=1e-3)


def test_the_answer_may_stand_in_any_of_several_contexts(hand_built: Language) -> None:
    for place in range(3):
        contexts = SENTENCES[1:3]
        contexts.insert(place, SENTENCES[0])
        doc = hand_built(spacy_bert.join(hand_built, "Which fox or dog?", *contexts))
        (span,) = doc.spans[KEY]
        assert span.text == doc._.answers[0].text == ANSWER
        assert span.start >= doc._.segments[1 + place].start


def test_twenty_thousand_tokens_in_bounded_chunks(
    hand_built: Language, batches: list[PackedBatch]
) -> None:
    filler = " ".join(SENTENCES[1:])
    half = " ".join([filler] * (10_000 // len(hand_built.make_doc(filler))))
    context = f"{half} {SENTENCES[0]} {half}"
    assert len(hand_built.make_doc(context)) > 19_500
    answer = spacy_bert.ask(hand_built, "Who?", context)
    sizes = [len(batch.pieces) for batch in batches]
    assert answer.text == ANSWER
    assert answer.start_char == context.index(ANSWER)
    assert len(sizes) > 10
    assert max(sizes) <= 2048


def test_long_contexts_can_be_trained_on(checkpoint: Path) -> None:
    nlp, _ = qa_pipeline(checkpoint, encoder={"max_batch_pieces": 256})
    nlp.initialize(lambda: examples(nlp))
    doc = gold(nlp, "Who?", " ".join([*SENTENCES * 40, "Paris"]), "Paris")
    losses = nlp.update([example(nlp, doc)], sgd=build_adamw(1e-4), losses={})
    assert 0.0 < losses["bert_span_qa"] < 10.0


# Odd Docs and errors


def test_a_context_without_words_has_no_answer(reader: Language) -> None:
    for parts in (("Who?", ""), ("Who?", " \n"), ("", ""), ("Who?", "", " ")):
        doc = reader(spacy_bert.join(reader, *parts))
        (only,) = doc._.answers
        assert only.is_null
        assert only.probability == 1.0
        assert list(doc.spans[KEY]) == []
    assert reader.get_pipe("bert_span_qa").predict([]) == []
    assert list(reader.pipe([])) == []


def test_what_asks_nothing_is_passed_over_with_a_warning(reader: Language) -> None:
    asked = docs(reader)[0]
    expected = reader(asked.copy())._.answers
    texts = [reader.make_doc(text) for text in ("It rains.", "", " ")]
    with pytest.warns(UserWarning, match=r"bert_span_qa\] passes over Docs without a question: "):
        plain, empty, space, found = reader.pipe([*texts, asked])
    for doc in (plain, empty, space):
        assert doc._.answers == []
        assert KEY not in doc.spans
    assert [a.text for a in found._.answers] == [a.text for a in expected]
    mixed = [Example(doc.copy(), doc) for doc in map(reader.make_doc, ("It rains.", ""))]
    with pytest.warns(UserWarning, match="without a question"):
        assert reader.evaluate(mixed)["answers_em"] is None


def test_training_data_without_gold_answers_are_refused(reader: Language) -> None:
    plain = [Example(doc.copy(), doc) for doc in docs(reader)]
    with pytest.raises(ValueError, match=r"bert_span_qa\] there is nothing to learn: no training"):
        reader.get_pipe("bert_span_qa").initialize(lambda: plain, nlp=reader)


@pytest.mark.parametrize(
    ("question", "context", "message"),
    [
        ("", CONTEXT, "ValueError: the question is empty: {call}"),
        (" \n", CONTEXT, "ValueError: the question is empty: {call}"),
        (["Who?", ""], CONTEXT, "ValueError: the question is empty: {call}"),
        (None, CONTEXT, "TypeError: the question must be a text: {call}, got a NoneType"),
        (["Who?", 7], CONTEXT, "TypeError: the question must be a text: {call}, got a int"),
        ("Who?", [CONTEXT], "TypeError: the context must be a text: {call}, got a list"),
    ],
)
def test_ask_says_what_it_lacks(
    reader: Language, question: str, context: str, message: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        spacy_bert.ask(reader, question, context)
    call = "ask(nlp, question, context)"
    assert f"{caught.type.__name__}: {caught.value}" == message.format(call=call)


def test_ask_wants_the_pipeline_first() -> None:
    with pytest.raises(TypeError, match=r"is the pipeline: ask\(nlp, .*, got a str$"):
        spacy_bert.ask("Who?", "The King.", "")  # type: ignore[call-overload]


def test_questions_without_answer_want_null_answers(checkpoint: Path) -> None:
    for null_answers in (False, True):
        nlp, qa = qa_pipeline(checkpoint, null_answers=null_answers)
        golds = examples(nlp)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            qa.initialize(lambda golds=golds: golds, nlp=nlp)
        said = [str(warning.message) for warning in caught]
        assert ["set null_answers = true" in " ".join(said)] == [not null_answers]


def test_a_question_too_long_for_the_window_is_an_error(reader: Language) -> None:
    with pytest.raises(ValueError, match=r"^the Doc .*: its segment 1 has \d+ pieces; read whole"):
        spacy_bert.ask(reader, SENTENCES[1] * 4, CONTEXT)


def test_an_encoder_is_needed_and_ours(checkpoint: Path, saved_reader: Path) -> None:
    alone = spacy.blank("en")
    alone.add_pipe("bert_span_qa")
    with pytest.raises(ValueError, match=r"^\[components.bert_span_qa\] listens to any .bert."):
        alone.initialize()
    foreign = spacy.blank("en")
    foreign.add_pipe("transformer", config={"model": {"name": str(checkpoint)}})
    foreign.add_pipe("bert_span_qa")
    with pytest.raises(ValueError, match=r"which only spacy_bert.Encoder.v1 lays out"):
        foreign.initialize()
    nlp = spacy.load(saved_reader)
    with pytest.raises(ValueError, match=r"'bert_span_qa' reads what the shared encoder leaves"):
        nlp(docs(nlp)[0], disable=["bert"])
    doc = nlp(docs(nlp)[0])
    doc._.trf_data = TransformerData.empty().from_bytes(doc._.trf_data.to_bytes())
    with pytest.raises(ValueError, match=r"'bert_span_qa' cannot tell where the pieces .* stand"):
        nlp(doc, disable=["bert"])


def test_wrong_gold_stops_the_training(saved_reader: Path) -> None:
    nlp = spacy.load(saved_reader)
    doc = spacy_bert.join(nlp, "Who jumps?", CONTEXT)
    doc.spans[KEY] = [doc[:1]]
    with pytest.raises(ValueError, match="stands in the first segment, which is the question"):
        nlp.update([example(nlp, doc)])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"loss_weight": 0.0}, "loss_weight must be above 0, got 0.0"),
        ({"spans_key": ""}, "spans_key must not be empty"),
        ({"n_best": 0}, "n_best must be at least 1, got 0"),
        ({"max_answer_pieces": 0}, "max_answer_pieces must be at least 1, got 0"),
    ],
)
def test_wrong_settings_are_refused(
    checkpoint: Path, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^\[components.bert_span_qa\] {message}"):
        qa_pipeline(checkpoint, **setting)


def test_without_weights_there_is_an_error(checkpoint: Path) -> None:
    nlp, _ = qa_pipeline(checkpoint)
    with pytest.raises(ValueError, match=r"not initialized: call nlp.initialize"):
        nlp(docs(nlp)[0])
