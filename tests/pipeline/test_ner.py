"""The component `bert_ner`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example, iob_to_biluo

import spacy_bert
from spacy_bert.models.heads import head_shim
from spacy_bert.models.optimizer import build_adamw
from spacy_bert.pipeline import bio
from spacy_bert.pipeline.ner import BertEntityRecognizer

GOLD = [
    ("The quick brown fox jumps over Paris .", [(31, 36, "LOC")]),
    ("Ada Lovelace wrote to London .", [(0, 12, "PER"), (22, 28, "LOC")]),
    ("a list keeps values", []),
    ("New   York has dogs", [(0, 10, "LOC")]),
]


def pipeline(checkpoint: Path, **config: Any) -> tuple[Language, BertEntityRecognizer]:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    ner = nlp.add_pipe("bert_ner", config=config)
    assert isinstance(ner, BertEntityRecognizer)
    return nlp, ner


def examples(nlp: Language) -> list[Example]:
    return [Example.from_dict(nlp.make_doc(text), {"entities": ents}) for text, ents in GOLD]


def entities(doc: Doc) -> list[tuple[int, int, str]]:
    return [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]


@pytest.fixture(scope="module")
def trained(checkpoint: Path) -> Language:
    nlp, _ = pipeline(checkpoint)
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: examples(nlp), sgd=build_adamw(2e-3))
    losses: dict[str, float] = {}
    for _ in range(40):
        losses = nlp.update(examples(nlp), sgd=optimizer, losses={})
    assert losses["bert_ner"] < 0.1
    return nlp


def test_learns_entities_with_white_space_inside(trained: Language) -> None:
    docs = list(trained.pipe(text for text, _ in GOLD))
    assert [entities(doc) for doc in docs] == [ents for _, ents in GOLD]
    scores = trained.evaluate(examples(trained))
    assert scores["ents_f"] == 1.0
    assert set(scores["ents_per_type"]) == {"PER", "LOC"}


def test_confidences_stand_beside_the_entities(trained: Language) -> None:
    for doc in trained.pipe(text for text, _ in GOLD):
        group = doc.spans["ents"]
        assert [(s.start, s.end, s.label_) for s in group] == [
            (e.start, e.end, e.label_) for e in doc.ents
        ]
        assert len(group.attrs["scores"]) == len(doc.ents)
        assert all(0.5 < score <= 1.0 for score in group.attrs["scores"])
    loaded = list(DocBin().from_bytes(DocBin(docs=[doc]).to_bytes()).get_docs(doc.vocab))
    np.testing.assert_array_equal(loaded[0].spans["ents"].attrs["scores"], group.attrs["scores"])


def test_a_confidence_is_the_mean_probability_of_the_label(trained: Language) -> None:
    """White space inside of an entity does not count."""
    ner = trained.get_pipe("bert_ner")
    doc = trained.make_doc("New   York")
    labels = ner.labels
    tag = {name: 2 * labels.index(name) + 1 for name in labels}
    probabilities = np.zeros((3, bio.number_of_tags(labels)), dtype="f")
    probabilities[0, tag["LOC"]], probabilities[0, tag["LOC"] + 1] = 0.6, 0.3
    probabilities[1, 0] = 1.0
    probabilities[2, tag["LOC"] + 1], probabilities[2, tag["PER"]] = 0.7, 0.3
    ner.set_annotations([doc], [probabilities])
    assert entities(doc) == [(0, 10, "LOC")]
    assert doc.spans["ents"].attrs["scores"] == pytest.approx([0.8])


def test_disk_and_bytes_round_trips(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path / "model")
    other, _ = pipeline(Path("/no/such/place"))
    other.from_bytes(trained.to_bytes())
    for copy in (spacy.load(tmp_path / "model"), other):
        for text, ents in GOLD:
            assert entities(copy(text)) == ents
            expected = trained(text).spans["ents"].attrs["scores"]
            np.testing.assert_array_equal(copy(text).spans["ents"].attrs["scores"], expected)


def test_loss_is_the_mean_cross_entropy_over_known_tokens(checkpoint: Path) -> None:
    nlp, ner = pipeline(checkpoint, loss_weight=2.0)
    nlp.initialize(lambda: examples(nlp))
    unknown = Example(nlp.make_doc("nothing is known"), nlp.make_doc("nothing is known"))
    batch = [unknown, *examples(nlp), Example(nlp.make_doc(""), nlp.make_doc(""))]
    tags = bio.number_of_tags(ner.labels)
    generator = np.random.default_rng(0)
    logits = [generator.standard_normal((len(eg.predicted), tags), dtype="f") for eg in batch]
    loss, gradient = ner.get_loss(batch, logits)
    gold = [bio.encode(eg.get_aligned_ner(), ner.labels) for eg in batch]
    tensor = torch.from_numpy(np.concatenate(logits)).requires_grad_()
    targets = torch.from_numpy(np.concatenate(gold))
    expected = 2.0 * torch.nn.functional.cross_entropy(tensor, targets, ignore_index=bio.MISSING)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert [len(g) for g in gradient] == [len(x) for x in logits]
    np.testing.assert_allclose(np.concatenate(gradient), tensor.grad.numpy(), atol=1e-7)
    assert not gradient[0].any()


@pytest.mark.filterwarnings("ignore:.*W030")
def test_misaligned_gold_is_left_out_not_guessed(checkpoint: Path) -> None:
    nlp, ner = pipeline(checkpoint)
    nlp.initialize(lambda: examples(nlp))
    reference = Doc(nlp.vocab, words=["New", "York", "dogs"], ents=["B-LOC", "I-LOC", "O"])
    predicted = Doc(nlp.vocab, words=["New", "York dogs"])
    tags = bio.encode(Example(predicted, reference).get_aligned_ner(), ner.labels)
    assert tags.tolist() == [bio.MISSING, bio.MISSING]
    split = Doc(nlp.vocab, words=["N", "ew", "York", "dogs"], spaces=[False, True, True, False])
    aligned = bio.encode(Example(split, reference).get_aligned_ner(), ner.labels)
    label = ner.labels.index("LOC")
    assert aligned.tolist() == [2 * label + 1, 2 * label + 2, 2 * label + 2, 0]


def test_iob1_through_spacy_conversion(checkpoint: Path) -> None:
    _, ner = pipeline(checkpoint)
    for label in ("PER", "LOC"):
        ner.add_label(label)
    iob1 = ["I-PER", "I-PER", "B-PER", "O", "I-LOC"]
    assert bio.encode(iob_to_biluo(iob1), ner.labels).tolist() == [1, 2, 1, 0, 3]


def test_entities_do_not_cross_segments(trained: Language) -> None:
    ner = trained.get_pipe("bert_ner")
    doc = spacy_bert.join(trained, "New", "York")
    probabilities = np.zeros((3, bio.number_of_tags(ner.labels)), dtype="f")
    label = ner.labels.index("LOC")
    probabilities[:, 2 * label + 2] = 1.0
    ner.set_annotations([doc], [probabilities])
    assert entities(doc) == [(0, 3, "LOC"), (4, 8, "LOC")]


def test_entities_of_others_and_blocked_tokens_are_kept(trained: Language) -> None:
    text, _ = GOLD[1]  # Ada Lovelace wrote to London .
    doc = trained.make_doc(text)
    doc.set_ents([Span(doc, 0, 1, "CUSTOM")], blocked=[doc[4:5]], default="missing")
    doc = trained(doc)
    assert entities(doc) == [(0, 3, "CUSTOM")]
    assert doc[2].ent_iob_ == "O", "what is left is outside, no longer unknown"
    assert len(doc.spans["ents"]) == len(doc.spans["ents"].attrs["scores"]) == 0
    assert entities(trained(trained(text))) == entities(trained(text))


def test_begins_with_the_frequencies_of_the_tags(checkpoint: Path) -> None:
    nlp, ner = pipeline(checkpoint)
    gold = examples(nlp)
    nlp.initialize(lambda: gold)
    expected = bio.frequencies([example.reference for example in gold], ner.labels)
    assert expected[0] == expected.max()
    torch.nn.init.zeros_(head_shim(ner.model).module.output.weight)
    (probabilities,) = ner.predict([nlp.get_pipe("bert")(nlp.make_doc(GOLD[0][0]))])
    assert np.allclose(probabilities, expected)


def test_labels_can_be_added_after_training(checkpoint: Path) -> None:
    nlp, ner = pipeline(checkpoint)
    nlp.initialize(lambda: examples(nlp))
    before = head_shim(ner.model).module.output.weight.detach().clone()
    assert ner.add_label("EVENT") == 1
    assert ner.add_label("EVENT") == 0
    after = head_shim(ner.model).module.output.weight
    assert torch.equal(after[: len(before)], before)
    more = Example.from_dict(nlp.make_doc("the war"), {"entities": [(4, 7, "EVENT")]})
    losses = nlp.update([more], sgd=build_adamw(1e-3))
    assert math.isfinite(losses["bert_ner"])
    assert len(nlp("the war")) == 2


def test_empty_docs_and_batches(trained: Language) -> None:
    ner = trained.get_pipe("bert_ner")
    assert ner.predict([]) == []
    docs = list(trained.pipe(["", " ", "\n\n", GOLD[0][0], ""]))
    assert [len(doc.ents) for doc in docs] == [0, 0, 0, 1, 0]
    assert all("ents" in doc.spans for doc in docs)
    empty = Example(trained.make_doc(""), trained.make_doc(""))
    assert trained.update([empty], sgd=build_adamw(1e-5))["bert_ner"] == 0.0
    blank = Example.from_dict(trained.make_doc("  "), {"entities": []})
    assert math.isfinite(trained.update([blank, empty], sgd=build_adamw(1e-9))["bert_ner"])


def test_wrong_settings_and_gold_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="loss_weight must be above 0"):
        pipeline(checkpoint, loss_weight=-1.0)
    with pytest.raises(ValueError, match="spans_key must not be empty"):
        pipeline(checkpoint, spans_key="")
    nlp, ner = pipeline(checkpoint)
    with pytest.raises(ValueError, match="E143"):
        ner.predict([nlp.make_doc("text")])
    nlp.initialize(lambda: examples(nlp))
    strange = Example.from_dict(nlp.make_doc("the war"), {"entities": [(4, 7, "EVENT")]})
    with pytest.raises(ValueError, match="entity label 'EVENT' is not among the labels"):
        nlp.update([strange])
    with pytest.raises(ValueError, match=r"'bert_ner' reads what the shared encoder leaves"):
        nlp("the war", disable=["bert"])
    nothing = [Example.from_dict(nlp.make_doc("the war"), {"entities": []})]
    other, _ = pipeline(checkpoint)
    with pytest.raises(ValueError, match=r"^\[components.bert_ner\] no training Doc has an entity"):
        other.initialize(lambda: nothing)


@pytest.mark.parametrize("way", ["add_label", "initialize"])
def test_named_labels_need_no_entity_in_the_sample(checkpoint: Path, way: str) -> None:
    nlp, ner = pipeline(checkpoint)
    nothing = [Example.from_dict(nlp.make_doc("the war"), {"entities": []})]
    if way == "add_label":
        ner.add_label("EVENT")
    else:
        nlp.config["initialize"]["components"]["bert_ner"] = {"labels": ["EVENT"]}
    optimizer = nlp.initialize(lambda: nothing)
    assert ner.labels == ("EVENT",)
    assert math.isfinite(nlp.update(nothing, sgd=optimizer, losses={})["bert_ner"])
