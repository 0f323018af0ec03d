"""How BERT answers: roles, curves and wrong answers of Docs, alone and over a data set."""

from __future__ import annotations

import itertools
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

import spacy_bert
from spacy_bert.analysis.answer_phases import Parts, PhaseCurves, match_wrong_answer, phase_curves
from spacy_bert.analysis.answering import AnswerExplanation, explain_answers
from spacy_bert.analysis.asked import context_sentences
from spacy_bert.datasets.questions import make_question
from spacy_bert.datasets.squad import read_squad
from spacy_bert.datasets.writing import BadRows
from tests.conftest import SENTENCES
from tests.pipeline.questions import finder
from tests.shared_data import SHARED, needs_shared
from tests.weights import MINILM, needs_minilm

QUESTION = "What is in the cells?"
CONTEXT = (
    "The quick brown fox jumps over the lazy dog in Paris. Plants convert light energy. "
    "A dictionary maps keys to values."
)


@pytest.fixture(scope="module")
def energy(checkpoint: Path) -> Language:
    """Answers "light energy" to everything, and reads in windows of 64 pieces."""
    return finder(checkpoint, "light", "energy", encoder={"stride": 24})


def words(found: AnswerExplanation, role: str) -> str:
    """The text of the tokens of a role."""
    return " ".join(
        found.doc[int(i)].text
        for i, own in zip(found.tokens, found.roles, strict=True)
        if own == role
    )


def assert_same(one: PhaseCurves, other: PhaseCurves) -> None:
    for field in fields(PhaseCurves):
        np.testing.assert_allclose(
            getattr(one, field.name), getattr(other, field.name), atol=1e-6, err_msg=field.name
        )


def by_hand(nlp: Language, found: AnswerExplanation, answer: str, fact: str) -> PhaseCurves:
    """The curves from the trace, with parts found by their characters."""
    doc = found.doc
    border = doc.text.index("\x1e")

    def mask(start: int, end: int) -> np.ndarray:
        return np.array([start <= t.idx < end for t in doc if not t.is_space])

    starts = [doc.text.index(text, border) for text in (answer, fact)]
    parts = Parts(
        question=mask(0, border),
        answer=mask(starts[0], starts[0] + len(answer)),
        fact=mask(starts[1], starts[1] + len(fact)),
        sentences=np.array(
            [
                mask(doc.text.index(other), doc.text.index(other) + len(other))
                for other in (CONTEXT[:53], CONTEXT[83:])
            ]
        ),
    )
    solid = [token.i for token in doc if not token.is_space]
    return phase_curves(spacy_bert.trace(nlp, doc).tokens().hidden[:, solid], parts)


def test_a_right_answer(energy: Language) -> None:
    found = spacy_bert.explain_answer(energy, QUESTION, CONTEXT, answer="light energy")
    assert found.predicted is not None
    assert (found.predicted.text, found.gold, found.right) == (
        "light energy",
        ("light energy",),
        True,
    )
    assert words(found, "answer") == "light energy"
    assert words(found, "question") == "What is in the cells ?"
    assert words(found, "fact") == "Plants convert ."
    assert len(found.tokens) == len(found.doc) - 1  # all but the border
    assert found.after.projections.points.shape == (3, len(found.tokens), 2)
    assert (found.before, found.wrong) == (None, None)
    assert_same(
        found.after.phases, by_hand(energy, found, "light energy", "Plants convert light energy.")
    )


def test_a_wrong_answer(energy: Language) -> None:
    found = spacy_bert.explain_answer(energy, QUESTION, CONTEXT, answer="keys")
    assert (found.right, words(found, "answer")) == (False, "light energy")
    assert words(found, "fact") == "A dictionary maps keys to values ."
    assert found.wrong is not None
    trace = spacy_bert.trace(energy, found.doc)
    tokens = [token.text for token in found.doc]
    sentence, fact, end = (tokens.index(text) for text in ("Plants", "A", "values"))
    place = np.arange(len(tokens))[found.tokens]
    expected = match_wrong_answer(
        trace.tokens().hidden[:, found.tokens],
        place < tokens.index("The") - 1,
        (place >= sentence) & (place < fact),
        (place >= fact) & (place <= end + 1),
    )
    np.testing.assert_allclose(found.wrong.predicted, expected.predicted, atol=1e-6)
    np.testing.assert_allclose(found.wrong.fact, expected.fact, atol=1e-6)
    assert (found.wrong.kind, found.wrong.parting) == (expected.kind, expected.parting)
    # The answer stands in the fact, of which it is not the whole.
    near = spacy_bert.explain_answer(energy, QUESTION, CONTEXT, answer="convert light")
    assert near.wrong is not None
    assert (near.wrong.kind, near.wrong.parting) == ("right fact", None)


def test_what_is_known_of_the_answer(energy: Language, nlp: Language) -> None:
    unknown = spacy_bert.explain_answer(energy, QUESTION, CONTEXT)
    assert (unknown.gold, unknown.right, unknown.wrong) == (None, None, None)
    assert words(unknown, "fact") == "Plants convert ."  # the sentence of the prediction
    none = spacy_bert.explain_answer(energy, QUESTION, CONTEXT, answer="")
    assert (none.gold, none.right, none.wrong) == ((), False, None)
    assert "fact" not in none.roles
    # A pipeline that answers no questions.
    silent = spacy_bert.explain_answer(nlp, QUESTION, CONTEXT[:53], answer="fox")
    assert (silent.predicted, silent.right, words(silent, "answer")) == (None, None, "fox")
    assert words(silent, "fact") == "The quick brown jumps over the lazy dog in Paris ."
    bare = spacy_bert.explain_answer(nlp, QUESTION, CONTEXT[:53])
    assert set(bare.roles) == {"question", "other"}
    assert np.isnan(bare.after.phases.fact_matching).all()
    assert np.isfinite(bare.after.phases.cluster_separation).all()
    # What a pipeline has left on a Doc is no gold.
    answered = energy(spacy_bert.join(energy, QUESTION, CONTEXT))
    assert spacy_bert.explain_answer(energy, answered).gold is None


def test_docs_of_readers(energy: Language) -> None:
    places = [(CONTEXT.index(text), text) for text in ("keys", "values")]
    facts = [(CONTEXT.index("Plants"), "Plants convert light energy."), (0, CONTEXT[:53])]
    doc = make_question(
        energy,
        QUESTION,
        CONTEXT,
        answers=[(start, start + len(text)) for start, text in places],
        facts=[(start, start + len(text)) for start, text in facts],
    )
    found = spacy_bert.explain_answer(energy, doc)
    assert found.doc is doc
    assert found.gold == ("keys", "values")
    assert [span.text for span in doc.spans["answers"]] == ["keys", "values"]
    given = spacy_bert.explain_answer(
        energy, QUESTION, CONTEXT, answer="values", facts=[text for _, text in facts]
    )
    assert given.roles == found.roles
    assert words(given, "fact").startswith("The quick brown fox")
    assert_same(given.after.phases, found.after.phases)


def test_windows(energy: Language) -> None:
    context = f"{' '.join(SENTENCES[1:])} {CONTEXT}"
    found = spacy_bert.explain_answer(energy, QUESTION, context, answer="Paris", method="ica")
    trace = spacy_bert.trace(energy, found.doc)
    assert len(trace.reading.lengths) > 2
    assert len(found.tokens) == len(found.doc) - 1
    assert found.after.projections.method == "ica"
    assert np.isfinite(found.after.projections.points).all()


def test_before_and_after(energy: Language, checkpoint: Path) -> None:
    other = spacy.blank("en")
    other.add_pipe("bert", config={"model": {"name": str(checkpoint), "stride": 24}})
    other.initialize()
    found = spacy_bert.explain_answer(energy, QUESTION, CONTEXT, answer="keys", before=other)
    alone = spacy_bert.explain_answer(other, QUESTION, CONTEXT, answer="keys")
    assert found.before is not None
    # Of the other pipeline, with the roles of the first.
    np.testing.assert_allclose(
        found.before.phases.cluster_separation, alone.after.phases.cluster_separation, atol=1e-6
    )
    assert np.abs(found.before.phases.question_fact - found.after.phases.question_fact).max() > 0.01
    study = explain_answers(energy, [found.doc], before=other)
    assert study.before is not None
    assert_same(study.before["all"], found.before.phases)
    assert_same(study.after["wrong"], found.after.phases)


def gold_docs(nlp: Language) -> list[Doc]:
    rows = [
        (QUESTION, CONTEXT, "light energy"),
        ("Who jumps?", CONTEXT, "fox"),
        ("What maps?", f"{' '.join(SENTENCES[1:4])} {CONTEXT}", "dictionary"),
        ("Why?", CONTEXT, ""),
    ]
    docs = []
    for question, context, answer in rows:
        start = context.index(answer)
        places = [(start, start + len(answer))] if answer else []
        docs.append(make_question(nlp, question, context, answers=places, facts=None))
    return [*docs, spacy_bert.join(nlp, "And this?", CONTEXT)]


def test_a_data_set(energy: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacy_bert.analysis.answering.DOCS", 2)
    docs = gold_docs(energy)
    done: list[int] = []
    study = explain_answers(energy, docs, progress=done.append)
    assert done == [2, 2, 1]
    assert (study.questions, study.outcomes) == (5, {"right": 1, "wrong": 3, "unknown": 1})
    alone = [spacy_bert.explain_answer(energy, doc) for doc in docs]
    for name, members in (("all", alone), ("wrong", alone[1:4]), ("unknown", alone[4:])):
        for field in fields(PhaseCurves):
            own = np.array([getattr(one.after.phases, field.name) for one in members])
            known = own[~np.isnan(own).any(axis=1)]  # without facts there is no such curve
            np.testing.assert_allclose(
                getattr(study.after[name], field.name), known.mean(axis=0), atol=1e-6
            )
    wrong = [None if one.wrong is None else one.wrong for one in alone[1:4]]
    assert [(row.kind, row.parting) for row in study.wrong] == [
        (None, None) if why is None else (why.kind, why.parting) for why in wrong
    ]
    assert [(row.question, row.gold, row.predicted) for row in study.wrong] == [
        ("Who jumps?", ("fox",), "light energy"),
        ("What maps?", ("dictionary",), "light energy"),
        ("Why?", (), "light energy"),
    ]
    assert sum(study.kinds.values()) == 3
    assert study.kinds[None] == 1
    examples = [Example(energy.make_doc(doc.text), doc) for doc in docs]
    assert_same(explain_answers(energy, examples).after["all"], study.after["all"])


def test_sentences_of_the_context() -> None:
    nlp = spacy.blank("en")
    doc = spacy_bert.join(nlp, "Why? How?", "It is. It was!", "So it goes.", "")
    assert [span.text for span in context_sentences(doc)] == ["It is.", "It was!", "So it goes."]
    assert not doc.has_annotation("SENT_START")


def test_what_cannot_be_explained(energy: Language) -> None:
    with pytest.raises(ValueError, match="no context: give the text"):
        spacy_bert.explain_answer(energy, QUESTION)
    with pytest.raises(ValueError, match="the answer 'Rome' is not in the context"):
        spacy_bert.explain_answer(energy, QUESTION, CONTEXT, answer="Rome")
    with pytest.raises(ValueError, match="the fact 'It rains' is not in the context"):
        spacy_bert.explain_answer(energy, QUESTION, CONTEXT, facts=["It rains"])
    with pytest.raises(ValueError, match="a Doc has the context in it"):
        spacy_bert.explain_answer(energy, gold_docs(energy)[0], answer="fox")
    with pytest.raises(ValueError, match="no question: the Doc"):
        spacy_bert.explain_answer(energy, energy.make_doc(CONTEXT))
    with pytest.raises(ValueError, match="there are no questions"):
        explain_answers(energy, [])


@needs_minilm
@needs_shared
def test_real_weights_match_questions_and_facts() -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(MINILM)}})
    nlp.initialize()
    file = SHARED / "squad" / "squad11_dev_subset_1062.json.gz"
    docs = list(itertools.islice(read_squad(file, nlp, BadRows()), 8))
    study = explain_answers(nlp, docs)
    assert study.outcomes == {"unknown": 8}
    curves = study.after["all"]
    assert curves.fact_matching[-1] > 0.2
    assert curves.answer_isolation[-1] > curves.answer_isolation[0]
