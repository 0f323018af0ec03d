"""Heads, and what they read: the shared encoder or one of their own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example

from spacy_bert.bert import BertForPreTraining, load_config, save_pretrained
from spacy_bert.models.bilstm import build_bilstm
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.heads import build_module, build_textcat, head_shim, resize_labels
from spacy_bert.models.listeners import build_cls_listener, private_config
from spacy_bert.models.optimizer import build_adamw
from spacy_bert.wordpiece import WordPiece
from tests.conftest import SENTENCES


def test_more_labels_keep_what_was_learned() -> None:
    model = build_textcat(build_cls_listener(), nO=2)
    model.get_ref("head").initialize(X=np.zeros((1, 6), "f"), Y=np.zeros((1, 2), "f"))
    vectors = np.ones((3, 6), dtype="f")
    before = model.get_ref("head").predict(vectors)
    resize_labels(model, 5)
    after = model.get_ref("head").predict(vectors)
    assert after.shape == (3, 5)
    np.testing.assert_allclose(after[:, :2], before, rtol=1e-6)


def test_head_gradients_equal_autograd() -> None:
    model = build_textcat(build_cls_listener(), nO=3).get_ref("head")
    model.attrs["dropout_rate"] = 0.0
    model.initialize(X=np.zeros((1, 6), "f"), Y=np.zeros((1, 3), "f"))
    generator = np.random.default_rng(1)
    x, d_y = (generator.standard_normal((4, n), dtype="f") for n in (6, 3))
    _, backprop = model.begin_update(x)
    d_x = backprop(d_y)
    module = build_module({"hidden_size": 6, "labels": 3, "pooler": True}).eval()
    module.load_state_dict(head_shim(model).module.state_dict())
    inputs = torch.from_numpy(x).requires_grad_()
    module(inputs).backward(torch.from_numpy(d_y))
    np.testing.assert_allclose(d_x, inputs.grad.numpy(), rtol=1e-5)
    for ours, theirs in zip(head_shim(model).module.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


TAGGER = {
    "@architectures": "spacy.Tagger.v2",
    "tok2vec": {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": 1.0,
        "pooling": {"@layers": "reduce_mean.v1"},
        "upstream": "*",
    },
}
LISTENERS = ("bert_textcat", "bert_ner", "tagger")


def examples(nlp: Language) -> list[Example]:
    found = []
    for i, text in enumerate([*SENTENCES, "two  spaces", ""]):
        doc = nlp.make_doc(text)
        gold: dict[str, Any] = {"cats": {"A": float(i % 2), "B": float(1 - i % 2)}}
        if len(doc):
            gold["tags"] = ["X" if token.is_alpha else "Y" for token in doc]
            gold["entities"] = [(0, len(doc[0]), "FIRST")]
        found.append(Example.from_dict(doc, gold))
    return found


def shared(checkpoint: Path) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    for factory in LISTENERS:
        nlp.add_pipe(factory, config={"model": TAGGER} if factory == "tagger" else {})
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: examples(nlp), sgd=build_adamw(1e-3))
    for _ in range(3):
        nlp.update(examples(nlp), sgd=optimizer)
    return nlp


def seen(nlp: Language, text: str) -> tuple[Any, ...]:
    doc = nlp(text)
    return doc.cats, [t.tag_ for t in doc], [(e.text, e.label_) for e in doc.ents]


def test_replaced_listeners_own_encoders_and_predict_the_same(
    checkpoint: Path, tmp_path: Path
) -> None:
    nlp = shared(checkpoint)
    texts = [*SENTENCES, "two  spaces", ""]
    expected = [seen(nlp, text) for text in texts]
    encoder = encoder_shim(nlp.get_pipe("bert").model)
    for name in LISTENERS:
        nlp.replace_listeners("bert", name, ["model.tok2vec"])
    nlp.remove_pipe("bert")
    assert [seen(nlp, text) for text in texts] == expected
    nlp.to_disk(tmp_path / "private")
    loaded = spacy.load(tmp_path / "private")
    assert [seen(loaded, text) for text in texts] == expected
    # Each trains its own from now on.
    before = encoder.to_bytes()
    losses: dict[str, float] = {}
    optimizer = build_adamw(1e-3)
    for _ in range(20):
        losses = loaded.update(examples(loaded), sgd=optimizer, losses={})
    assert losses["bert_textcat"] < 0.2
    assert losses["bert_ner"] < 0.1
    assert encoder.to_bytes() == before


def test_a_private_encoder_can_be_configured_from_the_start(checkpoint: Path) -> None:
    nlp = spacy.blank("en")
    encoder = {"@architectures": "spacy_bert.Encoder.v1", "name": str(checkpoint)}
    for factory, reader in (("bert_textcat", "ClsEncoder"), ("bert_ner", "TokenEncoder")):
        tok2vec = {"@architectures": f"spacy_bert.{reader}.v1", "encoder": encoder}
        nlp.add_pipe(factory, config={"model": {"tok2vec": tok2vec}})
    optimizer = nlp.initialize(lambda: examples(nlp), sgd=build_adamw(2e-3))
    for _ in range(30):
        losses = nlp.update(examples(nlp), sgd=optimizer, losses={})
    assert losses["bert_textcat"] < 0.2
    assert losses["bert_ner"] < 0.1
    empty = [Example(nlp.make_doc(""), nlp.make_doc(""))]
    assert set(nlp.update(empty, sgd=optimizer, losses={}).values()) == {0.0}


def test_the_private_config_is_found_inside_of_other_layers() -> None:
    encoder = {"@architectures": "spacy_bert.Encoder.v1"}
    listener = {"@architectures": "spacy_bert.ClsListener.v1", "upstream": "*"}
    expected = {"@architectures": "spacy_bert.ClsEncoder.v1", "encoder": encoder}
    assert private_config(encoder, listener) == expected
    inside = {"@architectures": "spacy.Tok2Vec.v2", "embed": TAGGER["tok2vec"]}
    found = private_config(encoder, inside)
    assert found["@architectures"] == "spacy_bert.Tok2VecEncoder.v1"
    assert found["pooling"] == {"@layers": "reduce_mean.v1"}
    with pytest.raises(ValueError, match=r"place of the listener in spacy.HashEmbedCNN.v2"):
        private_config(encoder, {"@architectures": "spacy.HashEmbedCNN.v2"})


def bilstm(**embed: object) -> dict[str, Any]:
    return {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": {"@architectures": "spacy_bert.TokenListener.v1", **embed},
        "encode": {
            "@architectures": "spacy_bert.BiLSTM.v1",
            "width": 128,
            "depth": 2,
            "dropout": 0.1,
        },
    }


@pytest.fixture(scope="module")
def causal(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A left-to-right checkpoint."""
    path = tmp_path_factory.mktemp("causal")
    torch.manual_seed(0)
    shape = dataclasses.replace(load_config(checkpoint), is_decoder=True)
    save_pretrained(BertForPreTraining(shape), path)
    WordPiece.load(checkpoint).save(path)
    return path


def test_a_bilstm_between_listener_and_head(causal: Path, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(causal)}})
    mean = {"@architectures": "spacy_bert.TokenMean.v1", "tok2vec": bilstm()}
    nlp.add_pipe("bert_textcat", config={"model": {"tok2vec": mean}})
    nlp.add_pipe("bert_ner", config={"model": {"tok2vec": bilstm()}})
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: examples(nlp), sgd=build_adamw(1e-3))
    assert nlp.get_pipe("bert").listening_components == ["bert_textcat", "bert_ner"]
    lstm = nlp.get_pipe("bert_ner").model.get_ref("tok2vec").get_ref("encode")
    (shim,) = [shim for node in lstm.walk() for shim in node.shims]
    before = {name: p.detach().clone() for name, p in shim.module.named_parameters()}
    encoder = encoder_shim(nlp.get_pipe("bert").model)
    embeddings = encoder.network.embeddings.piece.weight.detach().clone()
    for _ in range(30):
        losses = nlp.update(examples(nlp), sgd=optimizer, losses={})
    assert losses["bert_textcat"] < 0.2
    assert losses["bert_ner"] < 0.2
    assert all((p != before[name]).any() for name, p in shim.module.named_parameters())
    assert (encoder.network.embeddings.piece.weight != embeddings).any()

    texts = [*SENTENCES, "two  spaces", " ", ""]
    expected = [seen(nlp, text) for text in texts]
    nlp.to_disk(tmp_path / "shared")
    loaded = spacy.load(tmp_path / "shared")
    assert [seen(loaded, text) for text in texts] == expected
    loaded.replace_listeners("bert", "bert_ner", ["model.tok2vec.embed"])
    loaded.replace_listeners("bert", "bert_textcat", ["model.tok2vec.tok2vec.embed"])
    loaded.remove_pipe("bert")
    loaded.to_disk(tmp_path / "private")
    assert [seen(spacy.load(tmp_path / "private"), text) for text in texts] == expected
    # Each Doc by itself is what it is among others, whatever their lengths.
    cats = [doc.cats for doc in nlp.pipe(texts)]
    for found, (alone, *_) in zip(cats, expected, strict=True):
        assert found == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"width": 7}, "width must be even"), ({"depth": 0}, "depth"), ({"dropout": 1.0}, "dropout")],
)
def test_a_bilstm_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_bilstm(**{"width": 8, **options})


def test_a_left_to_right_encoder_is_read_at_its_last_piece(causal: Path, tmp_path: Path) -> None:
    def pipeline(**options: str) -> Language:
        nlp = spacy.blank("en")
        nlp.add_pipe("bert", config={"model": {"name": str(causal)}})
        listener = {"@architectures": "spacy_bert.ClsListener.v1", **options}
        nlp.add_pipe("bert_textcat", config={"model": {"tok2vec": listener}})
        return nlp

    nlp = pipeline()
    with pytest.raises(ValueError, match=r"bert_textcat.model.tok2vec\] piece = .last."):
        nlp.initialize(lambda: examples(nlp))
    nlp = pipeline(piece="last")
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: examples(nlp), sgd=build_adamw(1e-3))
    for _ in range(30):
        losses = nlp.update(examples(nlp), sgd=optimizer, losses={})
    assert losses["bert_textcat"] < 0.3  # from [CLS] alone it could not fall below ln 2
    expected = [nlp(text).cats for text in SENTENCES]
    nlp.to_disk(tmp_path / "shared")
    loaded = spacy.load(tmp_path / "shared")
    loaded.replace_listeners("bert", "bert_textcat", ["model.tok2vec"])
    loaded.remove_pipe("bert")
    loaded.to_disk(tmp_path / "private")
    assert loaded.config["components"]["bert_textcat"]["model"]["tok2vec"]["piece"] == "last"
    assert [spacy.load(tmp_path / "private")(text).cats for text in SENTENCES] == expected
