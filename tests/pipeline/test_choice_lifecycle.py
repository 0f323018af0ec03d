"""Choices and pipelines of `bert_choice` that travel: copies, processes, disk, commands."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import spacy
import srsly
import torch
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus, Example

from spacy_bert.datasets.choices import write_choices
from spacy_bert.datasets.writing import BadRows
from spacy_bert.models.optimizer import build_adamw
from spacy_bert.pipeline.starter import make_starter
from tests.pipeline.endings import (
    ENDINGS,
    assert_close,
    choice_pipeline,
    docs,
    examples,
    gold,
    said,
)
from tests.pipeline.lifecycle import command


def test_choices_travel_with_the_doc(chooser: Language) -> None:
    doc = chooser(docs(chooser)[2])
    expected = doc._.choice_scores
    assert doc._.choice == 2
    doc._.trf_data = None  # the encoder's, and heavy
    binary = DocBin(docs=[doc], store_user_data=True).to_bytes()
    (unpacked,) = DocBin().from_bytes(binary).get_docs(spacy.blank("en").vocab)
    for copy in (doc.copy(), Doc(doc.vocab).from_bytes(doc.to_bytes()), unpacked):
        assert copy._.choice == 2
        assert copy._.choice_scores == expected
    assert type(unpacked._.choice) is int
    assert {type(score) for score in expected} == {float}
    fresh = chooser.make_doc("fresh")
    assert (fresh._.choice, fresh._.choice_scores) == (None, [])


def test_several_processes_say_the_same(chooser: Language) -> None:
    alone = said(list(chooser.pipe(docs(chooser), batch_size=2)))
    apart = said(list(chooser.pipe(docs(chooser), batch_size=2, n_process=2)))
    assert_close(apart, alone)


def test_batches_do_not_matter(chooser: Language) -> None:
    assert_close(
        [chooser(doc)._.choice_scores for doc in docs(chooser)],
        said(list(chooser.pipe(docs(chooser)))),
    )


def test_disk_bytes_and_pickle_round_trips(chooser: Language, saved_chooser: Path) -> None:
    other, _ = choice_pipeline(Path("/no/such/place"), encoder={"stride": 24})
    other.from_bytes(chooser.to_bytes())
    expected = said(list(chooser.pipe(docs(chooser))))
    for copy in (spacy.load(saved_chooser), other, pickle.loads(pickle.dumps(chooser))):
        assert said(list(copy.pipe(docs(copy)))) == expected


def test_plain_texts_with_borders_are_chosen_from(saved_chooser: Path, tmp_path: Path) -> None:
    """As `spacy evaluate` does it: from the text and the gold Docs of a DocBin."""
    nlp = spacy.load(saved_chooser)
    golds = [eg.reference for eg in examples(nlp)]
    DocBin(docs=golds, store_user_data=False).to_disk(tmp_path / "dev.spacy")
    assert nlp.evaluate(list(Corpus(tmp_path / "dev.spacy")(nlp)))["choice_acc"] == 1.0
    command("evaluate", saved_chooser, tmp_path / "dev.spacy", "--output", tmp_path / "out.json")
    assert srsly.read_json(tmp_path / "out.json")["choice_acc"] == 1.0


def test_replaced_listeners_say_the_same(saved_chooser: Path, tmp_path: Path) -> None:
    nlp = spacy.load(saved_chooser)
    expected = said(list(nlp.pipe(docs(nlp))))
    nlp.replace_listeners("bert", "bert_choice", ["model.tok2vec"])
    nlp.remove_pipe("bert")
    tok2vec = nlp.config["components"]["bert_choice"]["model"]["tok2vec"]
    assert tok2vec["@architectures"] == "spacy_bert.PairEncoder.v1"
    assert said(list(nlp.pipe(docs(nlp)))) == expected
    nlp.to_disk(tmp_path / "private")
    loaded = spacy.load(tmp_path / "private")
    assert said(list(loaded.pipe(docs(loaded)))) == expected
    before = nlp.get_pipe("bert_choice").model.to_bytes()
    loaded.update(examples(loaded), sgd=loaded.resume_training(), losses={})
    assert loaded.get_pipe("bert_choice").model.to_bytes() != before


def test_the_encoder_may_be_frozen(checkpoint: Path) -> None:
    nlp, _ = choice_pipeline(checkpoint)
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: examples(nlp), sgd=build_adamw(5e-3))
    frozen = nlp.get_pipe("bert").model.to_bytes()
    losses = [
        nlp.update(examples(nlp), sgd=optimizer, losses={}, exclude=["bert"], annotates=["bert"])[
            "bert_choice"
        ]
        for _ in range(30)
    ]
    assert losses[-1] < 0.7 * losses[0]
    assert nlp.get_pipe("bert").model.to_bytes() == frozen


def test_shares_the_encoder_with_other_components(checkpoint: Path) -> None:
    nlp, _ = choice_pipeline(checkpoint)
    nlp.add_pipe("bert_ner").add_label("PLACE")
    golds = [gold(nlp, *ENDINGS[3]), gold(nlp, *ENDINGS[0])]
    start = golds[0].reference.text.index("Paris")
    ents = [[golds[0].reference.char_span(start, start + 5, label="PLACE")], []]
    for eg, entities in zip(golds, ents, strict=True):
        eg.reference.ents = entities
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: golds, sgd=build_adamw(2e-3))
    for _ in range(40):
        losses = nlp.update(golds, sgd=optimizer, losses={})
    assert max(losses["bert_choice"], losses["bert_ner"]) < 0.3
    first, second = nlp.pipe([eg.predicted for eg in golds])
    assert (first._.choice, second._.choice) == (2, 0)
    assert [ent.text for doc in (first, second) for ent in doc.ents] == ["Paris"]


@pytest.mark.parametrize("private", [False, True])
def test_from_a_file_of_questions_to_an_installed_choice(
    checkpoint: Path, tmp_path: Path, private: bool
) -> None:
    """`data choices`, `init-config`, `train`, `package`, as the README says."""
    labels = "ABCD"
    rows = [
        {
            "question_stem": context,
            "choices": {"text": choices, "label": list(labels[: len(choices)])},
            "answerKey": labels[right],
        }
        for context, choices, right in ENDINGS
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_choices("openbookqa", tmp_path, tmp_path / "data", spacy.blank("en"), BadRows())
    starter = make_starter(["bert_choice"], str(checkpoint), max_steps=60, private=private)
    starter.config.to_disk(tmp_path / "config.cfg")
    overrides = {
        **dict.fromkeys(("paths.train", "paths.dev"), str(tmp_path / "data" / "train.spacy")),
        "training.dropout": 0.0,
        "training.eval_frequency": 60,
        "training.optimizer.learn_rate.initial_rate": 1e-3,
    }
    train(tmp_path / "config.cfg", tmp_path / "model", overrides=overrides)
    nlp = spacy.load(tmp_path / "model" / "model-last")
    assert nlp.meta["performance"]["choice_acc"] == 1.0
    expected = said(list(nlp.pipe(docs(nlp))))
    assert [row.index(max(row)) for row in expected] == [right for *_, right in ENDINGS]
    (tmp_path / "packages").mkdir()
    command(
        "package",
        tmp_path / "model" / "model-last",
        tmp_path / "packages",
        "--name",
        "chooser",
        "--build",
        "none",
    )
    (packaged,) = (tmp_path / "packages").glob("*/*/*/config.cfg")
    copy = spacy.load(packaged.parent)
    assert said(list(copy.pipe(docs(copy)))) == (expected)


def test_unannotated_docs_of_a_corpus_do_not_count(chooser: Language) -> None:
    golds = examples(chooser)
    unknown = Example(chooser.make_doc("A\x1eb\x1ec"), chooser.make_doc("A\x1eb\x1ec"))
    assert chooser.evaluate([*golds, unknown])["choice_acc"] == 1.0
