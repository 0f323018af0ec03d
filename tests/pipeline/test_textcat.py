"""The component `bert_textcat`."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from thinc.api import ConfigValidationError

import spacy_bert
from spacy_bert.bert import load_encoder
from spacy_bert.models.heads import head_shim
from spacy_bert.models.optimizer import build_adamw
from spacy_bert.pipeline.textcat import BertTextCategorizer

ANIMALS, PARTS = ("dog", "fox"), ("cells", "energy")


def pipeline(checkpoint: Path, **config: Any) -> tuple[Language, BertTextCategorizer]:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    textcat = nlp.add_pipe("bert_textcat", config=config)
    assert isinstance(textcat, BertTextCategorizer)
    return nlp, textcat


def pairs(nlp: Language) -> list[Example]:
    """Two segments are of a kind, or not: only a model of both can tell."""
    words = [(a, b) for a in ANIMALS + PARTS for b in ANIMALS + PARTS]
    examples = []
    for first, second in words:
        same = (first in ANIMALS) == (second in ANIMALS)
        doc = spacy_bert.join(nlp, f"the {first}", f"the {second}")
        cats = {"SAME": float(same), "OTHER": float(not same)}
        examples.append(Example.from_dict(doc, {"cats": cats}))
    return examples


def train(
    nlp: Language, examples: list[Example], steps: int, rate: float = 2e-3
) -> dict[str, float]:
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: examples, sgd=build_adamw(rate))
    losses: dict[str, float] = {}
    for _ in range(steps):
        losses = nlp.update(examples, sgd=optimizer, losses={})
    return losses


def test_learns_sentence_pairs_and_survives_the_round_trip(
    checkpoint: Path, tmp_path: Path
) -> None:
    nlp, textcat = pipeline(checkpoint)
    examples = pairs(nlp)
    losses = train(nlp, examples, 60)
    assert losses["bert_textcat"] < 0.1
    assert nlp.evaluate(examples)["cats_micro_f"] == 1.0
    doc = nlp(spacy_bert.join(nlp, "the dog", "the energy"))
    assert sum(doc.cats.values()) == pytest.approx(1.0, abs=1e-6)
    nlp.to_disk(tmp_path / "model")
    loaded = spacy.load(tmp_path / "model")
    other, _ = pipeline(Path("/no/such/place"))
    other.from_bytes(nlp.to_bytes())
    for copy in (loaded, other):
        assert copy(doc.text).cats == doc.cats
        assert copy.get_pipe("bert_textcat").labels == textcat.labels


def test_loss_is_the_mean_cross_entropy(checkpoint: Path) -> None:
    nlp, textcat = pipeline(checkpoint, loss_weight=2.0)
    examples = pairs(nlp)[:4]
    unknown = Example.from_dict(nlp.make_doc("no class"), {"cats": {}})
    nlp.initialize(lambda: examples)
    logits = np.random.default_rng(0).standard_normal((5, 2), dtype="f")
    loss, gradient = textcat.get_loss([*examples, unknown], logits)
    tensor = torch.from_numpy(logits[:4]).requires_grad_()
    gold = [max(e.reference.cats, key=e.reference.cats.__getitem__) for e in examples]
    targets = torch.tensor([textcat.labels.index(label) for label in gold])
    expected = 2.0 * torch.nn.functional.cross_entropy(tensor, targets)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(gradient[:4], tensor.grad.numpy(), rtol=1e-5, atol=1e-7)
    assert not gradient[4].any()


def test_starts_from_the_pretrained_pooler(checkpoint: Path) -> None:
    nlp, textcat = pipeline(checkpoint)
    nlp.initialize(lambda: pairs(nlp))
    pooler = load_encoder(checkpoint).pooler
    module = head_shim(textcat.model).module
    assert torch.equal(module.pooler.dense.weight, pooler.dense.weight)
    # It is a copy: the head's training must not move the encoder's.
    encoder = nlp.get_pipe("bert").model.shims[0].network
    assert module.pooler.dense.weight.data_ptr() != encoder.pooler.dense.weight.data_ptr()


def test_labels_can_be_added_after_training(checkpoint: Path) -> None:
    nlp, textcat = pipeline(checkpoint)
    train(nlp, pairs(nlp), 2)
    head_shim(textcat.model).settle()
    before = head_shim(textcat.model).module.output.weight.detach().clone()
    assert textcat.add_label("NEW") == 1
    assert textcat.add_label("NEW") == 0
    after = head_shim(textcat.model).module.output.weight
    assert after.shape == (3, 128)
    assert torch.equal(after[:2], before)
    cats = nlp("the dog").cats
    assert set(cats) == {"SAME", "OTHER", "NEW"}
    assert sum(cats.values()) == pytest.approx(1.0, abs=1e-6)
    train_more = [Example.from_dict(nlp.make_doc("the dog"), {"cats": {"NEW": 1.0}})]
    losses = nlp.update(train_more, sgd=build_adamw(1e-3))
    assert math.isfinite(losses["bert_textcat"])


def test_empty_docs_and_batches(checkpoint: Path) -> None:
    nlp, textcat = pipeline(checkpoint)
    train(nlp, pairs(nlp), 1)
    assert len(textcat.predict([])) == 0
    docs = list(nlp.pipe(["", "the dog", " ", ""]))
    assert all(sum(doc.cats.values()) == pytest.approx(1.0, abs=1e-6) for doc in docs)
    assert docs[0].cats == docs[3].cats
    empty = Example.from_dict(nlp.make_doc(""), {"cats": {"SAME": 1.0, "OTHER": 0.0}})
    assert nlp.update([empty], sgd=build_adamw(1e-3))["bert_textcat"] == 0.0
    assert math.isfinite(nlp.update([empty, *pairs(nlp)])["bert_textcat"])


def test_works_with_a_frozen_encoder(checkpoint: Path) -> None:
    torch.manual_seed(0)
    nlp, _ = pipeline(checkpoint)
    texts = [f"the {word}" for word in ANIMALS + PARTS]
    golds = [{"A": float(i < 2), "B": float(i >= 2)} for i in range(4)]
    examples = [
        Example.from_dict(nlp.make_doc(text), {"cats": cats})
        for text, cats in zip(texts, golds, strict=True)
    ]
    with nlp.select_pipes(disable="bert"):
        optimizer = nlp.initialize(lambda: examples, sgd=build_adamw(3e-3))
    nlp._link_components()
    before = nlp.get_pipe("bert").to_bytes()
    losses = []
    # An untrained encoder gives almost the same vector for every text: the head takes a while.
    for _ in range(200):
        # As `spacy train` does with frozen_components and annotating_components = ["bert"].
        update: dict[str, float] = {}
        nlp.update(examples, sgd=optimizer, losses=update, exclude=["bert"], annotates=["bert"])
        losses.append(update["bert_textcat"])
    assert losses[-1] < 0.5
    assert nlp.get_pipe("bert").to_bytes() == before


def test_wrong_settings_and_gold_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="threshold must be in"):
        pipeline(checkpoint, threshold=1.5)
    with pytest.raises(ValueError, match="loss_weight must be above 0"):
        pipeline(checkpoint, loss_weight=0.0)
    nlp = spacy.blank("en")
    listener = {"@architectures": "spacy_bert.ClsListener.v1", "upstream": "another"}
    nlp.add_pipe("bert_textcat", name="named", config={"model": {"tok2vec": listener}})
    with pytest.raises(ValueError, match=r"\[components.named\] listens to 'another', but no such"):
        nlp.initialize(lambda: pairs(nlp))
    nlp = spacy.blank("en")
    nlp.add_pipe("bert_textcat")
    with pytest.raises(ValueError, match=r'listens to any "bert", but no such component'):
        nlp.initialize(lambda: pairs(nlp))
    nlp, textcat = pipeline(checkpoint)
    with pytest.raises(ValueError, match="E143"):
        textcat.predict([nlp.make_doc("text")])
    both = Example.from_dict(nlp.make_doc("text"), {"cats": {"A": 1.0, "B": 1.0}})
    several = r'^\[components.bert_textcat\] .* \(A, B\): .* set mode = "multilabel"$'
    with pytest.raises(ValueError, match=several):
        nlp.initialize(lambda: [both])
    half = Example.from_dict(nlp.make_doc("text"), {"cats": {"A": 0.5, "B": 0.5}})
    values = r"^\[components.bert_textcat\] doc.cats\['A'\] is 0.5, .* set mode = .regression.$"
    with pytest.raises(ValueError, match=values):
        nlp.initialize(lambda: [half])
    for cats, found in (({}, "none"), ({"A": 1.0}, r"\['A'\]")):
        lone = Example.from_dict(nlp.make_doc("text"), {"cats": cats})
        message = rf"^\[components.bert_textcat\] exclusive classes must be .* have {found}: add"
        with pytest.raises(ValueError, match=message):
            nlp.initialize(lambda lone=lone: [lone])


def test_a_class_that_the_labels_lack_is_refused_in_training(checkpoint: Path) -> None:
    nlp, textcat = pipeline(checkpoint)
    nlp.initialize(lambda: pairs(nlp))
    other = Example.from_dict(nlp.make_doc("the dog"), {"cats": {"SMAE": 1.0, "OTHER": 0.0}})
    message = (
        r"^\[components.bert_textcat\] 'SMAE' of doc.cats is not among the labels"
        r" SAME, OTHER: add it to \[initialize.components.bert_textcat.labels\]"
    )
    with pytest.raises(ValueError, match=message):
        nlp.update([other])
    textcat.add_label("SMAE")
    nlp.update([other])


@pytest.mark.parametrize("mode", ["multilabel", "regression"])
def test_what_may_be_another_component_s_is_not_learned_with_a_warning(
    checkpoint: Path, mode: str
) -> None:
    nlp, textcat = pipeline(checkpoint, mode=mode)
    examples = several(nlp)
    nlp.initialize(lambda: examples)
    scores = np.zeros((1, 2), dtype="f")

    def loss(cats: dict[str, float]) -> float:
        example = Example.from_dict(nlp.make_doc("the dog"), {"cats": cats})
        return float(textcat.get_loss([example], scores)[0])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = loss({"ANIMAL": 1.0, "PART": 0.0})
    message = (
        r"^\[components.bert_textcat\] 'PRAT' of doc.cats is not among the labels ANIMAL, PART, "
        r"and is not learned: add it to \[initialize.components.bert_textcat.labels\]"
    )
    with pytest.warns(UserWarning, match=message):
        assert loss({"ANIMAL": 1.0, "PART": 0.0, "PRAT": 1.0}) == expected


def several(nlp: Language) -> list[Example]:
    """Each class holds or not by itself; of one Doc a class is not annotated."""
    golds = [
        ("the dog", {"ANIMAL": 1.0, "PART": 0.0}),
        ("the cells", {"ANIMAL": 0.0, "PART": 1.0}),
        ("the fox cells", {"ANIMAL": 1.0, "PART": 1.0}),
        ("the lazy dog energy", {"ANIMAL": 1.0, "PART": 1.0}),
        ("return a string", {"ANIMAL": 0.0, "PART": 0.0}),
        ("values in order", {"ANIMAL": 0.0}),
    ]
    return [Example.from_dict(nlp.make_doc(text), {"cats": cats}) for text, cats in golds]


def test_several_classes_may_hold(checkpoint: Path, tmp_path: Path) -> None:
    nlp, textcat = pipeline(checkpoint, mode="multilabel")
    examples = several(nlp)
    losses = train(nlp, examples, 60)
    assert losses["bert_textcat"] < 0.1
    scores = nlp.evaluate(examples)
    assert scores["cats_macro_f"] == 1.0
    assert scores["cats_macro_auc"] == 1.0
    cats = nlp("the fox cells").cats
    assert min(cats.values()) > 0.5
    nlp.to_disk(tmp_path / "model")
    assert spacy.load(tmp_path / "model")("the fox cells").cats == cats
    assert len(textcat.predict([])) == 0


def test_multilabel_loss_is_the_mean_binary_cross_entropy(checkpoint: Path) -> None:
    nlp, textcat = pipeline(checkpoint, mode="multilabel", loss_weight=3.0)
    examples = several(nlp)
    nlp.initialize(lambda: examples)
    logits = 20 * np.random.default_rng(0).standard_normal((6, 2), dtype="f")
    logits[0, 0] = -200.0  # no overflow
    loss, gradient = textcat.get_loss(examples, logits)
    tensor = torch.from_numpy(logits).requires_grad_()
    truths = torch.tensor(
        [[eg.reference.cats.get(x, 0.0) for x in textcat.labels] for eg in examples]
    )
    known = torch.ones(6, 2)
    known[5, textcat.labels.index("PART")] = 0.0
    each = torch.nn.functional.binary_cross_entropy_with_logits(tensor, truths, reduction="none")
    expected = 3.0 * (each * known).sum() / 11
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_the_threshold_is_that_of_the_config(checkpoint: Path, tmp_path: Path) -> None:
    nlp, textcat = pipeline(checkpoint, mode="multilabel")
    assert textcat.cfg["threshold"] == 0.5
    train(nlp, several(nlp), 1)
    nlp.to_disk(tmp_path / "model")
    override = {"components.bert_textcat.threshold": 0.9}
    loaded = spacy.load(tmp_path / "model", config=override)
    assert loaded.get_pipe("bert_textcat").cfg["threshold"] == 0.9
    assert loaded.evaluate(several(loaded))["cats_macro_r"] == 0.0
    same, other = pipeline(Path("/no/such/place"), mode="multilabel", threshold=0.2)
    same.from_bytes(nlp.to_bytes())
    assert other.cfg["threshold"] == 0.2
    assert other.labels == textcat.labels


def test_wrong_multilabel_settings_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigValidationError, match="bert_textcat -> mode"):
        pipeline(checkpoint, mode="ordinal")
    nlp, textcat = pipeline(checkpoint, mode="multilabel")
    with pytest.raises(ValueError, match='mode must be one of "exclusive", "multilabel", "reg'):
        BertTextCategorizer(nlp.vocab, textcat.model, mode="ordinal", scorer=None)
    with pytest.raises(ValueError, match="positive_label needs two classes"):
        textcat.initialize(lambda: several(nlp), nlp=nlp, positive_label="ANIMAL")
    half = Example.from_dict(nlp.make_doc("text"), {"cats": {"A": 0.5}})
    with pytest.raises(ValueError, match=r"doc.cats\['A'\] is 0.5, but a class holds"):
        nlp.initialize(lambda: [half])
