"""What cannot become a pipeline, or a model of Hugging Face's, is refused in one clear line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spacy
from safetensors.torch import load_file, save_file
from spacy.language import Language

import spacy_bert
from tests.pipeline import hf_models
from tests.pipeline.hf_models import ARCHITECTURES

Change = Callable[[dict[str, Any], dict[str, Any]], object]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {name: hf_models.make_model(folder / name, name) for name in ARCHITECTURES}


def refused(message: str, call: Callable[[], object]) -> None:
    """A call that fails with one line, in which the message stands."""
    with pytest.raises((ValueError, FileExistsError), match=re.escape(message)) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


def update(**fields: Any) -> Change:
    return lambda config, tensors: config.update(fields)


def without(*names: str) -> Change:
    return lambda config, tensors: [tensors.pop(name) for name in names]


def with_rows(name: str, rows: int) -> Change:
    def change(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors.update({f"{name}.{part}": tensors[f"{name}.{part}"][:rows] for part in _PARTS})

    return change


_PARTS = ("weight", "bias")
_NUMBERS = {"0": "O", "1": "B-X", "2": "I-X"}


@pytest.mark.parametrize(
    ("component", "change", "options", "message"),
    [
        ("bert", update(model_type="roberta"), {}, "model_type is 'roberta', only \"bert\" is"),
        (
            "bert_ner",
            update(architectures=["BertForNothing"]),
            {},
            "config.json: architectures is BertForNothing; supported are BertForSequence",
        ),
        (
            "bert_textcat",
            without("classifier.weight"),
            {},
            "model.safetensors: tensor 'classifier.weight' is missing, of the head of BertForSeq",
        ),
        (
            "bert_span_qa",
            without("qa_outputs.bias"),
            {},
            "tensor 'qa_outputs.bias' is missing, of the head of BertForQuestionAnswering",
        ),
        (
            "bert_choice",
            without("bert.pooler.dense.weight", "bert.pooler.dense.bias"),
            {},
            "tensor 'bert.pooler.dense.weight' is missing, of the head of BertForMultipleChoice",
        ),
        (
            "bert_ner",
            update(id2label={"0": "O", "1": "B-X", "2": "I-X", "3": "L-X", "4": "U-X"}),
            {},
            "config.json: id2label: tags must be O, B-LABEL and I-LABEL (the scheme BIO); 'L-X'",
        ),
        ("bert_ner", update(id2label=None), {}, "the scheme BIO); 'LABEL_0' is another"),
        ("bert_ner", update(id2label=_NUMBERS), {}, "id2label names 3 labels, the head has 5"),
        ("bert_textcat", update(id2label=["A"]), {}, "id2label must map numbers to names, got"),
        (
            "bert_textcat",
            update(id2label={"0": "A", "1": "B", "2": "A"}),
            {},
            "id2label has 'A' twice: give each output its own name",
        ),
        (
            "bert_textcat",
            update(problem_type="ranking"),
            {},
            "config.json: problem_type is 'ranking'; it may be single_label_classification, ",
        ),
        (
            "bert_choice",
            lambda config, tensors: None,
            {"task": "sequence-classification", "problem_type": "single_label_classification"},
            "one class alone would always hold: set --problem-type to multi_label_classification",
        ),
        ("bert_span_qa", with_rows("qa_outputs", 1), {}, "the head has 1 outputs, the task 2"),
        (
            "bert_textcat",
            lambda config, tensors: tensors.update(
                {"classifier.bias": tensors["classifier.bias"][:2]}
            ),
            {},
            "tensor 'classifier.weight' has shape (3, 32), expected (2, 32)",
        ),
        ("bert_ner", update(), {"problem_type": "regression"}, "problem_type is of sequence-class"),
        ("bert_ner", update(), {"null_answers": True}, "null_answers is of question-answering, t"),
        ("bert", update(), {"task": "ner"}, "task must be one of sequence-classification, token-"),
        ("bert", update(), {"lang": "qqq"}, "language 'qqq': "),
        ("bert", update(), {"window": 300}, "window is 300 pieces, the network has positions for"),
        ("bert", update(vocab_size=9), {}, "has shape"),
    ],
)
def test_what_cannot_come_in(
    component: str,
    change: Change,
    options: dict[str, Any],
    message: str,
    sources: dict[str, Path],
    tmp_path: Path,
) -> None:
    source = sources[component]
    config = json.loads((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    for file in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((source / file).read_bytes())
    change(config, tensors)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors")
    refused(message, lambda: spacy_bert.from_hf(tmp_path, **options))


def test_a_pipeline_is_no_checkpoint(tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path / "pipeline")
    refused("is a spaCy pipeline", lambda: spacy_bert.from_hf(tmp_path / "pipeline"))
    refused("no such directory", lambda: spacy_bert.from_hf(tmp_path / "nowhere" / "at" / "all"))


@pytest.fixture
def nlp(sources: dict[str, Path]) -> Language:
    return spacy_bert.from_hf(sources["bert_textcat"])


def test_which_component_must_be_clear(nlp: Language, tmp_path: Path) -> None:
    blank = spacy.blank("en")
    refused('no component "bert", nor one', lambda: spacy_bert.to_hf(blank, tmp_path / "out"))
    blank.add_pipe("sentencizer")
    refused("(it has sentencizer)", lambda: spacy_bert.to_hf(blank, tmp_path / "out"))
    nlp.add_pipe("sentencizer")
    refused(
        "no component 'sentencizer' that could go to Hugging Face; --component may be bert_textcat",
        lambda: spacy_bert.to_hf(nlp, tmp_path / "out", component="sentencizer"),
    )
    nlp.add_pipe("bert_ner")
    refused(
        "choose --component bert_textcat or bert_ner",
        lambda: spacy_bert.to_hf(nlp, tmp_path / "out"),
    )
    refused(
        "not initialized",
        lambda: spacy_bert.to_hf(nlp, tmp_path / "out", component="bert_ner"),
    )
    assert not any(tmp_path.iterdir())


LISTENER = {"@architectures": "spacy_bert.TokenListener.v1", "upstream": "*"}


@pytest.mark.parametrize(
    ("factory", "model", "message"),
    [
        (
            "bert_textcat",
            {"tok2vec": {"@architectures": "spacy_bert.TokenMean.v1", "tok2vec": LISTENER}},
            "reads spacy_bert.TokenMean.v1, for which BertForSequenceClassification has no place",
        ),
        (
            "bert_textcat",
            {"tok2vec": {"@architectures": "spacy_bert.ClsListener.v1", "piece": "last"}},
            'reads the last piece (piece = "last"), for which BertForSequenceClassification',
        ),
        (
            "bert_ner",
            {
                "tok2vec": {
                    "@architectures": "spacy.Tok2Vec.v2",
                    "embed": LISTENER,
                    "encode": {"@architectures": "spacy_bert.BiLSTM.v1", "width": 32},
                }
            },
            "reads spacy.Tok2Vec.v2, for which BertForTokenClassification has no place: only a",
        ),
    ],
)
def test_what_cannot_go_out(
    factory: str, model: dict[str, Any], message: str, nlp: Language, tmp_path: Path
) -> None:
    architecture = {"bert_textcat": "spacy_bert.TextCat.v1", "bert_ner": "spacy_bert.NER.v1"}
    nlp.add_pipe(
        factory,
        name="other",
        config={"model": {"@architectures": architecture[factory], **model}},
    )
    refused(message, lambda: spacy_bert.to_hf(nlp, tmp_path / "out", component="other"))
    assert not any(tmp_path.iterdir())


def test_what_stands_there_is_kept(nlp: Language, tmp_path: Path) -> None:
    out = tmp_path / "out"
    spacy_bert.to_hf(nlp, out)
    before = (out / "model.safetensors").read_bytes()
    refused("not empty; name another, or give --overwrite", lambda: spacy_bert.to_hf(nlp, out))
    assert (out / "model.safetensors").read_bytes() == before
    spacy_bert.to_hf(nlp, out, overwrite=True)
    nlp.to_disk(tmp_path / "pipeline")
    refused(
        "holds files but no config.json: not a checkpoint to be replaced",
        lambda: spacy_bert.to_hf(nlp, tmp_path / "pipeline", overwrite=True),
    )
