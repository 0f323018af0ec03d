"""Programs around a pipeline: what they have switched on in torch, copies, threads, pauses."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example

from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.optimizer import build_adamw
from tests.conftest import SENTENCES
from tests.pipeline.lifecycle import examples, sentences

TEXT = "The quick dog jumps the fox in Paris."


def make(
    checkpoint: Path,
    *components: str,
    optimizer: str = "spacy_bert.AdamW.v1",
    model: Mapping[str, Any] | None = None,
) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint), **(model or {})}})
    for component in components:
        nlp.add_pipe(component)
    sgd = {"@optimizers": optimizer, "learn_rate": 1e-3}
    nlp.config["training"]["optimizer"] = sgd
    torch.manual_seed(0)
    nlp.initialize(lambda: examples(nlp))
    return nlp


def few(nlp: Language) -> list[Example]:
    return examples(nlp, sentences()[:6])


def vectors(nlp: Language, text: str = TEXT) -> np.ndarray:
    found: np.ndarray = nlp(text)._.trf_data.model_output.last_hidden_state
    return found


@pytest.fixture
def saved(checkpoint: Path, tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A pipeline, and what it says."""
    nlp = make(checkpoint, "bert_ner", "bert_textcat")
    nlp.to_disk(tmp_path / "model")
    return tmp_path / "model", vectors(nlp)


def test_a_program_in_inference_mode(saved: tuple[Path, np.ndarray], checkpoint: Path) -> None:
    path, expected = saved
    with torch.inference_mode():
        nlp = spacy.load(path)
        blank = spacy.blank("en")
        blank.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
        for each in (nlp, blank):
            np.testing.assert_array_equal(vectors(each), vectors(each))
        np.testing.assert_allclose(vectors(nlp), expected, atol=1e-6)
    np.testing.assert_allclose(vectors(nlp), expected, atol=1e-6)
    nlp.resume_training(sgd=build_adamw(1e-3))
    nlp.update(few(nlp))
    assert not np.allclose(vectors(nlp), expected, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.filterwarnings("ignore:this CPU has no instructions for bf16")
def test_autocast_around_a_pipeline(saved: tuple[Path, np.ndarray], precision: str) -> None:
    path, _ = saved
    nlp = spacy.load(path, config={"components.bert.model.precision": precision})
    expected, cats = vectors(nlp), nlp(TEXT).cats
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(vectors(nlp), expected)
        assert nlp(TEXT).cats == cats


@pytest.mark.parametrize("chunk", [None, 16])
@pytest.mark.parametrize("mixed", [False, True])
def test_autocast_around_training(checkpoint: Path, mixed: bool, chunk: int | None) -> None:
    model = {"mixed_precision": mixed, "max_batch_pieces": chunk}
    plain, around = (make(checkpoint, "bert_ner", model=model) for _ in range(2))
    for _ in range(3):
        plain.update(few(plain), drop=0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(3):
            around.update(few(around), drop=0.0)
    np.testing.assert_array_equal(vectors(plain), vectors(around))


@pytest.fixture(params=[torch.float64, torch.bfloat16])
def other_dtype(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Sets another default when called, until the end of the test."""
    before = torch.get_default_dtype()
    yield lambda: torch.set_default_dtype(request.param)
    torch.set_default_dtype(before)


def test_another_default_dtype(
    saved: tuple[Path, np.ndarray], checkpoint: Path, other_dtype: Callable[[], None]
) -> None:
    path, expected = saved
    blank = spacy.blank("en")
    blank.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    other_dtype()
    np.testing.assert_allclose(vectors(spacy.load(path)), expected, atol=1e-6)
    np.testing.assert_allclose(vectors(blank), expected, atol=1e-6)
    nlp = make(checkpoint, "bert_ner", "bert_textcat")
    nlp.update(few(nlp))
    shims = [
        shim for _, pipe in nlp.components for node in pipe.model.walk() for shim in node.shims
    ]
    assert {p.dtype for shim in shims for p in shim.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("optimizer", ["spacy_bert.AdamW.v1", "Adam.v1"])
def test_predictions_in_the_midst_of_an_update_do_not_outlast_it(
    checkpoint: Path, optimizer: str
) -> None:
    nlp = make(checkpoint, "bert_ner", optimizer=optimizer)
    sgd = nlp._optimizer
    for _ in range(2):
        # As `spacy train` does with annotating components.
        nlp.update(few(nlp), sgd=False, annotates=["bert", "bert_ner"])
        for _, pipe in nlp.components:
            pipe.finish_update(sgd)
        sgd.step_schedules()
        said = vectors(nlp)
        reloaded = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
        np.testing.assert_allclose(said, vectors(reloaded), atol=1e-6)


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copy_can_be_trained(checkpoint: Path, way: str) -> None:
    nlp = make(checkpoint, "bert_ner", "bert_textcat")
    nlp.update(few(nlp))
    copied = copy.deepcopy(nlp) if way == "deepcopy" else pickle.loads(pickle.dumps(nlp))
    before = vectors(nlp)
    np.testing.assert_array_equal(vectors(copied), before)
    copied.update(few(copied))
    assert not np.allclose(vectors(copied), before, atol=1e-6)
    np.testing.assert_array_equal(vectors(nlp), before)
    spacy.blank("en").from_config(copied.config).from_bytes(copied.to_bytes())


@pytest.mark.parametrize("frozen", ["bert_ner", "bert_textcat"])
def test_a_listener_that_did_not_learn_keeps_nothing(checkpoint: Path, frozen: str) -> None:
    nlp = make(checkpoint, "bert_ner", "bert_textcat")
    nlp.update(few(nlp), exclude=[frozen])
    pickle.dumps(nlp)
    copy.deepcopy(nlp)
    others = [name for name in ("bert", "bert_ner", "bert_textcat") if name != frozen]
    # What was frozen learns alone now, of other Docs.
    nlp.update(examples(nlp, sentences()[6:8]), exclude=others, annotates=["bert"])


def test_no_listener_learns(checkpoint: Path) -> None:
    nlp = make(checkpoint, "bert_ner")
    nlp.update(few(nlp), exclude=["bert_ner"])
    pickle.dumps(nlp)
    nlp.update(examples(nlp, sentences()[6:8]), exclude=["bert"], annotates=["bert"])


def test_a_new_label_takes_nothing_from_the_others(checkpoint: Path) -> None:
    nlp = make(checkpoint, "bert_ner")
    ner = nlp.get_pipe("bert_ner")
    docs = [nlp(text) for text in SENTENCES]
    before = np.concatenate(ner.predict(docs))
    ner.add_label("NEW")
    after = np.concatenate(ner.predict(docs))
    least = before.min(axis=1)
    assert (after[:, -2:].max(axis=1) < 2 * least).all()
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=0.05)
    assert [doc.ents for doc in nlp.pipe(SENTENCES)] == [doc.ents for doc in docs]


def test_a_new_label_does_not_undo_a_step(checkpoint: Path) -> None:
    ours, other = make(checkpoint, "bert_ner"), make(checkpoint, "bert_ner")
    for nlp in (ours, other):
        nlp.update(few(nlp), drop=0.0)
    vectors(other)  # takes the step
    rows = []
    for nlp in (ours, other):
        ner = nlp.get_pipe("bert_ner")
        ner.add_label("NEW")
        head = ner.model.get_ref("head").shims[0].module
        rows.append(head.output.weight[:-2].detach())
    torch.testing.assert_close(*rows, atol=0.0, rtol=0.0)


def test_without_the_encoder_in_a_fresh_process(saved: tuple[Path, np.ndarray]) -> None:
    script = f"import spacy; spacy.load({str(saved[0])!r}, exclude=['bert'])('x y')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode != 0
    assert "has not seen this Doc" in done.stderr


def test_several_threads_begin_with_fresh_weights_at_once(checkpoint: Path) -> None:
    nlp = spacy.blank("en")
    model = {"name": None, "config": {"preset": "tiny"}, "vocab": str(checkpoint)}
    nlp.add_pipe("bert", config={"model": model})
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: vectors(nlp), range(8)))
    for each in found:
        np.testing.assert_array_equal(each, vectors(nlp))
    assert encoder_shim(nlp.get_pipe("bert").model).is_loaded
