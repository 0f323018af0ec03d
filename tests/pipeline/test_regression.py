"""`bert_textcat` with real values, and its class weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.cli.train import train as spacy_train
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training import Example
from transformers import BertForSequenceClassification, BertTokenizerFast

import spacy_bert
from spacy_bert.models.heads import head_shim
from spacy_bert.models.optimizer import build_adamw
from spacy_bert.pipeline.starter import make_starter
from tests.pipeline.lifecycle import command
from tests.pipeline.test_textcat import pairs, pipeline, several, train

PAIRS = [
    ("the dog", "the fox", 4.5),
    ("the dog", "the lazy dog", 4.0),
    ("the dog", "the cells of plants", 0.5),
    ("light energy", "the lazy dog", 0.0),
    ("light energy", "chemical energy", 3.5),
    ("return a string", "raise an error", 2.0),
]


def scored(nlp: Language) -> list[Example]:
    return [
        Example.from_dict(spacy_bert.join(nlp, first, second), {"cats": {"score": score}})
        for first, second, score in PAIRS
    ]


def test_learns_the_scores_of_pairs_and_survives_the_round_trip(
    checkpoint: Path, tmp_path: Path
) -> None:
    nlp, textcat = pipeline(checkpoint, mode="regression")
    examples = scored(nlp)
    losses = train(nlp, examples, 120, rate=1e-3)
    assert losses["bert_textcat"] < 0.1
    assert textcat.labels == ("score",)
    scores = nlp.evaluate(examples)
    assert scores["cats_pearson"] > 0.98
    assert scores["cats_mse"] < 0.2
    said = [nlp(example.reference.text).cats["score"] for example in examples]
    assert min(said) < 0.8
    assert max(said) > 3.8
    nlp.to_disk(tmp_path / "model")
    other, _ = pipeline(Path("/no/such/place"), mode="regression")
    for copy in (spacy.load(tmp_path / "model"), other.from_bytes(nlp.to_bytes())):
        assert [doc.cats["score"] for doc in copy.pipe(e.text for e in examples)] == pytest.approx(
            said, abs=1e-5
        )
    override = {"components.bert_textcat.loss_weight": 0.25}
    loaded = spacy.load(tmp_path / "model", config=override)
    prediction = np.zeros((len(PAIRS), 1), dtype="f")
    whole = textcat.get_loss(examples, prediction)[0]
    assert loaded.get_pipe("bert_textcat").get_loss(examples, prediction)[0] == whole / 4


def test_loss_and_gradients_are_hugging_faces(checkpoint: Path) -> None:
    nlp, textcat = pipeline(checkpoint, mode="regression")
    examples = scored(nlp)
    nlp.initialize(lambda: examples)
    head = head_shim(textcat.model).module
    theirs = BertForSequenceClassification.from_pretrained(
        checkpoint, num_labels=1, problem_type="regression"
    ).eval()
    head.output.bias.data.zero_()  # theirs begins so: larger gradients to compare
    theirs.classifier.load_state_dict(head.output.state_dict())
    firsts, seconds, scores = zip(*PAIRS, strict=True)
    tokenizer = BertTokenizerFast.from_pretrained(checkpoint)
    pieces = tokenizer(list(firsts), list(seconds), padding=True, return_tensors="pt")
    expected = theirs(**pieces, labels=torch.tensor(scores)).loss
    expected.backward()
    losses = nlp.update(examples, drop=0.0, sgd=False, losses={})
    assert losses["bert_textcat"] == pytest.approx(expected.item(), rel=1e-5)
    pooler = theirs.bert.pooler.dense
    for ours, reference in [(head.output, theirs.classifier), (head.pooler.dense, pooler)]:
        for name, parameter in ours.named_parameters():
            gradient = reference.get_parameter(name).grad
            assert gradient.abs().max() > 1e-3
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-5)


def test_missing_values_count_for_nothing(checkpoint: Path) -> None:
    nlp, textcat = pipeline(checkpoint, mode="regression")
    golds = [{"a": 1.0, "b": -2.0}, {"b": 30}, {"a": 3.0}, {}]
    examples = [Example.from_dict(nlp.make_doc("text"), {"cats": cats}) for cats in golds]
    nlp.initialize(lambda: examples)
    assert textcat.labels == ("a", "b")
    # Learning begins at the mean of what is known of each target.
    assert head_shim(textcat.model).module.output.bias.tolist() == [2.0, 14.0]
    loss, gradient = textcat.get_loss(examples, np.zeros((4, 2), dtype="f"))
    assert loss == pytest.approx((1 + 4 + 900 + 9) / 4)
    np.testing.assert_allclose(gradient, [[-0.5, 1.0], [0, -15], [-1.5, 0], [0, 0]])
    update = nlp.update(examples[3:], sgd=build_adamw(1e-3), losses={})
    assert update["bert_textcat"] == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, "high", None])
def test_what_is_no_number_is_refused(value: Any, checkpoint: Path) -> None:
    nlp, textcat = pipeline(checkpoint, mode="regression")
    good = scored(nlp)
    bad = Example.from_dict(nlp.make_doc("text"), {"cats": {"score": 1.0}})
    bad.reference.cats = {"score": value}
    message = r"^\[components.bert_textcat\] doc.cats\['score'\] must be a finite number, got "
    with pytest.raises(ValueError, match=message):
        nlp.initialize(lambda: [*good * 2, bad])
    nlp.initialize(lambda: good)
    with pytest.raises(ValueError, match=message):
        textcat.get_loss([bad], np.zeros((1, 1), dtype="f"))


def test_settings_of_classes_are_refused(checkpoint: Path) -> None:
    for wrong in ({"threshold": 0.5}, {"class_weights": {"score": 2.0}}):
        with pytest.raises(ValueError, match="threshold and class_weights are of classes: leave"):
            pipeline(checkpoint, mode="regression", **wrong)
    nlp, textcat = pipeline(checkpoint, mode="regression")
    with pytest.raises(ValueError, match="positive_label needs two classes"):
        textcat.initialize(lambda: scored(nlp), nlp=nlp, positive_label="score")
    bare = Example.from_dict(nlp.make_doc("text"), {"cats": {}})
    with pytest.raises(ValueError, match="E143"):
        nlp.initialize(lambda: [bare])


def test_commands_show_and_keep_the_scores(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, config = tmp_path / "data.spacy", tmp_path / "config.cfg"
    docs = (example.reference for example in scored(spacy.blank("en")))
    DocBin(docs=docs, store_user_data=False).to_disk(data)
    starter = make_starter(["bert_textcat"], str(checkpoint), mode="regression", max_steps=20)
    starter.config.to_disk(config)
    weights = {"training.score_weights": {"cats_score": 0.5, "cats_pearson": 0.5}}
    paths = {"paths.train": str(data), "paths.dev": str(data)}
    spacy_train(config, tmp_path / "model", overrides={**paths, **weights})
    printed = capsys.readouterr().out
    assert "CATS_SCORE" in printed
    assert "CATS_PEARSON" in printed
    model, output = tmp_path / "model" / "model-last", tmp_path / "scores.json"
    performance = json.loads((model / "meta.json").read_text())["performance"]
    printed = command("evaluate", model, data, "--output", output)
    assert "TEXTCAT (mean of Pearson and Spearman)" in printed
    score = json.loads(output.read_text())["cats_score"]
    assert score == pytest.approx(performance["cats_score"], abs=1e-6)
    command("evaluate", model, data, "--output", output, "--per-component")
    scores = json.loads(output.read_text())["bert_textcat"]
    assert scores["cats_pearson"] == pytest.approx(performance["cats_pearson"], abs=1e-6)
    assert scores["cats_score"] == (scores["cats_pearson"] + scores["cats_spearman"]) / 2
    assert scores["cats_mse"] > 0.0


# Class weights, and the positive label


def test_class_weights_are_torchs(checkpoint: Path) -> None:
    nlp, textcat = pipeline(checkpoint, class_weights={"OTHER": 3.0})
    examples = pairs(nlp)[:5]
    nlp.initialize(lambda: examples)
    logits = np.random.default_rng(0).standard_normal((5, 2), dtype="f")
    weights = torch.tensor([3.0 if label == "OTHER" else 1.0 for label in textcat.labels])
    gold = [max(e.reference.cats, key=e.reference.cats.__getitem__) for e in examples]
    targets = torch.tensor([textcat.labels.index(label) for label in gold])
    expected = torch.nn.CrossEntropyLoss(weight=weights)(torch.from_numpy(logits), targets)
    assert textcat.get_loss(examples, logits)[0] == pytest.approx(expected.item(), rel=1e-6)
    nlp, textcat = pipeline(checkpoint, class_weights={"PART": 5.0}, mode="multilabel")
    examples = several(nlp)[:5]
    nlp.initialize(lambda: examples)
    weights = torch.tensor([5.0 if label == "PART" else 1.0 for label in textcat.labels])
    truths = torch.tensor([[e.reference.cats[label] for label in textcat.labels] for e in examples])
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=weights)
    expected = theirs(torch.from_numpy(logits), truths)
    assert textcat.get_loss(examples, logits)[0] == pytest.approx(expected.item(), rel=1e-6)


def test_wrong_class_weights_are_refused(checkpoint: Path) -> None:
    for weight in (0.0, -1.0):
        with pytest.raises(ValueError, match=r"bert_textcat.class_weights\] SAME must be above 0"):
            pipeline(checkpoint, class_weights={"SAME": weight})
    nlp, _ = pipeline(checkpoint, class_weights={"SAME": 2.0, "SAMEE": 2.0})
    with pytest.raises(ValueError, match=r"names SAMEE, but the classes are SAME, OTHER$"):
        nlp.initialize(lambda: pairs(nlp))


def test_a_positive_label_is_scored_and_kept(checkpoint: Path, tmp_path: Path) -> None:
    nlp, _ = pipeline(checkpoint)
    examples = pairs(nlp)
    nlp.config["initialize"]["components"] = {"bert_textcat": {"positive_label": "SAME"}}
    nlp.initialize(lambda: examples)
    nlp.to_disk(tmp_path)
    for same in (nlp, spacy.load(tmp_path)):
        scores = same.evaluate(examples)
        assert scores["cats_score_desc"] == "F (SAME)"
        assert scores["cats_score"] == scores["cats_f_per_type"]["SAME"]["f"]
        assert scores["cats_acc"] == scores["cats_micro_f"]
