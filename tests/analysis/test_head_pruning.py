"""Choosing heads: one by one, in order, until the score falls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spacy.training import Example

from spacy_bert.analysis import head_pruning
from spacy_bert.analysis.decisions import evaluate
from spacy_bert.analysis.gates import HeadImportance, gated, head_importance
from spacy_bert.analysis.head_pruning import (
    closed_heads,
    closing_order,
    first_to_go,
    in_layers,
    leave_one_head_out,
    masking_loop,
    one_head_alone,
    pruning_curve,
    ranking,
)
from spacy_bert.analysis.task_head import TaskHead
from tests.analysis.tasks import gates_without, task


def importance_of(raw: list[list[float]], pruned: list[list[bool]] | None = None) -> HeadImportance:
    values = np.array(raw)
    gone = np.zeros(values.shape, bool) if pruned is None else np.array(pruned)
    return HeadImportance(component="bert_textcat", raw=values, examples=1, pruned=gone)


def test_the_least_important_go_first() -> None:
    found = importance_of([[3.0, 4.0], [0.0, 1.0]])
    assert ranking(found) == [(1, 0), (0, 0), (0, 1), (1, 1)]
    assert in_layers(first_to_go(ranking(found), keep=0.5)) == {0: [0], 1: [0]}
    assert first_to_go(ranking(found), keep=1.0) == []
    with pytest.raises(ValueError, match=r"keep must be in \[0, 1\], got 50"):
        first_to_go(ranking(found), keep=50)
    half = importance_of([[3.0, 4.0], [0.0, 1.0]], [[False, False], [True, False]])
    assert ranking(half) == [(0, 0), (0, 1), (1, 1)]  # what is gone does not go again
    assert closed_heads(np.array([[True, False], [False, False]])) == {0: [1], 1: [0, 1]}


def test_importance_is_found_anew(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    gates, expected = np.ones((2, 2), dtype="f"), []
    while gates.any():
        now = head_importance(one.nlp, one.examples, gates=gates)
        expected.append(ranking(now, among=gates == 1)[0])
        gates[expected[-1]] = 0.0
    assert closing_order(one.nlp, one.examples, step=0.25) == expected
    assert closing_order(one.nlp, one.examples, step=0.25, keep=0.5) == expected[:2]
    assert closing_order(one.nlp, one.examples, keep=1.0) == []
    first = head_importance(one.nlp, one.examples)
    assert closing_order(one.nlp, one.examples, step=1.0) == ranking(first)
    with pytest.raises(ValueError, match=r"keep must be in \[0, 1\], got 50"):
        closing_order(one.nlp, one.examples, keep=50)
    with pytest.raises(ValueError, match=r"step must be in \(0, 1\], got 0"):
        closing_order(one.nlp, one.examples, step=0)


def test_leave_one_out_and_one_alone(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    seen: list[int] = []
    out = leave_one_head_out(one.nlp, one.examples, progress=seen.append)
    alone = one_head_alone(one.nlp, one.examples)
    assert sum(seen) == 4
    # With two heads in a layer, all but one is the other one alone.
    np.testing.assert_allclose(out.log_likelihoods, alone.log_likelihoods[:, ::-1], atol=1e-6)
    expected = evaluate(one.head, one.examples, intervention=gated(gates_without({1: [0]})))
    assert out.log_likelihoods[1, 0] == pytest.approx(expected.log_likelihood)
    assert out.drops[1, 0] == pytest.approx(out.original.log_likelihood - expected.log_likelihood)


def test_the_curve_ends_without_heads(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    order = closing_order(one.nlp, one.examples)
    seen: list[int] = []
    curve = pruning_curve(
        one.nlp, one.examples, order, shares=(0.0, 0.5, 1.0), seeds=2, progress=seen.append
    )
    assert sum(seen) == 9
    assert curve.random.shape == (2, 3)
    assert curve.by_importance[0] == curve.original.score == curve.random[0, 0]
    none = evaluate(one.head, one.examples, intervention=gated(np.zeros((2, 2)))).score
    assert {curve.by_importance[-1], *curve.random[:, -1]} == {none}
    chosen = in_layers(order[:2])
    half = evaluate(one.head, one.examples, intervention=gated(gates_without(chosen)))
    assert curve.by_importance[1] == half.score


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> list[np.ndarray]:
    """Let scores fall as told; gives the gates of each score."""
    left, asked = iter(scores), []
    real = head_pruning.evaluate

    def told(head: TaskHead, examples: list[Example], *, intervention=None, **options: object):
        quality = real(head, examples)
        return type(quality)(metric="x", score=next(left), log_likelihood=0.0)

    def noted(gates: np.ndarray):
        asked.append(gates)
        return gated(gates)

    monkeypatch.setattr(head_pruning, "evaluate", told)
    monkeypatch.setattr(head_pruning, "gated", noted)
    return asked


def test_the_masking_loop_takes_the_last_step_back(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = task("exclusive", checkpoint)
    asked = scripted(monkeypatch, [0.8, 0.75, 0.73, 0.71])
    found = masking_loop(one.nlp, one.examples, step=0.25)
    assert [int((gates == 0).sum()) for gates in asked] == [1, 2, 3]
    assert found.steps == [(1, 0.75), (2, 0.73), (3, 0.71)]  # 0.71 < .9 * .8
    assert found.score == 0.73
    np.testing.assert_array_equal(found.kept, asked[1] == 1)
    # The next to go is the least important one of the network without those before.
    now = head_importance(one.nlp, one.examples, gates=asked[0])
    layer, head = ranking(now, among=asked[0] == 1)[0]
    assert asked[1][layer, head] == 0
    assert (asked[1] <= asked[0]).all()


def test_the_masking_loop_may_close_everything_or_nothing(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = task("exclusive", checkpoint)
    assert not masking_loop(one.nlp, one.examples, threshold=0.0, step=0.5).kept.any()
    scripted(monkeypatch, [0.8, 0.1])
    found = masking_loop(one.nlp, one.examples)
    assert found.kept.all()
    assert found.score == 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.1}, r"threshold must be in \[0, 1\], got 1.1"),
        ({"step": 0.0}, r"step must be in \(0, 1\], got 0"),
    ],
)
def test_masking_options_that_cannot_work(
    options: dict[str, float], message: str, checkpoint: Path
) -> None:
    one = task("exclusive", checkpoint)
    with pytest.raises(ValueError, match=message):
        masking_loop(one.nlp, one.examples, **options)


def test_a_score_of_which_no_share_can_be_kept(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = task("regression", checkpoint)
    with pytest.raises(ValueError, match=r"cats_mse is .* that rises as the pipeline gets better"):
        masking_loop(values.nlp, values.examples, metric="cats_mse")
    one = task("exclusive", checkpoint)
    for score in (0.0, -0.2):
        with monkeypatch.context() as patched:
            scripted(patched, [score])
            with pytest.raises(ValueError, match=f"x is {score:.4g}: a share of it"):
                masking_loop(one.nlp, one.examples)
