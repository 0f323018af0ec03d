"""The charts of a workflow's report, as Altair charts without colours of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

Rows = Sequence[Mapping[str, Any]]

TRAIN, DEV = "train (smoothed)", "dev"
_SHARE = alt.Scale(domain=[0, 1])
_SHARE_AXIS = alt.Axis(format=".1f", tickCount=5)
_NEAR = alt.Scale(zero=False, nice=True)
_NEAR_AXIS = alt.Axis(format=".2f", tickCount=6)
_POINT_SHAPES = ["circle", "diamond", "square", "triangle-up", "cross"]


def loss_curve(log: Rows, unigram: float | None = None, *, window: int = 3) -> Any:
    """Masked-LM loss against steps: train as a line, dev as points.

    Args:
        log: Rows with `step` and `mlm`, or `step` and `dev_mlm`, in nats a masked piece.
        unigram: Cross-entropy of the pieces' frequencies, drawn as a dashed line.
        window: Rows of the train loss in one mean, on top of the log's own means.
    """
    train = [row for row in log if row.get("mlm") is not None]
    rows = [
        {"step": row["step"], "loss": mean, "split": TRAIN}
        for row, mean in zip(train, moving_mean([r["mlm"] for r in train], window), strict=True)
    ]
    rows += [
        {"step": row["step"], "loss": row["dev_mlm"], "split": DEV}
        for row in log
        if row.get("dev_mlm") is not None
    ]
    x = alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickMinStep=1))
    y = alt.Y("loss:Q", title="masked-LM loss (nats a piece)", scale=alt.Scale(zero=False))
    order = [TRAIN, DEV]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=x,
        y=y,
        color=alt.Color("split:N", sort=order, scale=alt.Scale(domain=order)),
        tooltip=["split:N", "step:Q", alt.Tooltip("loss:Q", format=".3f")],
    )
    shape = alt.Shape(
        "split:N", sort=order, scale=alt.Scale(domain=order, range=["stroke", "circle"])
    )
    layers = [
        base.transform_filter(alt.datum.split == TRAIN).mark_line(),
        base.transform_filter(alt.datum.split == DEV).mark_line(strokeWidth=1, strokeDash=[2, 3]),
        base.transform_filter(alt.datum.split == DEV).mark_point().encode(shape=shape),
    ]
    if unigram is not None:
        line = alt.Chart(alt.Data(values=[{"loss": unigram}])).encode(y="loss:Q")
        label = line.mark_text(align="right", baseline="bottom", dy=-4).encode(
            x=alt.value("width"), text=alt.value(f"unigram cross-entropy {unigram:.2f}")
        )
        layers += [line.mark_rule(strokeDash=[6, 4]), label]
    return alt.layer(*layers).properties(width="container", height=300)


def bars(values: Mapping[str, float], *, title: str, chance: float | None = None) -> Any:
    """Horizontal bars with their figures, in the order given; a dashed line marks chance."""
    rows = [{"name": name, "value": value} for name, value in values.items()]
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("name:N", sort=list(values), title=None),
        x=alt.X("value:Q", title=title, scale=_SHARE, axis=_SHARE_AXIS),
        tooltip=["name:N", alt.Tooltip("value:Q", format=".3f")],
    )
    first = next(iter(values))
    layers = [
        base.mark_bar(cornerRadiusEnd=3, height={"band": 0.62}).encode(
            opacity=alt.condition(alt.datum.name == first, alt.value(1.0), alt.value(0.45))
        ),
        base.mark_text(align="left", dx=6).encode(text=alt.Text("value:Q", format=".3f")),
    ]
    if chance is not None:
        line = alt.Chart(alt.Data(values=[{"value": chance}])).encode(x="value:Q")
        layers.append(line.mark_rule(strokeDash=[6, 4]))
    return alt.layer(*layers).properties(width="container", height=38 * len(values))


def seeds(rows: Rows, *, order: Sequence[str], title: str, from_zero: bool = True) -> Any:
    """A point for every run and a tick at the mean, a line for each system.

    Args:
        rows: Mappings with `system`, `score` and `run` (what tells the runs apart).
        order: The systems from top to bottom.
        title: Name of the score.
        from_zero: Whether the axis goes from 0 to 1, or only over the scores that there are.
    """
    scale, axis = (_SHARE, _SHARE_AXIS) if from_zero else (_NEAR, _NEAR_AXIS)
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        y=alt.Y("system:N", sort=list(order), title=None, axis=alt.Axis(grid=True)),
        x=alt.X("score:Q", title=title, scale=scale, axis=axis),
    )
    points = base.mark_point(opacity=0.75).encode(
        tooltip=["system:N", "run:N", alt.Tooltip("score:Q", format=".3f")]
    )
    mean = base.encode(x=alt.X("mean(score):Q", title=title))
    tick = mean.mark_tick(height={"band": 0.4}, orient="vertical")
    label = mean.mark_text(dy=-22, fontWeight="bold").encode(
        text=alt.Text("mean(score):Q", format=".3f")
    )
    return alt.layer(points, tick, label).properties(width="container", height=58 * len(order))


def score_curve(rows: Rows, *, order: Sequence[str], title: str) -> Any:
    """A score against steps of pre-training, a line for each system and a point for every run.

    Args:
        rows: Mappings with `system`, `step`, `score` and `run` (what tells the runs apart).
        order: The systems, in the order of the legend.
        title: Name of the score.
    """
    scale = alt.Scale(domain=list(order))
    shapes = alt.Scale(domain=list(order), range=_POINT_SHAPES[: len(order)])
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        x=alt.X("step:Q", title="steps of pre-training", axis=alt.Axis(grid=False, tickMinStep=1)),
        color=alt.Color("system:N", sort=list(order), scale=scale),
    )
    line = base.mark_line().encode(y=alt.Y("mean(score):Q", title=title, scale=_NEAR))
    points = base.mark_point(opacity=0.75).encode(
        y=alt.Y("score:Q", title=title, scale=_NEAR, axis=_NEAR_AXIS),
        shape=alt.Shape("system:N", sort=list(order), scale=shapes),
        tooltip=["system:N", "step:Q", "run:N", alt.Tooltip("score:Q", format=".3f")],
    )
    return alt.layer(line, points).properties(width="container", height=300)


def grid(rows: Rows) -> Any:
    """A score against the learning rate: a panel for each number of epochs, a line a batch size.

    Args:
        rows: Mappings with `learning rate`, `batch`, `epochs`, `run` and `score`.
    """
    rates = sorted({row["learning rate"] for row in rows}, key=float)
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    scale = alt.Scale(domain=batches)
    shapes = alt.Scale(domain=batches, range=_POINT_SHAPES[: len(batches)])
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        x=alt.X("learning rate:N", sort=rates, axis=alt.Axis(labelAngle=0)),
        color=alt.Color("batch:N", sort=batches, scale=scale),
    )
    line = base.mark_line().encode(y=alt.Y("mean(score):Q", title="score", scale=_NEAR))
    points = base.mark_point(opacity=0.75).encode(
        y=alt.Y("score:Q", title="score", scale=_NEAR, axis=_NEAR_AXIS),
        shape=alt.Shape("batch:N", sort=batches, scale=shapes),
        tooltip=["batch:N", "learning rate:N", "run:N", alt.Tooltip("score:Q", format=".3f")],
    )
    panel = alt.layer(line, points).properties(width=260, height=240)
    return panel.facet(column=alt.Column("epochs:N", title=None))


def by_label(rows: Rows, *, systems: Sequence[str], title: str) -> Any:
    """A score of every label, the systems told apart by shape and colour and joined by a line.

    Args:
        rows: Mappings with `label`, `system` and `score`.
        systems: The systems, in the order of the legend.
        title: Name of the score.
    """
    order = sorted(
        {row["label"] for row in rows},
        key=lambda label: -sum(row["score"] for row in rows if row["label"] == label),
    )
    base = alt.Chart(alt.Data(values=list(rows))).encode(y=alt.Y("label:N", sort=order, title=None))
    span = base.mark_rule(opacity=0.5).encode(x="min(score):Q", x2="max(score):Q")
    scale = alt.Scale(domain=list(systems))
    shapes = alt.Scale(domain=list(systems), range=_POINT_SHAPES[: len(systems)])
    points = base.mark_point(size=90).encode(
        x=alt.X("score:Q", title=title, scale=_SHARE, axis=_SHARE_AXIS),
        color=alt.Color("system:N", scale=scale, sort=list(systems)),
        shape=alt.Shape("system:N", scale=shapes, sort=list(systems)),
        tooltip=["label:N", "system:N", alt.Tooltip("score:Q", format=".3f")],
    )
    return alt.layer(span, points).properties(width="container", height=30 * len(order))


def moving_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and up to `window - 1` before it."""
    means = []
    for end in range(1, len(values) + 1):
        part = values[max(0, end - window) : end]
        means.append(sum(part) / len(part))
    return means
