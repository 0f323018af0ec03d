"""Pipelines on a frozen encoder's layers: trained, saved, moved, run in processes."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from thinc.api import Model

from spacy_bert.models.encoder import EncoderShim
from spacy_bert.models.feature_cache import FeatureCache
from spacy_bert.models.optimizer import build_adamw
from tests.passes import watched
from tests.pipeline import lifecycle

TEXTS = [*lifecycle.TEXTS[:6], *lifecycle.ODD_TEXTS]


def features(checkpoint: Path, **options: Any) -> dict[str, Any]:
    return {
        "@architectures": "spacy_bert.LayerFeatures.v1",
        "encoder": {"@architectures": "spacy_bert.Encoder.v1", "name": str(checkpoint)},
        "layers": [-2, -1],
        **options,
    }


def pipeline(checkpoint: Path) -> Language:
    """Entities under a BiLSTM; tags from layers alone; classes from a weighted sum."""
    nlp = spacy.blank("en")
    encode = {"@architectures": "spacy_bert.BiLSTM.v1", "width": 32, "depth": 2, "dropout": 0.1}
    under = {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": features(checkpoint, combine="weighted"),
        "encode": encode,
    }
    nlp.add_pipe("bert_ner", config={"model": {"tok2vec": under}})
    tagger = {"@architectures": "spacy.Tagger.v2", "tok2vec": features(checkpoint)}
    nlp.add_pipe("tagger", config={"model": tagger})
    mean = {"@architectures": "spacy_bert.TokenMean.v1", "tok2vec": features(checkpoint)}
    nlp.add_pipe("bert_textcat", config={"model": {"tok2vec": mean}})
    return nlp


def nodes(nlp: Language, name: str) -> list[Model[Any, Any]]:
    return list(nlp.get_pipe(name).model.walk())


def encoder_of(nlp: Language, name: str) -> EncoderShim:
    (found,) = (s for n in nodes(nlp, name) for s in n.shims if isinstance(s, EncoderShim))
    return found


def caches(nlp: Language) -> list[int]:
    return [
        len(node.attrs["cache"])
        for name in nlp.pipe_names
        for node in nodes(nlp, name)
        if isinstance(node.attrs.get("cache"), FeatureCache)
    ]


def frozen(nlp: Language) -> list[dict[str, np.ndarray]]:
    """All weights of all encoders, copied."""
    states = [encoder_of(nlp, name).network.state_dict() for name in nlp.pipe_names]
    return [{key: value.numpy().copy() for key, value in state.items()} for state in states]


@pytest.fixture(scope="module")
def source(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that can be taken away."""
    path = tmp_path_factory.mktemp("source") / "bert"
    shutil.copytree(checkpoint, path)
    return path


@pytest.fixture(scope="module")
def trained(source: Path) -> Language:
    nlp = pipeline(source)
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: lifecycle.examples(nlp), sgd=build_adamw(5e-3))
    before = frozen(nlp)
    with watched() as passes:
        losses = [nlp.update(lifecycle.examples(nlp), sgd=optimizer, losses={}) for _ in range(60)]
    assert len(passes) == 3  # all of them in the first epoch
    for name, share in (("bert_ner", 0.4), ("tagger", 0.4), ("bert_textcat", 0.9)):
        assert losses[-1][name] < share * losses[0][name], name
    after = frozen(nlp)
    assert all(map(lifecycle.same_arrays, after, before))
    return nlp


def said(nlp: Language) -> list[Any]:
    return [
        (doc.cats, [t.tag_ for t in doc], [(e.start, e.end, e.label_) for e in doc.ents])
        for doc in nlp.pipe(TEXTS, batch_size=4)
    ]


def assert_same(ours: list[Any], theirs: list[Any]) -> None:
    for (cats, *one), (expected, *other) in zip(ours, theirs, strict=True):
        assert one == other
        assert cats == pytest.approx(expected, abs=1e-5)


def test_it_learns_and_says_the_same_where_the_source_is_gone(
    trained: Language, source: Path, tmp_path: Path
) -> None:
    expected = said(trained)
    assert any(ents for _, _, ents in expected)
    assert min(caches(trained)) > 0
    trained.to_disk(tmp_path / "model")
    sizes = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    moved = source.rename(tmp_path / "away")
    try:
        loaded = spacy.load(tmp_path / "model")
        assert_same(said(loaded), expected)
        assert caches(loaded) == [0, 0, 0]
        assert all(map(lifecycle.same_arrays, frozen(loaded), frozen(trained)))
        by_bytes = spacy.blank("en").from_config(loaded.config).from_bytes(trained.to_bytes())
        assert_same(said(by_bytes), expected)
        # Training goes on, with a new cache.
        optimizer = build_adamw(1e-3)
        for _ in range(2):
            loaded.update(lifecycle.examples(loaded), sgd=optimizer)
        assert min(caches(loaded)) > 0
        assert all(map(lifecycle.same_arrays, frozen(loaded), frozen(trained)))
        with loaded.select_pipes(enable=["tagger"]):
            doc = loaded("The quick fox jumps.")
            assert [t.tag_ for t in doc]
            assert not doc.ents
            assert not doc.cats
        loaded.to_disk(tmp_path / "again")
        again = sum(f.stat().st_size for f in (tmp_path / "again").rglob("*") if f.is_file())
        assert abs(again - sizes) < 1000  # the cache is not saved
    finally:
        moved.rename(source)


def test_processes(trained: Language) -> None:
    texts = [doc.text for doc in lifecycle.sentences()]
    alone = [[t.tag_ for t in doc] for doc in trained.pipe(texts)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        shared = [[t.tag_ for t in d] for d in trained.pipe(texts, n_process=2, batch_size=8)]
    finally:
        torch.set_num_threads(threads)
    assert shared == alone


@pytest.mark.parametrize("optimizer", ["spacy_bert.AdamW.v1", "Adam.v1"])
def test_spacy_train_reads_each_text_once(
    checkpoint: Path, tmp_path: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Docs of each epoch are new; all of train and dev are kept, and the mix is trained."""
    data, dev = tmp_path / "train.spacy", tmp_path / "dev.spacy"
    docs = lifecycle.sentences()
    DocBin(docs=docs, store_user_data=False).to_disk(data)
    unseen = Doc(docs[0].vocab, words=["A", "fox", "in", "Paris"], ents=["O", "O", "O", "B-PLACE"])
    DocBin(docs=[docs[0], unseen], store_user_data=False).to_disk(dev)
    config = spacy.util.load_config_from_str(
        f"""
        [nlp]
        lang = "en"
        pipeline = ["bert_ner"]
        [corpora]
        [corpora.train]
        @readers = "spacy.Corpus.v1"
        path = {str(data)!r}
        gold_preproc = true
        [corpora.dev]
        @readers = "spacy.Corpus.v1"
        path = {str(dev)!r}
        [training]
        max_epochs = 4
        eval_frequency = 4
        [training.batcher]
        @batchers = "spacy.batch_by_sequence.v1"
        size = 8
        [training.optimizer]
        @optimizers = "{optimizer}"
        learn_rate = 0.01
        """.replace("'", '"').replace("        ", "")
    )
    config["components"] = {"bert_ner": pipeline(checkpoint).config["components"]["bert_ner"]}
    windows: list[int] = []
    real = EncoderShim.network.fget
    assert real is not None

    def watched(shim: EncoderShim) -> Any:
        network = real(shim)
        if not network._forward_pre_hooks:
            network.register_forward_pre_hook(lambda _, a: windows.append(len(a[0].lengths)))
        return network

    monkeypatch.setattr(EncoderShim, "network", property(watched))
    filled = spacy.util.load_model_from_config(config, auto_fill=True).config
    nlp = init_nlp(filled)
    windows.clear()
    train(nlp, stdout=io.StringIO(), stderr=io.StringIO())
    assert sum(windows) == len(docs) + 1
    (mix,) = (n for n in nodes(nlp, "bert_ner") if n.name == "scalar_mix")
    weights = mix.shims[0].module.weights.detach().numpy()
    assert abs(weights).max() > 1e-3
    fresh = pipeline(checkpoint)
    untouched = encoder_of(fresh, "bert_ner").network.state_dict()
    for name, value in encoder_of(nlp, "bert_ner").network.state_dict().items():
        torch.testing.assert_close(value, untouched[name], rtol=0, atol=0)


def test_a_layer_that_is_not_there_is_said_before_training(checkpoint: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert_ner", config={"model": {"tok2vec": features(checkpoint, layers=[-4])}})
    with pytest.raises(ValueError, match="layers has -4, but the encoder has 2 layers"):
        nlp.initialize(lambda: lifecycle.examples(nlp))


def test_several_components_share_it_through_spacys_tok2vec(
    checkpoint: Path, tmp_path: Path
) -> None:
    nlp = spacy.blank("en")
    layers = {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": features(checkpoint),
        "encode": {"@architectures": "spacy_bert.BiLSTM.v1", "width": 32},
    }
    nlp.add_pipe("tok2vec", config={"model": layers})
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 32, "upstream": "*"}
    nlp.add_pipe("bert_ner", config={"model": {"tok2vec": listener}})
    tagger = {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}
    nlp.add_pipe("tagger", config={"model": tagger})
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: lifecycle.examples(nlp), sgd=build_adamw(5e-3))
    with watched() as passes:
        losses = [nlp.update(lifecycle.examples(nlp), sgd=optimizer, losses={}) for _ in range(40)]
    assert len(passes) == 1
    # spaCy's losses are sums: the tagger has most to say about the BiLSTM.
    assert losses[-1]["bert_ner"] < 0.8 * losses[0]["bert_ner"]
    assert losses[-1]["tagger"] < 0.4 * losses[0]["tagger"]
    nlp.to_disk(tmp_path / "model")
    loaded = spacy.load(tmp_path / "model")
    assert_same(said(loaded), said(nlp))
