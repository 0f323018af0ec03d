"""Fine-tuned models of Hugging Face's become pipelines and go back, and say the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer
from transformers import BertConfig as HfConfig
from transformers import BertForPreTraining as HfForPreTraining
from transformers import BertForSequenceClassification as HfForSequenceClassification
from transformers import pipeline as hf_pipeline

import spacy_bert
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.pipeline.from_hf import read_hf
from spacy_bert.pipeline.hf_tasks import ENCODER
from tests.conftest import SENTENCES
from tests.pipeline import hf_models
from tests.pipeline.hf_models import ARCHITECTURES, LABELS, assert_close, assert_same_weights
from tests.weights import MINILM, RXNFP_CLASSES, needs_minilm, needs_rxnfp


def settings(path: Path, **changes: Any) -> dict[str, Any]:
    """The `config.json`, changed; None takes a field out."""
    values = {**json.loads((path / "config.json").read_text()), **changes}
    values = {name: value for name, value in values.items() if value is not None}
    (path / "config.json").write_text(json.dumps(values))
    return values


@pytest.mark.parametrize("cased", [False, True], ids=["uncased", "cased"])
@pytest.mark.parametrize("component", ARCHITECTURES)
def test_there_and_back(component: str, cased: bool, tmp_path: Path) -> None:
    source = hf_models.make_model(tmp_path / "source", component, cased=cased)
    nlp = spacy_bert.from_hf(source)
    assert nlp.pipe_names == list(dict.fromkeys(["bert", component]))
    expected = hf_models.theirs(source, nlp, component)
    assert expected[0].std() > 0.01  # there is something to compare
    assert_close(hf_models.ours(nlp, component), expected)

    spacy_bert.to_hf(nlp, tmp_path / "back")
    assert_close(hf_models.theirs(tmp_path / "back", nlp, component), expected)
    again = spacy_bert.from_hf(tmp_path / "back")
    assert again.pipe_labels == nlp.pipe_labels
    assert_same_weights(nlp, again)
    if component != "bert_ner":  # whose outputs are in our order
        there = load_file(source / "model.safetensors")
        if component == "bert":
            there = {f"bert.{name}": tensor for name, tensor in there.items()}
        back = load_file(tmp_path / "back" / "model.safetensors")
        assert there.keys() == back.keys()
        assert all(torch.equal(there[name], back[name]) for name in there)

    # The pipeline lives without its source.
    nlp.to_disk(tmp_path / "pipeline")
    shutil.rmtree(source)
    shutil.rmtree(tmp_path / "back")
    loaded = spacy.load(tmp_path / "pipeline")
    assert str(tmp_path) not in loaded.config.to_str()
    assert_close(hf_models.ours(loaded, component), expected)
    from_bytes = spacy.util.load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert_close(hf_models.ours(from_bytes, component), expected)


@pytest.mark.parametrize(
    ("problem_type", "names", "mode"),
    [
        ("single_label_classification", LABELS, "exclusive"),
        ("multi_label_classification", LABELS, "multilabel"),
        ("regression", LABELS, "regression"),
        (None, LABELS, "exclusive"),
        (None, ["LABEL_0"], "regression"),
        ("multi_label_classification", ["TOXIC"], "multilabel"),
    ],
)
def test_kinds_of_sequence_classification(
    problem_type: str | None, names: list[str], mode: str, tmp_path: Path
) -> None:
    source = hf_models.make_model(
        tmp_path / "source",
        "bert_textcat",
        id2label=dict(enumerate(names)),
        problem_type=problem_type,
    )
    nlp = spacy_bert.from_hf(source)
    textcat: Any = nlp.get_pipe("bert_textcat")
    assert textcat.mode == mode
    assert textcat.labels == (("score",) if names == ["LABEL_0"] else tuple(names))
    assert textcat.cfg["threshold"] == (0.5 if mode == "multilabel" else 0.0)
    activation = {
        "exclusive": lambda logits: logits.softmax(dim=-1),
        "multilabel": lambda logits: logits.sigmoid(),
        "regression": lambda logits: logits,
    }[mode]
    expected = hf_models.theirs(source, nlp, "bert_textcat", activation=activation)
    assert_close(hf_models.ours(nlp, "bert_textcat"), expected)
    spacy_bert.to_hf(nlp, tmp_path / "back")
    again = hf_models.theirs(tmp_path / "back", nlp, "bert_textcat", activation=activation)
    assert_close(again, expected)
    values = settings(tmp_path / "back")
    assert list(values["id2label"].values()) == list(textcat.labels)
    assert values["label2id"] == {label: row for row, label in enumerate(textcat.labels)}
    assert values["problem_type"] == (problem_type or hf_problem_type(mode))


def hf_problem_type(mode: str) -> str:
    return {"exclusive": "single_label_classification", "regression": "regression"}[mode]


def test_their_own_pipelines_say_the_same_of_what_we_write(tmp_path: Path) -> None:
    source = hf_models.make_model(tmp_path / "source", "bert_textcat")
    nlp = spacy_bert.from_hf(source)
    spacy_bert.to_hf(nlp, tmp_path / "back")
    classify = hf_pipeline("text-classification", model=str(tmp_path / "back"), device="cpu")
    for text in SENTENCES:
        found = {each["label"]: each["score"] for each in classify(text, top_k=None)}
        assert found == pytest.approx(nlp(text).cats, abs=1e-5)


def test_a_given_problem_type_goes_before_the_files(tmp_path: Path) -> None:
    source = hf_models.make_model(tmp_path / "source", "bert_textcat")
    nlp = spacy_bert.from_hf(source, problem_type="multi_label_classification")
    expected = hf_models.theirs(source, nlp, "bert_textcat", activation=torch.sigmoid)
    assert_close(hf_models.ours(nlp, "bert_textcat"), expected)


def test_settings_survive_the_way_there_and_back(tmp_path: Path) -> None:
    source = hf_models.make_model(
        tmp_path / "source", "bert_textcat", problem_type="multi_label_classification"
    )
    spacy_bert.from_hf(source, lang="de", window=64, stride=20).to_disk(tmp_path / "one")
    override = {"components.bert_textcat.threshold": 0.3}
    nlp = spacy.load(tmp_path / "one", config=override)
    spacy_bert.to_hf(nlp, tmp_path / "back")
    again = spacy_bert.from_hf(tmp_path / "back")
    textcat: Any = again.get_pipe("bert_textcat")
    encoder: Any = again.get_pipe("bert")
    assert textcat.cfg["threshold"] == 0.3
    assert again.lang == "de"
    assert encoder_shim(encoder.model).settings.window == 64
    assert encoder_shim(encoder.model).settings.stride == 20
    other: Any = spacy_bert.from_hf(tmp_path / "back", lang="en", window=100).get_pipe("bert")
    assert encoder_shim(other.model).settings.window == 100
    regression = spacy_bert.from_hf(tmp_path / "back", problem_type="regression")
    assert regression.get_pipe("bert_textcat").mode == "regression"


def test_null_answers(tmp_path: Path) -> None:
    source = hf_models.make_model(tmp_path / "source", "bert_span_qa")
    nlp = spacy_bert.from_hf(source, null_answers=True)
    assert any(answer.is_null for answer in hf_models.docs(nlp, "bert_span_qa")[0]._.answers)
    spacy_bert.to_hf(nlp, tmp_path / "back")
    assert spacy_bert.from_hf(tmp_path / "back").get_pipe("bert_span_qa").decoder.null_answers


def test_entities_are_those_of_the_tags(tmp_path: Path) -> None:
    """IOB1 and IO leave tags out: these are never predicted, and do not come back."""
    tags = ["I-PLACE", "O", "I-THING", "B-THING"]
    source = hf_models.make_model(tmp_path / "source", "bert_ner", id2label=dict(enumerate(tags)))
    done = read_hf(source)
    assert done.missing == ["B-PLACE"]
    nlp = done.nlp
    assert nlp.pipe_labels["bert_ner"] == ["PLACE", "THING"]
    rows = np.concatenate(hf_models.ours(nlp, "bert_ner"))
    assert rows[:, 1].max() < 1e-12
    model, tokenizer = (
        hf_models.load_model(source, "bert_ner"),
        AutoTokenizer.from_pretrained(source),
    )
    with torch.inference_mode():
        logits = model(**tokenizer(SENTENCES[0], return_tensors="pt")).logits[0]
    expected = logits.softmax(dim=-1)[1, [1, 0, 3, 2]].numpy()
    np.testing.assert_allclose(rows[0, [0, 2, 3, 4]], expected, atol=1e-5)
    spacy_bert.to_hf(nlp, tmp_path / "back")
    assert list(settings(tmp_path / "back")["id2label"].values()) == [tags[i] for i in (1, 0, 3, 2)]
    hf_models.load_model(tmp_path / "back", "bert_ner")
    assert_same_weights(nlp, spacy_bert.from_hf(tmp_path / "back"))


@pytest.mark.parametrize("component", ARCHITECTURES)
def test_the_task_is_told_by_the_weights_if_need_be(component: str, tmp_path: Path) -> None:
    source = hf_models.make_model(tmp_path / "source", component)
    settings(source, architectures=None)
    if component == "bert_choice":
        with pytest.raises(ValueError, match="one of sequence-classification or multiple-choice"):
            spacy_bert.from_hf(source)
        nlp = spacy_bert.from_hf(source, task="multiple-choice")
    else:
        nlp = spacy_bert.from_hf(source)
    assert nlp.pipe_names[-1] == component


def test_weights_of_half_precision_in_a_pickle(tmp_path: Path) -> None:
    source = hf_models.make_model(tmp_path / "source", "bert_textcat")
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    halves = {f"module.{name}": tensor.half() for name, tensor in tensors.items()}
    torch.save(halves, source / "pytorch_model.bin")
    found = hf_models.weights(spacy_bert.from_hf(source))
    assert torch.equal(
        found["bert_textcat.output.weight"], tensors["classifier.weight"].half().float()
    )


@pytest.mark.parametrize("cased", [False, True], ids=["uncased", "cased"])
def test_a_vocabulary_without_a_tokenizer_json(cased: bool, tmp_path: Path) -> None:
    source = hf_models.make_model(tmp_path / "source", "bert_span_qa", cased=cased)
    (source / "tokenizer.json").unlink()
    nlp = spacy_bert.from_hf(source)
    expected = hf_models.theirs(source, nlp, "bert_span_qa")
    assert_close(hf_models.ours(nlp, "bert_span_qa"), expected)


def test_heads_of_pretraining_are_left_behind(checkpoint: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = shutil.copytree(checkpoint, tmp_path / "source")
    values = settings(source)
    HfForPreTraining(HfConfig(**values)).save_pretrained(source)
    done = read_hf(source)
    assert done.task == ENCODER
    assert done.nlp.pipe_names == ["bert"]
    assert done.left_behind[0] == "cls.predictions.bias"
    assert "cls.seq_relationship.weight" in done.left_behind
    assert not any("decoder" in name or "pooler" in name for name in done.left_behind)


def test_a_trained_pipeline_goes_out(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several components, one; whatever pooler its encoder has."""
    monkeypatch.setattr(hf_models, "TEXTS", [("The fox can't jump.",), ("A list", "has order.")])
    nlp = spacy.load(trained.path)
    with pytest.raises(ValueError, match=r"--component bert_textcat or bert_ner$"):
        spacy_bert.to_hf(nlp, tmp_path / "out")
    for component in ("bert_textcat", "bert_ner", "bert"):
        done = spacy_bert.to_hf(nlp, tmp_path / "out", component=component, overwrite=True)
        assert done.architecture == ARCHITECTURES[component]
        assert "tagger" in done.left_out
        again = spacy_bert.from_hf(tmp_path / "out")
        expected = hf_models.ours(nlp, component)
        assert_close(hf_models.ours(again, component), expected)
        assert_close(hf_models.theirs(tmp_path / "out", nlp, component), expected)


def test_a_private_encoder_goes_out(tmp_path: Path) -> None:
    source = hf_models.make_model(tmp_path / "source", "bert_textcat")
    nlp = spacy_bert.from_hf(source)
    expected = hf_models.ours(nlp, "bert_textcat")
    nlp.replace_listeners("bert", "bert_textcat", ["model.tok2vec"])
    nlp.remove_pipe("bert")
    spacy_bert.to_hf(nlp, tmp_path / "back")
    assert_close(hf_models.theirs(tmp_path / "back", nlp, "bert_textcat"), expected)


def test_a_pipeline_can_be_trained_on(tmp_path: Path) -> None:
    source = hf_models.make_model(tmp_path / "source", "bert_ner")
    nlp = spacy_bert.from_hf(source)
    text, entities = "The fox is in Paris.", [(4, 7, "THING"), (14, 19, "PLACE")]
    example = spacy.training.Example.from_dict(nlp.make_doc(text), {"entities": entities})
    sgd = nlp.resume_training(sgd=spacy.registry.optimizers.get("spacy_bert.AdamW.v1")(1e-2))
    losses = [nlp.update([example], sgd=sgd, losses={})["bert_ner"] for _ in range(15)]
    assert losses[-1] < losses[0] / 2


@needs_minilm
def test_a_real_encoder(tmp_path: Path) -> None:
    assert MINILM is not None
    done = read_hf(MINILM)
    assert (done.task, done.left_behind) == (ENCODER, [])
    spacy_bert.to_hf(done.nlp, tmp_path / "back")
    back = load_file(tmp_path / "back" / "model.safetensors")
    for name, tensor in load_file(MINILM / "model.safetensors").items():
        if "position_ids" not in name:
            assert torch.equal(back[f"bert.{name}"], tensor), name


@needs_rxnfp
def test_a_real_classifier(tmp_path: Path) -> None:
    """Written years ago: a pickle, an `id2label` of two labels for fifty, a vocabulary alone."""
    assert RXNFP_CLASSES is not None
    done = read_hf(RXNFP_CLASSES)
    assert done.left_behind == []
    values = json.loads((RXNFP_CLASSES / "config.json").read_text())
    del values["id2label"], values["label2id"]
    model = HfForSequenceClassification(HfConfig(**values))
    file = RXNFP_CLASSES / "pytorch_model.bin"
    state = torch.load(file, weights_only=True, map_location="cpu")
    model.load_state_dict(state, strict=False)
    spacy_bert.to_hf(done.nlp, tmp_path / "back")
    back = hf_models.load_model(tmp_path / "back", "bert_textcat")
    for text in ("CC ( = O ) O . c 1 c c c c c 1 >> C C", "C O"):
        doc = done.nlp(text)
        found = torch.tensor(list(doc.cats.values()))
        assert found.shape == (50,)
        pieces = torch.tensor(doc._.trf_data.wordpieces.input_ids)
        for each in (model.eval(), back):
            with torch.inference_mode():
                expected = each(pieces).logits[0].softmax(dim=-1)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
