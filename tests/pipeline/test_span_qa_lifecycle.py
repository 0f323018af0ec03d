"""Answers and pipelines of `bert_span_qa` that travel: copies, processes, disk, commands."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.cli.init_config import fill_config
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin

import spacy_bert
from spacy_bert.bert import BertConfig, BertForPreTraining, save_pretrained
from spacy_bert.datasets.squad import write_squad
from spacy_bert.datasets.writing import BadRows
from spacy_bert.models.optimizer import build_adamw
from spacy_bert.wordpiece import WordPiece
from tests.pipeline.lifecycle import command
from tests.pipeline.questions import (
    CONTEXT,
    GOLD,
    KEY,
    assert_close,
    docs,
    examples,
    qa_pipeline,
    said,
)


def test_answers_travel_with_the_doc(reader: Language) -> None:
    doc = reader(docs(reader)[2])
    expected = doc._.answers
    assert expected[0].text == "$5"
    doc._.trf_data = None  # the encoder's, and heavy
    binary = DocBin(docs=[doc], store_user_data=True).to_bytes()
    (unpacked,) = DocBin().from_bytes(binary).get_docs(spacy.blank("en").vocab)
    for copy in (doc.copy(), Doc(doc.vocab).from_bytes(doc.to_bytes()), unpacked):
        assert copy._.answers == expected
        assert copy.spans[KEY].attrs["texts"] == ["$5"]
    assert reader.make_doc("fresh")._.answers == []


def test_several_processes_say_the_same(reader: Language) -> None:
    alone = said(list(reader.pipe(docs(reader), batch_size=2)))
    apart = said(list(reader.pipe(docs(reader), batch_size=2, n_process=2)))
    assert_close(apart, alone)


def test_batches_do_not_matter(reader: Language) -> None:
    assert_close(
        [reader(doc)._.answers for doc in docs(reader)], said(list(reader.pipe(docs(reader))))
    )


def test_disk_bytes_and_pickle_round_trips(reader: Language, saved_reader: Path) -> None:
    other, _ = qa_pipeline(Path("/no/such/place"), encoder={"stride": 24}, null_answers=True)
    other.from_bytes(reader.to_bytes())
    expected = said(list(reader.pipe(docs(reader))))
    for copy in (spacy.load(saved_reader), other, pickle.loads(pickle.dumps(reader))):
        assert said(list(copy.pipe(docs(copy)))) == expected


def test_plain_texts_with_a_border_are_answered(saved_reader: Path, tmp_path: Path) -> None:
    """As `spacy evaluate` does it: from the text and the gold Docs of a DocBin."""
    nlp = spacy.load(saved_reader)
    golds = [eg.reference for eg in examples(nlp)]
    DocBin(docs=golds, store_user_data=False).to_disk(tmp_path / "dev.spacy")
    corpus = spacy.training.Corpus(tmp_path / "dev.spacy")
    assert nlp.evaluate(list(corpus(nlp)))["answers_em"] == 1.0


def test_from_a_file_of_questions_to_answers(checkpoint: Path, tmp_path: Path) -> None:
    """`data squad` and `train` with the config that ships, as the README says."""
    config = Path(__file__).parents[2] / "configs" / "squad.cfg"
    before, after = fill_config(tmp_path / "filled.cfg", config, silent=True)
    assert before.to_str() == after.to_str()
    rows = [
        {
            "question": question,
            "is_impossible": not texts,
            "answers": [{"text": text, "answer_start": CONTEXT.index(text)} for text in texts],
        }
        for question, texts in GOLD
    ]
    data = {"data": [{"paragraphs": [{"context": CONTEXT, "qas": rows}]}]}
    (tmp_path / "train.json").write_text(json.dumps(data))
    write_squad(tmp_path / "train.json", tmp_path / "train.spacy", rows=BadRows())
    overrides = {
        **dict.fromkeys(("paths.train", "paths.dev"), str(tmp_path / "train.spacy")),
        "paths.encoder": str(checkpoint),
        "components.bert.model.window": 64,
        "components.bert.model.stride": 24,
        "components.bert_span_qa.null_answers": True,
        "training.max_steps": 60,
        "training.eval_frequency": 60,
        "training.dropout": 0.0,
        "training.optimizer.learn_rate.initial_rate": 2e-3,
        "training.optimizer.learn_rate.warmup_steps": 0,
        "training.optimizer.learn_rate.total_steps": 100,
    }
    train(config, tmp_path / "model", overrides=overrides)
    nlp = spacy.load(tmp_path / "model" / "model-last")
    assert nlp.meta["performance"]["answers_f1"] > 0.9
    command("evaluate", tmp_path / "model" / "model-last", tmp_path / "train.spacy")
    assert spacy_bert.ask(nlp, "Since when?", CONTEXT).text == "mid-1980s"


def test_a_threshold_of_the_day_wins_over_the_saved_one(saved_reader: Path) -> None:
    def load(**values: Any) -> Language:
        return spacy.load(saved_reader, config={"components": {"bert_span_qa": values}})

    never, always = load(null_threshold=1e9), load(null_threshold=-1e9)
    assert all(doc._.answers[0].text for doc in never.pipe(docs(never)))
    assert not any(doc._.answers[0].text for doc in always.pipe(docs(always)))
    assert all(doc._.answers[-1].is_null for doc in never.pipe(docs(never)))
    few = load(null_answers=False, n_best=3)
    assert [len(doc._.answers) for doc in few.pipe(docs(few))] == [3] * len(GOLD)
    short = load(max_answer_pieces=1, null_threshold=1e9)
    assert all(
        " " not in answer.text for doc in short.pipe(docs(short)) for answer in doc._.answers
    )


def test_replaced_listeners_say_the_same(saved_reader: Path, tmp_path: Path) -> None:
    nlp = spacy.load(saved_reader)
    expected = said(list(nlp.pipe(docs(nlp))))
    nlp.replace_listeners("bert", "bert_span_qa", ["model.tok2vec"])
    nlp.remove_pipe("bert")
    tok2vec = nlp.config["components"]["bert_span_qa"]["model"]["tok2vec"]
    assert tok2vec["@architectures"] == "spacy_bert.PieceEncoder.v1"
    assert said(list(nlp.pipe(docs(nlp)))) == expected
    nlp.to_disk(tmp_path / "private")
    loaded = spacy.load(tmp_path / "private")
    assert said(list(loaded.pipe(docs(loaded)))) == expected
    before = nlp.get_pipe("bert_span_qa").model.to_bytes()
    loaded.update(examples(loaded), sgd=loaded.resume_training(), losses={})
    assert loaded.get_pipe("bert_span_qa").model.to_bytes() != before


def test_shares_the_encoder_with_other_components(checkpoint: Path) -> None:
    nlp, _ = qa_pipeline(checkpoint)
    nlp.add_pipe("bert_ner").add_label("PLACE")
    golds = examples(nlp)
    for eg in golds:
        start = eg.reference.text.index("Paris")
        eg.reference.ents = [eg.reference.char_span(start, start + 5, label="PLACE")]
    optimizer = nlp.initialize(lambda: golds, sgd=build_adamw(2e-3))
    torch.manual_seed(0)
    for _ in range(40):
        losses = nlp.update(golds, sgd=optimizer, losses={})
    assert losses["bert_span_qa"] < 1.0
    doc = nlp(docs(nlp)[0])
    assert doc._.answers[0].text == "The quick brown fox"
    assert [ent.text for ent in doc.ents] == ["Paris"]


def test_a_left_to_right_encoder_will_do(tmp_path: Path, wordpiece: WordPiece) -> None:
    config = BertConfig.preset(
        "tiny", vocab_size=len(wordpiece), max_position_embeddings=64, is_decoder=True
    )
    save_pretrained(BertForPreTraining(config), tmp_path)
    wordpiece.save(tmp_path)
    nlp, _ = qa_pipeline(tmp_path)
    optimizer = nlp.initialize(lambda: examples(nlp), sgd=build_adamw(1e-3))
    losses = [nlp.update(examples(nlp), sgd=optimizer, losses={})["bert_span_qa"] for _ in range(8)]
    assert losses[-1] < losses[0]
