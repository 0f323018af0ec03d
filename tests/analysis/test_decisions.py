"""Decisions: what components say themselves, their likelihood by their losses, their own scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.training import Example

import spacy_bert
from spacy_bert.analysis.decisions import annotated, decisions_of, evaluate, log_softmax, score
from spacy_bert.analysis.task_head import TaskHead, bare, feeding
from spacy_bert.pipeline import bio
from tests.analysis.tasks import KINDS, pairs, task


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def outputs(head: TaskHead, examples: list[Example]) -> list:
    docs = [example.predicted for example in examples]
    return head.outputs(docs, head.encode(docs))


def test_scores_as_the_whole_pipeline_does(kind: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    fresh = [Example(bare(eg.predicted), eg.reference) for eg in one.examples]
    expected = one.nlp.evaluate(fresh)
    found = evaluate(one.head, one.examples)
    weights = one.nlp.get_factory_meta(one.nlp.get_pipe_meta(one.component).factory)
    best = {key: w for key, w in weights.default_score_weights.items() if w == 1.0}
    assert list(best) == [found.metric]
    assert found.score == pytest.approx(expected[found.metric])
    assert score(one.nlp, one.examples) == found.score
    for example in one.examples:  # they stay as they are
        assert example.predicted._.trf_data is None
        assert not example.predicted.ents
        assert not example.predicted.cats


def test_own_decisions_are_those_written_on_docs(kind: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    decisions = decisions_of(one.head)
    for example, output in zip(one.examples, outputs(one.head, one.examples), strict=True):
        doc = one.nlp(bare(example.predicted))
        own = decisions.own(doc, output)
        if kind in ("exclusive", "private"):
            assert list(doc.cats)[own] == max(doc.cats, key=doc.cats.__getitem__)
        elif kind == "multilabel":
            assert [holds for _, holds in own] == [value >= 0.5 for value in doc.cats.values()]
        elif kind == "regression":
            np.testing.assert_allclose([value for _, value in own], [*doc.cats.values()], rtol=1e-5)
        elif kind == "ner":
            tags = np.zeros(len(doc), dtype=int)
            for token, tag in own:
                tags[token] = tag
            first, last, kinds = bio.decode(tags, np.arange(len(doc)) == 0)
            names = [one.nlp.get_pipe(one.component).labels[k] for k in kinds.tolist()]
            spans = zip(first.tolist(), (last + 1).tolist(), names, strict=True)
            assert list(spans) == [(ent.start, ent.end, ent.label_) for ent in doc.ents]
        elif kind == "qa":
            best = doc._.answers[0]
            assert own == (() if best.is_null else (best.start_char, best.end_char))
        else:
            assert own == doc._.choice


def test_decisions_in_words(kind: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    decisions = decisions_of(one.head)
    labels = getattr(one.head.pipe, "labels", ())
    for example in one.examples:
        gold, doc = decisions.gold(example), example.reference
        if gold is None:
            continue
        said = decisions.say(example.predicted, gold)
        if kind in ("exclusive", "private"):
            assert doc.cats[said] == 1.0
        elif kind == "multilabel":
            right = [label for label in labels if doc.cats.get(label) == 1.0]
            assert said == (", ".join(right) or "no label")
        elif kind == "regression":
            assert said == ", ".join(f"{label} {doc.cats[label]:.3g}" for label in labels)
        elif kind == "ner":
            named = [f"{ent.text} {ent.label_}" for ent in doc.ents]
            assert said == (", ".join(named) or "no entity")
        elif kind == "qa":
            group = doc.spans[one.head.pipe.spans_key]
            assert said == (group[0].text if len(group) else "no answer")
        else:
            assert said == f"choice {gold}"


def test_gold_likelihood_is_minus_the_loss(kind: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    head, pipe = one.head, one.head.pipe
    decisions = decisions_of(head)
    examples, gold = annotated(head, one.examples)
    for example, decision, output in zip(examples, gold, outputs(head, examples), strict=True):
        with_data = head.encode([example.predicted])
        if kind == "qa" and len(with_data[0].wordpieces.lengths) > 1:
            continue  # the loss is a mean over all windows
        with feeding(pipe.model, with_data):
            scores = pipe.model.predict([example.predicted])
        loss, _ = pipe.get_loss([example], scores)
        parts = {"qa": 2, "regression": 2, "multilabel": 3}  # of which the loss is the mean
        likelihood = decisions.log_likelihood(output, decision)
        assert likelihood == pytest.approx(-loss * parts.get(kind, 1), rel=1e-4)


def test_an_answer_is_judged_in_the_window_that_shows_it_best(checkpoint: Path) -> None:
    one = task("qa", checkpoint)
    decisions = decisions_of(one.head)
    several = 0
    for example, windows in zip(one.examples, outputs(one.head, one.examples), strict=True):
        gold = decisions.gold(example)
        chances = []
        for start, length in zip(windows.starts, windows.lengths, strict=True):
            rows = windows.rows[start : start + length]
            offsets = windows.offsets[start : start + length]
            second = windows.is_second[start : start + length]
            first, last = 0, 0
            if gold:
                inside = second & (offsets[:, 1] > gold[0]) & (offsets[:, 0] < gold[1])
                covered = [offsets[inside, 0].min(), offsets[inside, 1].max()] if any(inside) else 0
                if covered != [gold[0], gold[1]]:
                    continue
                first, last = np.flatnonzero(inside)[[0, -1]]
            logits = rows[first, 0] + rows[last, 1]
            p = np.exp(rows) / np.exp(rows).sum(axis=0)
            chances.append((logits, np.log(p[first, 0] * p[last, 1])))
        several += len(chances) > 1
        expected = (max if gold else min)(chances)[1]
        assert decisions.log_likelihood(windows, gold) == pytest.approx(expected, rel=1e-4)
    assert several


def test_one_doc_may_be_read_several_times(checkpoint: Path) -> None:
    one = task("choice", checkpoint)
    docs = [one.examples[0].predicted] * 3
    found = one.head.outputs(docs, one.head.encode(docs))
    assert len(found) == 3
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)


def test_log_softmax_of_large_logits() -> None:
    np.testing.assert_allclose(log_softmax(np.array([1e4, 0.0])), [0.0, -1e4])


def test_components_that_are_not_there(nlp: Language, checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="has no bert_textcat, bert_ner"):
        TaskHead.find(nlp)
    with pytest.raises(ValueError, match="'bert' decides nothing"):
        TaskHead.find(nlp, "bert")
    with pytest.raises(ValueError, match="no component 'ner'"):
        TaskHead.find(nlp, "ner")
    two = spacy.blank("en")
    two.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    two.add_pipe("bert_textcat")
    two.add_pipe("bert_ner")
    with pytest.raises(ValueError, match="name one of bert_textcat, bert_ner"):
        TaskHead.find(two)


def test_data_that_say_nothing(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    doc = one.nlp.make_doc("A dog.")
    with pytest.raises(ValueError, match=r"in any Doc: annotate doc.cats \(score cats_score\)"):
        score(one.nlp, [Example(doc, doc.copy())])
    with pytest.raises(ValueError, match="no gold standard for 'bert_textcat'"):
        annotated(one.head, [Example(doc, doc.copy())])
    with pytest.raises(ValueError, match="has no score 'f1': it has cats_score"):
        score(one.nlp, pairs(one.nlp), metric="f1")
    with pytest.raises(ValueError, match="no question"):
        task("qa", checkpoint).head.encode([doc])
    with pytest.raises(ValueError, match="no choices"):
        task("choice", checkpoint).head.encode([spacy_bert.join(one.nlp, "A dog.")])
