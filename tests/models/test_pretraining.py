"""The objective of `spacy pretrain`: against the engine, against torch, and its mistakes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from safetensors.torch import load_file, save_file
from spacy.tokens import Doc
from spacy.training.pretrain import create_pretraining_model, make_update
from spacy.util import registry
from spacy.vocab import Vocab
from thinc.api import Adam, Model, warmup_linear
from torch import nn

import spacy_bert
from spacy_bert.bert import BertForPreTraining, load_pretraining
from spacy_bert.models.doc_corpus import corpus_in_memory, sentences
from spacy_bert.models.encoder import EncoderShim, build_encoder, encoder_shim
from spacy_bert.models.optimizer import AdamW, build_adamw
from spacy_bert.models.pretraining import Pretraining, PretrainingModel, build_pretraining
from spacy_bert.models.pretraining_heads import Heads
from spacy_bert.pretraining.batches import PreTrainingBatch
from spacy_bert.pretraining.objective import pretraining_losses
from spacy_bert.wordpiece import WordPiece
from tests.conftest import SENTENCES

NLP = spacy.blank("en")


def documents(number: int = 16) -> list[Doc]:
    """Docs of one to five lines."""
    texts = [SENTENCES[i % 5 : i % 5 + 1 + i // 3 % 5] or SENTENCES for i in range(number)]
    return [NLP.make_doc("\n".join(lines)) for lines in texts]


def build(
    checkpoint: Path, encoder: dict[str, Any] | None = None, **settings: Any
) -> PretrainingModel:
    """The model as `spacy pretrain` makes it, without dropout."""
    tok2vec = build_encoder(name=str(checkpoint), **(encoder or {}))
    tok2vec.initialize()
    create = build_pretraining(**{"sequence_length": 64, **settings})
    model = create(Vocab(), tok2vec)
    model.initialize(X=[NLP.make_doc("Give it a doc to infer shapes")])
    model.attrs["dropout_rate"] = 0.0
    return model


def pretraining(model: PretrainingModel) -> Pretraining:
    found = model._func
    assert isinstance(found, Pretraining)
    return found


def the_same_draws(model: PretrainingModel, checkpoint: Path, **settings: Any) -> Pretraining:
    """Another one, that draws what the model will."""
    return pretraining(build(checkpoint, **settings))


def gradients(model: PretrainingModel) -> dict[str, torch.Tensor | None]:
    """Under the names that the whole torch network gives them."""
    found = {
        f"bert.{n}": p.grad for n, p in encoder_shim(model.layers[0]).network.named_parameters()
    }
    found |= {n: p.grad for n, p in pretraining(model).heads.module.named_parameters()}
    return found


def weights(model: PretrainingModel) -> dict[str, torch.Tensor]:
    model.to_bytes()  # lets the step be taken that is still open
    found = {f"bert.{n}": p for n, p in encoder_shim(model.layers[0]).network.named_parameters()}
    return found | dict(pretraining(model).heads.module.named_parameters())


@pytest.mark.parametrize("objective", ["mlm+nsp", "mlm"])
@pytest.mark.parametrize("pieces", [None, 128])
def test_loss_and_gradients_are_the_engines(
    checkpoint: Path, objective: str, pieces: int | None
) -> None:
    """On the same batch; one that comes in parts has the mean loss of all that is in it."""
    settings = {"objective": objective, "encoder": {"max_batch_pieces": pieces}}
    model, docs = build(checkpoint, **settings), documents()
    losses, backprop = model.begin_update(docs)
    total, gradient = model.attrs["loss"](model.ops, docs, losses)
    assert gradients(model)["mlm.bias"] is None, "nothing before the backward pass"
    backprop(gradient)

    parts = the_same_draws(model, checkpoint, **settings).draw(docs)
    assert (len(parts) > 3) == (pieces is not None)
    network = load_pretraining(checkpoint).eval()
    expected = engine_loss(network, parts)
    assert total == pytest.approx(expected.item(), abs=1e-6)
    if len(parts) == 1:
        assert total == expected.item()
    expected.backward()
    found = gradients(model)
    for name, parameter in network.named_parameters():
        if parameter.grad is None:
            assert found.pop(name) is None, name
        else:
            torch.testing.assert_close(found.pop(name), parameter.grad, atol=1e-5, rtol=1e-5)
    assert not found
    without_decoder = gradients(model)["bert.embeddings.piece.weight"]
    unseen = set(range(network.config.vocab_size)).difference(
        *(part.packed.pieces.tolist() for part in parts)
    )
    assert without_decoder[list(unseen)].abs().max() > 0, "the decoder's, of pieces not read"


def engine_loss(network: nn.Module, parts: list[PreTrainingBatch]) -> torch.Tensor:
    """The loss of the parts taken together: of the sequences, and of the masked pieces."""
    losses = [pretraining_losses(network, part) for part in parts]
    masked = [len(part.targets) for part in parts]
    rows = [len(part.packed.lengths) for part in parts]
    total = sum(n * loss.mlm for n, loss in zip(masked, losses, strict=True)) / sum(masked)
    if losses[0].nsp is not None:
        total = total + sum(n * loss.nsp for n, loss in zip(rows, losses, strict=True)) / sum(rows)
    return total


def plain_loop(
    checkpoint: Path, draws: Pretraining, batches: list[list[Doc]], rates: Iterable[float]
) -> tuple[BertForPreTraining, list[float]]:
    """The loop as everyone writes it."""
    network = load_pretraining(checkpoint).eval()
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    losses = []
    for docs, rate in zip(batches, rates, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = engine_loss(network, draws.draw(docs))
        losses.append(loss.item())
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return network, losses


def test_steps_are_those_of_a_plain_torch_loop(checkpoint: Path) -> None:
    """As spaCy's loop calls: one step a batch, and the learning rate moves on by itself."""
    model, docs = build(checkpoint), documents(40)
    batches = [docs[i : i + 8] for i in range(0, 40, 8)]
    optimizer = build_adamw(warmup_linear(1e-3, 2, 6))
    assert isinstance(optimizer, AdamW)
    losses = [make_update(model, batch, optimizer, model.attrs["loss"]) for batch in batches]
    rates = warmup_linear(1e-3, 2, 6)
    network, expected = plain_loop(checkpoint, the_same_draws(model, checkpoint), batches, rates)
    assert losses == pytest.approx(expected, abs=1e-5)
    found = weights(model)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(found[name], parameter, atol=1e-5, rtol=0, msg=name)
    assert optimizer.learn_rate == pytest.approx(next(rates))


def test_saving_takes_the_last_step(checkpoint: Path) -> None:
    model, optimizer = build(checkpoint), build_adamw(1e-3)
    before = model.get_ref("tok2vec").to_bytes()
    make_update(model, documents(), optimizer, model.attrs["loss"])
    with model.use_params(optimizer.averages):
        saved = model.get_ref("tok2vec").to_bytes()
    assert saved != before
    assert saved == model.get_ref("tok2vec").to_bytes()


@pytest.mark.parametrize("averages", [True, False])
def test_thincs_optimizer_saves_its_averages_or_the_weights(
    checkpoint: Path, averages: bool
) -> None:
    model, optimizer = build(checkpoint), Adam(1e-3, use_averages=averages)
    for _ in range(2):
        make_update(model, documents(), optimizer, model.attrs["loss"])
    last = model.get_ref("tok2vec").to_bytes()
    with model.use_params(optimizer.averages):
        assert (model.get_ref("tok2vec").to_bytes() != last) == averages
    assert model.get_ref("tok2vec").to_bytes() == last


def test_it_learns(checkpoint: Path) -> None:
    model, optimizer = build(checkpoint), build_adamw(3e-3)
    docs = documents(24)
    losses = [make_update(model, docs, optimizer, model.attrs["loss"]) for _ in range(30)]
    assert sum(losses[-5:]) / 5 < losses[0] - 1.5


class TestChance:
    """All of it comes from the seed."""

    def runs(self, checkpoint: Path, **settings: Any) -> list[float]:
        torch.rand(3)  # what was drawn before does not matter
        model, optimizer = build(checkpoint, **settings), build_adamw(1e-3)
        model.attrs["dropout_rate"] = 0.0
        return [make_update(model, documents(), optimizer, model.attrs["loss"]) for _ in range(3)]

    def test_the_same_seed_gives_the_same_run(self, checkpoint: Path) -> None:
        assert self.runs(checkpoint) == self.runs(checkpoint)
        assert self.runs(checkpoint) != self.runs(checkpoint, seed=1)

    def test_fresh_heads_depend_on_the_seed_alone(
        self, without_heads: Path, recwarn: pytest.WarningsRecorder
    ) -> None:
        first = self.runs(without_heads)
        assert any("mlm, nsp: drawn afresh" in str(w.message) for w in recwarn)
        assert first == self.runs(without_heads)
        assert first != self.runs(without_heads, seed=1)

    def test_every_batch_has_masks_of_its_own(self, checkpoint: Path) -> None:
        draws = pretraining(build(checkpoint))
        one, two = (draws.draw(documents())[0] for _ in range(2))
        assert not torch.equal(one.packed.pieces, two.packed.pieces)

    def test_drawing_leaves_torchs_generator_alone(self, without_heads: Path) -> None:
        model = build(without_heads)
        torch.manual_seed(7)
        expected = torch.rand(1)
        torch.manual_seed(7)
        with pytest.warns(UserWarning, match="drawn afresh"):
            model.predict(documents())
        assert torch.equal(torch.rand(1), expected)


@pytest.fixture
def without_heads(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint of the encoder alone, without a pooler either."""
    path = shutil.copytree(checkpoint, tmp_path / "encoder")
    tensors = load_file(path / "model.safetensors")
    kept = {n: t for n, t in tensors.items() if "pooler" not in n and not n.startswith("cls.")}
    save_file(kept, path / "model.safetensors")
    return path


def heads_of(model: PretrainingModel) -> Heads:
    heads = pretraining(model).heads.module
    assert isinstance(heads, Heads)
    return heads


@pytest.mark.filterwarnings("ignore:.*drawn afresh")
class TestHeads:
    """Where they start, and what belongs to whom."""

    def test_they_are_the_checkpoints(self, checkpoint: Path) -> None:
        model = build(checkpoint)
        model.predict(documents())
        saved = load_pretraining(checkpoint)
        for name in ("mlm", "nsp"):
            expected = getattr(saved, name).state_dict()
            found = getattr(heads_of(model), name).state_dict()
            assert all(torch.equal(found[key], expected[key]) for key in expected)

    def test_fresh_weights_have_fresh_heads(self, checkpoint: Path) -> None:
        model = build(checkpoint, encoder={"pretrained": False})
        model.predict(documents())
        saved = load_pretraining(checkpoint)
        assert not torch.equal(heads_of(model).mlm.dense.weight, saved.mlm.dense.weight)

    def test_no_parameter_stands_in_two_shims(self, checkpoint: Path) -> None:
        model = build(checkpoint)
        model.predict(documents())
        shims = [shim for node in model.walk() for shim in node.shims]
        assert [type(shim) for shim in shims[1:]] == [EncoderShim]
        own, encoders = (set(shim.module.parameters()) for shim in shims)
        assert not own & encoders
        assert len(own) == 7

    def test_an_encoder_without_pooler_gets_one_that_is_saved(self, without_heads: Path) -> None:
        model, optimizer = build(without_heads), build_adamw(1e-3)
        encoder = encoder_shim(model.get_ref("tok2vec"))
        assert encoder.network.pooler is None
        make_update(model, documents(), optimizer, model.attrs["loss"])
        saved = build_encoder().from_bytes(model.get_ref("tok2vec").to_bytes())
        pooler = encoder_shim(saved).network.pooler
        assert pooler is not None
        assert encoder.network.pooler is not None
        assert torch.equal(pooler.dense.weight, encoder.network.pooler.dense.weight)

    def test_without_next_sentences_none_is_needed(self, without_heads: Path) -> None:
        model = build(without_heads, objective="mlm")
        model.predict(documents())
        assert encoder_shim(model.get_ref("tok2vec")).network.pooler is None

    def test_a_checkpoint_that_is_gone_is_not_missed(
        self, checkpoint: Path, tmp_path: Path
    ) -> None:
        """The encoder may be that of another pipeline."""
        path = shutil.copytree(checkpoint, tmp_path / "gone")
        model = build(path)
        shutil.rmtree(path)
        assert model.predict(documents()).total > 0

    def test_weights_of_another_network_may_be_resumed(
        self, checkpoint: Path, wordpiece: WordPiece
    ) -> None:
        other = build_encoder(
            config={"preset": "tiny", "num_hidden_layers": 1}, vocab=str(checkpoint)
        )
        other.initialize()
        model = build(checkpoint)
        model.get_ref("tok2vec").from_bytes(other.to_bytes())
        assert model.predict(documents()).total > 0


class TestDocs:
    """What is read of them."""

    def test_sentences_where_they_are_set_otherwise_lines(self) -> None:
        words = ["One", ".", "Two", "\n", "three", "."]
        doc = Doc(NLP.vocab, words=words)
        assert sentences(doc) == ["One . Two ", " three . "]
        doc[2].is_sent_start = True
        assert sentences(doc) == ["One .", "Two \n three ."]
        assert sentences(spacy_bert.join(NLP, "One.", "Two.")) == ["One.", "Two."]
        assert sentences(NLP.make_doc("")) == []

    def test_all_of_a_long_sentence_is_read(self, wordpiece: WordPiece) -> None:
        text = " ".join(SENTENCES * 10)
        split = corpus_in_memory([NLP.make_doc(text)], wordpiece, longest=30)
        (ids,) = wordpiece.encode_ids([text])
        assert split.pieces.tolist() == ids.tolist()
        sizes = split.sentences[1:] - split.sentences[:-1]
        assert sizes.max() <= 30
        assert sizes.max() - sizes.min() <= 1

    def test_short_docs_are_left_out(self, wordpiece: WordPiece) -> None:
        docs = [NLP.make_doc(text) for text in ("", "\n \n", "a", "the dog", ".", "list\ndog")]
        split = corpus_in_memory(docs, wordpiece, longest=30)
        assert split.document_count == 2
        assert split.sentence_count == 3

    @pytest.mark.parametrize("texts", [[], [""], ["a", "\n"]])
    def test_a_batch_without_text_is_passed_over(self, checkpoint: Path, texts: list[str]) -> None:
        model, optimizer = build(checkpoint), build_adamw(1e-3)
        before = model.get_ref("tok2vec").to_bytes()
        docs = [NLP.make_doc(text) for text in texts]
        assert make_update(model, docs, optimizer, model.attrs["loss"]) == 0.0
        assert model.get_ref("tok2vec").to_bytes() == before
        assert make_update(model, documents(), optimizer, model.attrs["loss"]) > 0

    def test_one_doc_alone_has_no_next_sentences(self, checkpoint: Path) -> None:
        model = build(checkpoint)
        docs = [*documents(1), NLP.make_doc("")]
        losses = model.predict(docs)
        assert losses.nsp is None
        assert model.predict(documents(2)).nsp is not None

    def test_half_of_the_next_sentences_are_random(self, checkpoint: Path) -> None:
        (batch,) = pretraining(build(checkpoint)).draw(documents(40))
        assert batch.is_random is not None
        assert batch.is_random.float().mean() == pytest.approx(0.5, abs=0.06)

    def test_sequences_are_as_long_as_asked(self, checkpoint: Path) -> None:
        (batch,) = pretraining(build(checkpoint, sequence_length=20)).draw(documents(40))
        assert max(batch.packed.lengths) == 20


def test_dropout_is_spacys(checkpoint: Path) -> None:
    model = build(checkpoint)
    model.attrs["dropout_rate"] = 0.3
    model.begin_update(documents())
    network = encoder_shim(model.get_ref("tok2vec")).network
    assert network.layers[0].dropout.p == 0.3
    assert not network.training


def test_frozen_layers_get_no_gradient(checkpoint: Path) -> None:
    model = build(checkpoint, encoder={"frozen_layers": 1})
    _, backprop = model.begin_update(documents())
    backprop(1.0)
    with_gradient = {name for name, value in gradients(model).items() if value is not None}
    assert not any(name.startswith(("bert.embeddings", "bert.layers.0")) for name in with_gradient)
    assert "bert.layers.1.attention.qkv.weight" in with_gradient


def test_the_encoder_of_another_component(checkpoint: Path) -> None:
    """A private one, deep in its model."""
    tagger = {
        "@architectures": "spacy_bert.TokenEncoder.v1",
        "encoder": {"@architectures": "spacy_bert.Encoder.v1", "name": str(checkpoint)},
    }
    nlp = spacy.blank("en")
    nlp.add_pipe("bert_ner", config={"model": {"tok2vec": tagger}}).add_label("X")
    settings = {
        "component": "bert_ner",
        "layer": "tok2vec",
        "dropout": 0.0,
        "objective": build_pretraining(sequence_length=64),
    }
    model = create_pretraining_model(nlp, settings)
    optimizer = build_adamw(1e-3)
    before = model.get_ref("tok2vec").to_bytes()
    make_update(model, documents(), optimizer, model.attrs["loss"])
    assert model.get_ref("tok2vec").to_bytes() != before


class TestMistakes:
    """One clear line each."""

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"objective": "ltr"}, r"objective must be mlm\+nsp or mlm, got 'ltr'"),
            ({"sequence_length": 4}, "sequence_length must be at least 5, got 4"),
            ({"short_share": 2.0}, "short_share must be between 0 and 1"),
            ({"share": 0.0}, "share must lie between 0 and 1"),
            ({"mask": 0.8, "random": 0.3}, "mask and random add up to"),
            ({"unit": "letter"}, "unit must be one of piece, word, span"),
            ({"seed": -1}, "seed must be at least 0"),
        ],
    )
    def test_settings(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=rf"^\[pretraining\.objective\] {message}"):
            build_pretraining(**settings)

    def test_sequences_longer_than_the_network(self, checkpoint: Path) -> None:
        with pytest.raises(ValueError, match=r"sequence_length is 65, the network has .* for 64$"):
            build(checkpoint, sequence_length=65)

    def test_a_network_without_segments(self, checkpoint: Path) -> None:
        tok2vec = build_encoder(
            config={"preset": "tiny", "type_vocab_size": 1}, vocab=str(checkpoint)
        )
        with pytest.raises(ValueError, match=r"knows only 1 \(type_vocab_size\)$"):
            build_pretraining()(Vocab(), tok2vec)

    def test_a_component_without_encoder(self) -> None:
        model: Model[Any, Any] = registry.architectures.get("spacy.HashEmbedCNN.v2")(
            width=8,
            depth=1,
            embed_size=10,
            window_size=1,
            maxout_pieces=2,
            subword_features=False,
            pretrained_vectors=None,
        )
        with pytest.raises(ValueError, match=r"such as component = \"bert\" .* has 0$"):
            build_pretraining()(Vocab(), model)
