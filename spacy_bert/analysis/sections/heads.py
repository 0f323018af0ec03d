"""The section of a report on attention heads: importance, ablation, pruning."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from spacy_bert.analysis.gates import HeadImportance
from spacy_bert.analysis.head_pruning import HeadAblation, PruningCurve
from spacy_bert.analysis.head_study import HeadStudy
from spacy_bert.analysis.pruned_pipeline import Pruned
from spacy_bert.analysis.report import Report

SAME = (
    "The heads were chosen on the Docs on which they are scored, which flatters the choice: other "
    "Docs to score on (--dev, or dev=) tell more."
)
BY_IMPORTANCE, AT_RANDOM = "least important first", "at random"


def add_heads(
    report: Report, found: HeadStudy, *, source: str, same: bool = False, key: str = "heads"
) -> None:
    """Add what was found of the attention heads of a component.

    Args:
        report: The report.
        found: What `study_heads` has found.
        source: Where the figures come from.
        same: Whether the Docs that chose the heads are those that the scores are of.
        key: Beginning of the names of its tables and charts.
    """
    component = found.importance.component
    report.section(f"Which attention heads {component} needs")
    report.text(_about_importance(found.importance))
    report.chart(
        f"{key}-importance",
        importance_map(found.importance),
        caption="Importance of each head, normalized by layer (Michel et al. 2019): the more a "
        "colour stands out from the page, the more the loss depends on the head; pruned heads are "
        "left blank.",
        source=source,
    )
    report.text(
        f"Over {int((~found.importance.pruned).sum())} heads, importance and how far the "
        "log-likelihood moves, up or down, when a head is closed have a Spearman correlation of "
        f"{found.spearman:.2f}."
    )
    report.chart(
        f"{key}-left-out",
        ablation_scatter(found.importance, found.left_out),
        caption="Each head as a point: far to the right, the loss depends on it by its gradient; "
        "far above the dashed line, the log-likelihood of the gold decisions falls when it alone "
        "is closed; far below, it rises.",
        source=source,
    )
    report.text(_about_curve(found.curve) + (f" {SAME}" if same else ""))
    report.chart(
        f"{key}-curve",
        curve_chart(found.curve),
        caption=f"{found.curve.original.metric} with a share of all heads closed, the importance "
        "found anew after each tenth: a line that stays high says that the heads closed so far are "
        "not needed; a point is one order.",
        source=source,
    )
    report.text(_about_pruned(found.pruned))
    report.table(
        f"{key}-pruned",
        _conditions(found.pruned),
        caption="The pipeline before and after heads were cut out for good; a high score and "
        "many Docs a second are good.",
        source=source,
    )


def importance_map(found: HeadImportance) -> Any:
    """Layers from bottom to top, heads from left to right, importance as lightness."""
    rows = [
        {"layer": layer, "head": head, "importance": float(found.by_layer[layer, head])}
        for layer, head in np.argwhere(~found.pruned).tolist()
    ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_rect()
        .encode(
            x=alt.X("head:O", title="head (from 0)", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("layer:O", title="layer (from 0)", sort="descending"),
            color=alt.Color("importance:Q", title="importance"),
            tooltip=["layer:O", "head:O", alt.Tooltip("importance:Q", format=".3f")],
        )
        .properties(width="container", height=110 + 26 * len(found.raw))
    )


def ablation_scatter(importance: HeadImportance, left_out: HeadAblation) -> Any:
    """A point for each head: importance against what the log-likelihood loses without it."""
    rows = [
        {
            "head": f"{layer}-{head}",
            "importance": float(importance.raw[layer, head]),
            "drop": float(left_out.drops[layer, head]),
        }
        for layer, head in np.argwhere(~importance.pruned).tolist()
    ]
    base = alt.Chart(alt.Data(values=rows))
    points = base.mark_point(opacity=0.75).encode(
        x=alt.X("importance:Q", title="importance (nats)"),
        y=alt.Y("drop:Q", title="drop in log-likelihood (nats)"),
        tooltip=[
            alt.Tooltip("head:N", title="layer-head"),
            alt.Tooltip("importance:Q", format=".3g"),
            alt.Tooltip("drop:Q", format=".3g"),
        ],
    )
    zero = alt.Chart(alt.Data(values=[{"drop": 0}])).mark_rule(strokeDash=[6, 4]).encode(y="drop:Q")
    return alt.layer(zero, points).properties(width="container", height=300)


def curve_chart(found: PruningCurve) -> Any:
    """Score against the share of heads closed: by importance, and the mean of random orders."""
    shares = [0.0, *found.shares.tolist()]
    start = found.original.score
    rows = [
        {"share": share, "score": score, "order": BY_IMPORTANCE, "run": BY_IMPORTANCE}
        for share, score in zip(shares, [start, *found.by_importance.tolist()], strict=True)
    ]
    for seed, scores in enumerate(found.random.tolist()):
        rows += [
            {"share": share, "score": score, "order": AT_RANDOM, "run": f"seed {seed}"}
            for share, score in zip(shares, [start, *scores], strict=True)
        ]
    order = [BY_IMPORTANCE, AT_RANDOM]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("share:Q", title="share of heads closed", axis=alt.Axis(format="%")),
        color=alt.Color("order:N", sort=order, scale=alt.Scale(domain=order)),
    )
    line = base.mark_line().encode(
        y=alt.Y("mean(score):Q", title=found.original.metric, scale=alt.Scale(zero=False)),
        strokeDash=alt.StrokeDash(
            "order:N", sort=order, scale=alt.Scale(domain=order, range=[[1, 0], [6, 4]])
        ),
    )
    points = base.mark_point(opacity=0.75).encode(
        y=alt.Y("score:Q", title=found.original.metric, scale=alt.Scale(zero=False)),
        shape=alt.Shape(
            "order:N", sort=order, scale=alt.Scale(domain=order, range=["circle", "diamond"])
        ),
        tooltip=["run:N", alt.Tooltip("share:Q", format=".0%"), alt.Tooltip("score:Q")],
    )
    return alt.layer(line, points).properties(width="container", height=300)


def _about_importance(found: HeadImportance) -> str:
    raw = np.where(found.pruned, -np.inf, found.raw)
    layer, head = np.unravel_index(raw.argmax(), raw.shape)
    weak = int((found.raw[~found.pruned] < raw.max() / 10).sum())
    return (
        f"Over {found.examples:,} examples, the loss depends most on head {head} of layer {layer} "
        f"(by {raw.max():.3g} nats for a change of its gate by 1, to first order); {weak} of "
        f"{int((~found.pruned).sum())} heads have less than a tenth of that."
    )


def _about_curve(found: PruningCurve) -> str:
    original = found.original
    parts = []
    for share in (0.3, 0.5):
        places = np.flatnonzero(np.isclose(found.shares, share))
        if not len(places):
            continue
        place = int(places[0])
        text = f"with {share:.0%} of the heads closed it is {found.by_importance[place]:.3f}"
        if len(found.random):
            chance = found.random[:, place]
            text += (
                f" by importance and {chance.mean():.3f} at random (mean of {len(chance)} orders, "
                f"{chance.min():.3f} to {chance.max():.3f})"
            )
        parts.append(text)
    after = "; ".join(parts)
    return f"With all heads {original.metric} is {original.score:.3f}" + (
        f"; {after}." if after else "."
    )


def _about_pruned(found: Pruned) -> str:
    before, after = found.before, found.after
    faster = after.docs_per_second / before.docs_per_second
    return (
        f"Of {before.heads} heads {after.heads} were kept, which takes "
        f"{1 - after.parameters / before.parameters:.1%} of the encoder's parameters away; encoder "
        f"and head then read {faster:.2f} times as many Docs a second."
    )


def _conditions(found: Pruned) -> list[dict[str, object]]:
    return [
        {
            "pipeline": name,
            "heads": each.heads,
            "parameters": each.parameters,
            each.quality.metric: each.quality.score,
            "log-likelihood (nats)": each.quality.log_likelihood,
            "Docs a second": each.docs_per_second,
        }
        for name, each in (("before", found.before), ("after", found.after))
    ]
