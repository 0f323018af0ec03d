"""Pruned pipelines: as masked, saved, loaded, trained, exported."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import spacy
from spacy.cli.package import package
from spacy.language import Language
from transformers import BertForSequenceClassification

from spacy_bert.analysis import pruned_pipeline
from spacy_bert.analysis.decisions import evaluate
from spacy_bert.analysis.gates import gated, with_gates
from spacy_bert.analysis.head_pruning import Heads
from spacy_bert.analysis.pruned_pipeline import (
    count_parameters,
    prune,
    prune_pipeline,
    speeds,
)
from spacy_bert.analysis.task_head import TaskHead
from spacy_bert.bert.pruning import prune_heads
from spacy_bert.models.optimizer import build_adamw
from spacy_bert.pipeline.from_hf import read_hf
from spacy_bert.pipeline.to_hf import to_hf
from tests.analysis.tasks import KINDS, copied, gates_without, task
from tests.conftest import SENTENCES

HEADS = [{0: [1]}, {1: [0, 1]}, {0: [0], 1: [0, 1]}]


def cats(nlp: Language) -> np.ndarray:
    return np.array([[*doc.cats.values()] for doc in nlp.pipe(SENTENCES)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", HEADS)
def test_pruned_predicts_as_masked(kind: str, heads: Heads, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    nlp = copied(one.nlp)
    masked = evaluate(one.head, one.examples, intervention=gated(gates_without(heads)))
    plain = evaluate(one.head, one.examples)
    before = count_parameters(nlp)
    prune_pipeline(nlp, heads, one.component)
    found = evaluate(TaskHead.find(nlp), one.examples)
    assert found.score == pytest.approx(masked.score)
    assert found.log_likelihood == pytest.approx(masked.log_likelihood, abs=1e-5)
    assert abs(found.log_likelihood - plain.log_likelihood) > 1e-5
    cut = sum(map(len, heads.values()))
    assert before - count_parameters(nlp) == cut * 64 * (3 * 128 + 3 + 128)


def test_saved_and_loaded(checkpoint: Path, tmp_path: Path) -> None:
    one = task("exclusive", checkpoint)
    nlp, heads = copied(one.nlp), HEADS[2]
    prune_pipeline(nlp, heads)
    said = cats(nlp)
    with with_gates(one.nlp, gates_without(heads)):
        np.testing.assert_allclose(said, cats(one.nlp), atol=1e-5)
    nlp.to_disk(tmp_path / "pruned")
    np.testing.assert_array_equal(cats(spacy.load(tmp_path / "pruned")), said)
    again = spacy.util.load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
    np.testing.assert_array_equal(cats(again), said)
    package(tmp_path / "pruned", tmp_path, name="cut", create_sdist=False, create_wheel=False)
    (packaged,) = tmp_path.glob("en_cut-*/en_cut/en_cut-*")
    np.testing.assert_array_equal(cats(spacy.load(packaged)), said)
    # It can be cut again, by the same numbers, and trained.
    prune_pipeline(again, {0: [0, 1]})
    with with_gates(one.nlp, np.zeros((2, 2))):
        np.testing.assert_allclose(cats(again), cats(one.nlp), atol=1e-5)
    before = cats(nlp)
    nlp.update(one.examples, sgd=build_adamw(1e-3))
    assert np.abs(cats(nlp) - before).max() > 1e-4


@pytest.mark.parametrize("heads", HEADS)
def test_to_hugging_face_and_back(heads: Heads, checkpoint: Path, tmp_path: Path) -> None:
    nlp = copied(task("exclusive", checkpoint).nlp)
    prune_pipeline(nlp, heads)
    done = to_hf(nlp, tmp_path / "hf")
    written = json.loads((tmp_path / "hf" / "config.json").read_text(encoding="utf8"))
    assert written["pruned_heads"] == {str(layer): list(h) for layer, h in heads.items()}
    back = read_hf(str(tmp_path / "hf")).nlp
    np.testing.assert_allclose(cats(back), cats(nlp), atol=1e-6)
    assert done.pruned_layers == [layer for layer, numbers in heads.items() if len(numbers) == 2]
    if not done.pruned_layers and hasattr(BertForSequenceClassification, "prune_heads"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = BertForSequenceClassification.from_pretrained(tmp_path / "hf")
        assert theirs.bert.encoder.layer[0].attention.self.num_attention_heads == 1


def test_refuses_kept_features(checkpoint: Path) -> None:
    nlp = spacy.blank("en")
    encoder = {"@architectures": "spacy_bert.Encoder.v1", "name": str(checkpoint)}
    tok2vec = {"@architectures": "spacy_bert.LayerFeatures.v1", "encoder": encoder, "layers": [-1]}
    nlp.add_pipe("bert_ner", config={"model": {"tok2vec": tok2vec}})
    nlp.initialize(lambda: task("ner", checkpoint).examples)
    for component in ("bert_ner", None):
        with pytest.raises(ValueError, match="reads kept features of a frozen encoder"):
            prune_pipeline(nlp, {0: [0]}, component)


def test_networks_take_turns(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = task("exclusive", checkpoint)
    head = TaskHead.find(copied(one.nlp))
    whole = head.shim.network
    networks = [whole, prune_heads(whole, {0: [0, 1], 1: [0, 1]})]
    docs = [example.predicted for example in one.examples]
    ready: list[bool] = []

    def clock() -> float:
        ready.append(head.shim._lowered is not None)
        return perf_counter()

    monkeypatch.setattr(pruned_pipeline, "perf_counter", clock)
    found = speeds(head, docs, networks, repeats=2)
    assert ready == 8 * [True]  # what is made for the first prediction is not in the time
    assert len(found) == 2
    assert all(speed > 0 for speed in found)
    assert head.shim.network is networks[-1]


def test_prunes_the_share_and_says_what_that_changed(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    nlp = copied(one.nlp)
    found = prune(nlp, one.examples, keep=0.5)
    assert found.before.heads == 4
    assert found.after.heads == 2 == 4 - sum(map(len, found.heads.values()))
    assert found.before.parameters - found.after.parameters == 2 * 64 * (3 * 128 + 3 + 128)
    assert found.before.quality == evaluate(one.head, one.examples)
    assert found.after.quality == evaluate(TaskHead.find(nlp), one.examples)
    assert count_parameters(nlp) == found.after.parameters
    kept = evaluate(one.head, one.examples, intervention=gated(gates_without(found.heads)))
    assert found.after.quality.log_likelihood == pytest.approx(kept.log_likelihood, abs=1e-5)
    again = prune(nlp, one.examples, keep=0.5)  # half of what is left
    assert again.before.heads == 2
    assert again.after.heads == 1


def test_prunes_as_far_as_the_score_allows(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    nlp = copied(one.nlp)
    found = prune(nlp, one.examples, threshold=0.0)
    assert found.after.heads == 0
    assert found.heads == {0: [0, 1], 1: [0, 1]}
    nothing = prune(nlp, one.examples, threshold=0.9)
    assert nothing.after.heads == 0


@pytest.mark.parametrize("options", [{}, {"keep": 0.5, "threshold": 0.9}])
def test_needs_one_way_to_stop(options: dict[str, float], checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    with pytest.raises(ValueError, match="either keep or threshold"):
        prune(one.nlp, one.examples, **options)
