"""Online codes: random labels cost what they are worth, plain ones little."""

from __future__ import annotations

import math

import numpy as np
import pytest
from spacy.language import Language

from spacy_bert.analysis import description_length
from spacy_bert.analysis.description_length import SHARES, code_length, online_code
from spacy_bert.analysis.probe_tasks import ProbeTask, Target, entity, tag
from spacy_bert.analysis.probe_training import ProbeRecipe, TargetSet
from tests.analysis.test_probing import Planted, annotated, split

TASK = ProbeTask(name="planted", targets=lambda doc: [])
FAST = ProbeRecipe(epochs=2, rate=3e-3, patience=2)
SENT, JUDGES = 1000, 200


def sets(noise: float) -> tuple[Planted, TargetSet, TargetSet]:
    """Four classes that layer 1 tells apart, and layer 0 does not; some labels are drawn anew."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, SENT + JUDGES)
    rows = rng.normal(size=(len(labels), 2, 8)).astype(np.float32)
    rows[np.arange(len(labels)), 1, labels] += 8.0
    redrawn = rng.random(len(labels)) < noise
    labels[redrawn] = rng.integers(0, 4, redrawn.sum())
    targets = [Target((i, i + 1), None, (f"label {x}",)) for i, x in enumerate(labels)]
    return Planted(rows), *split(TargetSet(targets, [0] * len(targets)), SENT)


def test_separable_labels_compress_and_random_ones_do_not() -> None:
    vectors, sent, judges = sets(0.0)
    done: list[int] = []
    found = code_length(vectors, TASK, sent, judges, recipe=FAST, progress=done.append)  # type: ignore[arg-type]
    assert (found.uniform, found.targets, found.classes) == (2.0 * SENT, SENT, 4)
    assert found.portions.shape == (len(SHARES), 2)
    np.testing.assert_allclose(found.portions[0], 2.0)  # one label, two bits
    np.testing.assert_allclose(found.bits, found.portions.sum(axis=0))
    without, own = found.compression
    assert without == pytest.approx(1.0, abs=0.05)
    assert own > 8.0
    assert sum(done) >= len(SHARES) - 1


def test_noise_costs_its_entropy() -> None:
    """Half of the labels are drawn anew: one of four has 5/8, the others have 1/8."""
    vectors, sent, judges = sets(0.5)
    found = code_length(vectors, TASK, sent, judges, recipe=FAST)  # type: ignore[arg-type]
    entropy = -(5 / 8 * math.log2(5 / 8) + 3 / 8 * math.log2(1 / 8))
    last = found.portions[-1] / (SENT / 2)
    assert last[0] == pytest.approx(2.0, abs=0.05)
    assert last[1] == pytest.approx(entropy, abs=0.15)


def test_an_encoder_is_coded(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description_length, "LEAST_STEPS", 20)
    docs = annotated(nlp)
    found = online_code(nlp, docs[:10], docs[10:], tag(), recipe=FAST)
    assert found.task == "tag"
    assert found.code.classes == found.control.classes == 2
    assert found.code.targets == found.code.uniform == sum(map(len, docs[:10]))
    assert found.code.compression.max() > 1.2
    again = online_code(nlp, docs[:10], docs[10:], tag(), recipe=FAST)
    np.testing.assert_array_equal(again.code.portions, found.code.portions)
    with pytest.raises(ValueError, match="of 'entity' have 1 kinds of labels: nothing to tell"):
        online_code(nlp, docs[:10], docs[10:], entity(), recipe=FAST)
    plain = [nlp.make_doc("a b")]
    with pytest.raises(ValueError, match="0 training and 0 development targets of 'entity' have"):
        online_code(nlp, plain, plain, entity(), recipe=FAST)
