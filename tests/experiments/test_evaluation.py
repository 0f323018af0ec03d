"""All scores of a pipeline: spaCy's own figures, baselines that a constant guess reaches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Corpus

from spacy_bert.experiments.evaluation import Component, Evaluation, evaluate
from spacy_bert.models.heads import head_shim
from tests.pipeline.endings import choice_pipeline
from tests.pipeline.endings import examples as choice_examples
from tests.pipeline.scored import scored_docs, scored_pipeline, write_docs


@pytest.fixture(scope="module")
def nlp(checkpoint: Path) -> Language:
    return scored_pipeline(checkpoint)


@pytest.fixture(scope="module")
def data(nlp: Language, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_docs(tmp_path_factory.mktemp("data") / "dev.spacy", scored_docs(nlp))


def parts(result: Evaluation) -> dict[str, Component]:
    return {component.name: component for component in result.components}


def test_the_scores_are_those_of_spacy(nlp: Language, data: Path) -> None:
    seen = []
    result = evaluate(nlp, data, batch_size=2, progress=lambda: seen.append(1))
    expected = nlp.evaluate(list(Corpus(data)(nlp)), per_component=True)
    assert expected.pop("speed") > 0
    assert expected.pop("bert") == {}
    assert result.to_dict()["scores"] == expected
    assert expected["bert_textcat"]["cats_mcc"] is not None
    assert expected["bert_span_qa"]["answers_em"] is not None
    assert (result.docs, len(seen)) == (6, 6)
    assert result.words == sum(len(nlp.make_doc(doc.text)) for doc in scored_docs(nlp))
    assert not any(component.not_scored for component in result.components)


def test_what_goes_to_json(nlp: Language, data: Path) -> None:
    values = evaluate(nlp, data).to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["docs_per_second"] == pytest.approx(6 / values["seconds"])
    assert values["baselines"]["bert_textcat"]["cats_acc"] == {
        "name": "always OPEN",
        "value": pytest.approx(5 / 6),
    }


def head_that_says(nlp: Language, name: str, *values: float) -> None:
    """Let a component put out the same for every text."""
    head = head_shim(nlp.get_pipe(name).model).module.output
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor(values))


def test_baselines_are_what_constant_guesses_reach(checkpoint: Path, tmp_path: Path) -> None:
    nlp = scored_pipeline(checkpoint, null_threshold=-1e9)
    head_that_says(nlp, "bert_textcat", 1.0, 0.0)
    data = write_docs(tmp_path / "dev.spacy", scored_docs(nlp))
    found = parts(evaluate(nlp, data))
    for name, key in (("bert_textcat", "cats_acc"), ("bert_span_qa", "answers_f1")):
        assert found[name].scores[key] == pytest.approx(found[name].baselines[key].value)
        assert 0.0 < found[name].scores[key] < 1.0
    assert found["bert_span_qa"].baselines["answers_em"].name == "never an answer"


def test_the_baseline_of_values_is_their_mean(checkpoint: Path, tmp_path: Path) -> None:
    nlp = scored_pipeline(checkpoint, mode="regression")
    docs = scored_docs(nlp)
    values = [0.5, 2.0, 3.0, -1.0, 2.5, 7.0]
    for doc, value in zip(docs, values, strict=True):
        doc.cats = {"OPEN": value}
    data = write_docs(tmp_path / "dev.spacy", docs)
    mean = sum(values) / len(values)
    head_that_says(nlp, "bert_textcat", mean, mean)
    component = parts(evaluate(nlp, data))["bert_textcat"]
    baseline = component.baselines["cats_mse"]
    assert component.scores["cats_mse"] == pytest.approx(baseline.value, rel=1e-4)


def test_the_baseline_of_choices_is_chance(checkpoint: Path, tmp_path: Path) -> None:
    nlp, _ = choice_pipeline(checkpoint)
    examples = choice_examples(nlp)
    nlp.initialize(lambda: examples)
    unknown = nlp.make_doc("A\x1eb\x1ec")
    docs = [*(example.reference for example in examples), unknown]
    result = evaluate(nlp, write_docs(tmp_path / "dev.spacy", docs))
    baseline = parts(result)["bert_choice"].baselines["choice_acc"]
    # Two choices, two, three, three, four, two.
    assert baseline.value == pytest.approx((3 / 2 + 2 / 3 + 1 / 4) / 6)


def test_several_classes_have_no_majority(checkpoint: Path, data: Path) -> None:
    component = parts(evaluate(scored_pipeline(checkpoint, mode="multilabel"), data))
    assert not component["bert_textcat"].baselines
    assert component["bert_textcat"].scores["cats_macro_auc"] is not None


def bare(nlp: Language, *keep: str) -> list[Doc]:
    """The Docs with some of their gold standards."""
    docs = []
    for doc in scored_docs(nlp):
        copy = nlp.make_doc(doc.text)
        copy.cats = doc.cats if "cats" in keep else {}
        if "ents" in keep:
            copy.set_ents([], default="outside")
        if "answers" in keep:
            copy.spans["answers"] = [copy[span.start : span.end] for span in doc.spans["answers"]]
        docs.append(copy)
    return docs


@pytest.mark.parametrize("ents", [(), ("ents",)])
def test_tasks_without_gold_are_named_and_not_scored(
    nlp: Language, tmp_path: Path, ents: tuple[str, ...]
) -> None:
    data = write_docs(tmp_path / "dev.spacy", bare(nlp, "cats", *ents))
    result = evaluate(nlp, data)
    assert result.to_dict()["not_scored"] == {
        "bert_span_qa": "no gold answers (doc.spans)",
        "bert_ner": "no gold entities (doc.ents)",
    }
    assert {"bert_textcat"} == result.to_dict()["scores"].keys() - {"tokenizer"}
    data = write_docs(tmp_path / "dev.spacy", bare(nlp, "answers"))
    missing = "no gold classes or values of its labels (doc.cats)"
    assert evaluate(nlp, data).to_dict()["not_scored"]["bert_textcat"] == missing


def test_a_component_without_scorer_is_named(checkpoint: Path, data: Path) -> None:
    nlp = scored_pipeline(checkpoint)
    nlp.get_pipe("bert_ner").scorer = None
    assert evaluate(nlp, data).to_dict()["not_scored"] == {"bert_ner": "it has no scorer"}


def test_data_that_score_nothing_are_refused(nlp: Language, tmp_path: Path) -> None:
    def refused(path: Path, message: str, error: type[Exception] = ValueError) -> None:
        with pytest.raises(error, match=message) as caught:
            evaluate(nlp, path)
        assert str(caught.value).startswith(f"{path}: ")

    file = write_docs(tmp_path / "x.spacy", bare(nlp))
    refused(file, r"nothing to score the pipeline with \(bert_span_qa: no gold answers .*; bert_te")
    refused(write_docs(file, []), "holds no Docs with words")
    refused(write_docs(file, [nlp.make_doc("")]), "holds no Docs with words")
    file.write_bytes(b"no DocBin")
    refused(file, r"not a .spacy file \(")
    refused(tmp_path / "y.spacy", "no such file", FileNotFoundError)
    (tmp_path / "z.json").write_text("{}")
    refused(tmp_path / "z.json", "expected a .spacy file")
    blank = spacy.blank("en")
    write_docs(file, bare(nlp, "cats"))
    with pytest.raises(ValueError, match=r"no component that can be scored \(it has none\)"):
        evaluate(blank, file)
