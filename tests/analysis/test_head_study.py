"""The study of heads: its parts agree, and the pipeline is as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spacy_bert.analysis.decisions import Quality
from spacy_bert.analysis.gates import HeadImportance
from spacy_bert.analysis.head_pruning import HeadAblation
from spacy_bert.analysis.head_study import HeadStudy, study_heads
from tests.analysis.tasks import task
from tests.pipeline.lifecycle import weights


def test_the_pipeline_stays_whole(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    before = weights(one.nlp, "bert")
    network = one.head.shim.network
    seen: list[int] = []
    found = study_heads(one.nlp, one.examples, shares=(0.5,), seeds=1, progress=seen.append)
    assert one.head.shim.network is network
    assert weights(one.nlp, "bert") == before
    assert sum(seen) == 1 + 4 + 2 + 1
    assert found.pruned.after.heads == 2
    assert found.pruned.before.quality == found.left_out.original == found.curve.original
    # Cut out for good, the same heads give the same score as closed.
    assert found.pruned.after.quality.score == pytest.approx(found.curve.by_importance[0])
    assert -1.0 <= found.spearman <= 1.0


def test_the_correlation_takes_no_account_of_signs_and_pruned_heads() -> None:
    raw = np.array([[1.0, 2.0, 3.0, 0.0]])
    quality = Quality(metric="x", score=1.0, log_likelihood=-1.0)
    falls = np.array([[-1.1, -0.7, -1.6, 5.0]])
    study = HeadStudy(
        importance=HeadImportance(component="x", raw=raw, examples=1, pruned=raw == 0),
        left_out=HeadAblation(component="x", original=quality, scores=falls, log_likelihoods=falls),
        curve=None,  # type: ignore[arg-type]
        pruned=None,  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(study.left_out.drops[0, :3], [0.1, -0.3, 0.6])
    assert study.spearman == pytest.approx(1.0)
