"""Sections of a report: what heads look at, and which of them look at the same things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from spacy_bert.analysis.attention_patterns import OTHER, PRUNED, AttentionPatterns
from spacy_bert.analysis.head_distances import HeadDistances
from spacy_bert.analysis.head_maps import best_head, head_name
from spacy_bert.analysis.report import Report

_LABELS = ["broad", "next", "previous", "[CLS]", "[SEP]", "punctuation", OTHER]
_SHAPES = ["square", "triangle-right", "triangle-left", "triangle-up", "diamond", "cross", "circle"]

Rows = Sequence[Mapping[str, Any]]


def add_attention(report: Report, found: AttentionPatterns, *, source: str) -> None:
    """Add what heads look at: the strongest head for each target, all heads, and entropies.

    Args:
        report: The report.
        found: What `attention_patterns` gives.
        source: Where the texts and the network come from.
    """
    labels = Counter(found.labels.ravel().tolist())
    heads = found.labels.size - labels.pop(PRUNED, 0)
    named = ", ".join(f"{count} {label}" for label, count in labels.most_common() if label != OTHER)
    report.section("What heads look at")
    report.text(
        f"Of {heads} heads, by what they look at: {named or 'none with a clear pattern'}. On "
        f"average {np.nanmean(found.to_sep):.0%} of attention goes to [SEP] and "
        f"{np.nanmean(found.to_cls):.0%} to [CLS]. {_about_sep(found)} {_about_length(found)}"
    )
    report.table(
        "attention-targets",
        [_target_row(name, shares) for name, shares in found.targets.items()],
        caption="The mean share of attention that goes to each target, and the head (layer-head, "
        "both from 0) that looks there most; a high share means that a head does little else.",
        source=source,
    )
    report.chart(
        "attention-heads",
        heads_chart(found),
        caption="The share of attention that each head gives to each target: a colour that stands "
        "out from the page means that it looks there nearly always; a square that is missing is a "
        "pruned head.",
        source=source,
    )
    report.chart(
        "attention-sep",
        sep_chart(found),
        caption="The share of attention to [SEP], from [SEP] itself and from all other pieces: a "
        "head high and to the right looks at [SEP] from everywhere, as Clark et al. (2019) take "
        "for doing nothing.",
        source=source,
    )
    report.chart(
        "attention-entropy",
        entropy_chart(found),
        caption="The mean entropy of each head's attention, over all pieces and from [CLS] alone: "
        "high means that it is spread over many pieces; the dashed line is attention to all pieces "
        "alike.",
        source=source,
    )


def add_head_distances(
    report: Report,
    found: HeadDistances,
    *,
    source: str,
    patterns: AttentionPatterns | None = None,
) -> None:
    """Add which heads look at the same things, as a map and as clusters.

    Args:
        report: The report.
        found: What `head_distances` gives.
        source: Where the texts and the network come from.
        patterns: Of the same encoder: what they say of a head gives its mark on the map.
    """
    same, different = found.within_layers()
    report.section("Which heads look at the same things")
    text = f"The {len(found.heads)} heads are {found.distances.mean():.3f} nats apart on average"
    if np.isfinite(same) and np.isfinite(different):
        text += f": {same:.3f} within a layer, {different:.3f} between layers"
    report.text(
        f"{text} (at most ln 2 = 0.693). The map's stress is {found.stress:.2f}; 0 would be exact."
    )
    labels = None if patterns is None else patterns.labels
    report.chart(
        "head-map",
        map_chart(found, labels),
        caption="The heads as points, by the Jensen-Shannon divergence of their attention: heads "
        "that stand together look at the same pieces; the number is the layer, from 0"
        + ("" if labels is None else ", and the mark what a head mostly looks at")
        + ".",
        source=source,
    )
    report.table(
        "head-clusters",
        [_cluster_row(found, number) for number in np.unique(found.clusters).tolist()],
        caption="Clusters of heads by average linkage (layer-head, both from 0), with the mean "
        "distance inside each, in nats; a high distance means that it holds what fits nowhere "
        "else.",
        source=source,
    )


def _about_sep(found: AttentionPatterns) -> str:
    itself, others = np.nanmean(found.sep_to_sep), np.nanmean(found.other_to_sep)
    return f"[SEP] gives {itself:.0%} of its own attention to [SEP], other pieces {others:.0%}."


def _about_length(found: AttentionPatterns) -> str:
    mean = f"Texts have {found.pieces / found.windows:.0f} pieces on average"
    if found.uniform_entropy > 4.0:
        return f"{mean}."
    return (
        f"{mean}: attention to all alike has {found.uniform_entropy:.2f} nats, so that hardly any "
        "head can be broad (over 3.8)."
    )


def _target_row(name: str, shares: np.ndarray) -> dict[str, object]:
    layer, head = best_head(shares)
    return {
        "looks at": name,
        "mean share": float(np.nanmean(shares)),
        "strongest head": head_name(layer, head),
        "its share": float(shares[layer, head]),
    }


def _cluster_row(found: HeadDistances, number: int) -> dict[str, object]:
    members = np.flatnonzero(found.clusters == number)
    inside = found.distances[np.ix_(members, members)][np.triu_indices(len(members), k=1)]
    return {
        "cluster": number,
        "heads": len(members),
        "distance inside": float(inside.mean()) if len(inside) else None,
        "members": ", ".join(head_name(*found.heads[member].tolist()) for member in members),
    }


def heads_chart(found: AttentionPatterns) -> Any:
    """A map of layers x heads for each target."""
    rows = [
        {"target": name, "layer": layer, "head": head, "share": float(shares[layer, head])}
        for name, shares in found.targets.items()
        for layer, head in np.argwhere(~np.isnan(shares)).tolist()
    ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_rect()
        .encode(
            x=alt.X("head:O", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("layer:O", sort="descending"),
            color=alt.Color("share:Q", scale=alt.Scale(domain=[0, 1]), legend=_share_legend()),
            tooltip=["target:N", "layer:O", "head:O", alt.Tooltip("share:Q", format=".3f")],
        )
        .properties(width=200, height=alt.Step(16))
        .facet(facet=alt.Facet("target:N", sort=list(found.targets), title=None), columns=3)
    )


def _share_legend() -> Any:
    return alt.Legend(title="share of attention", format=".0%")


def sep_chart(found: AttentionPatterns) -> Any:
    """Each head's attention to [SEP], from [SEP] against from elsewhere, layers as numbers."""
    rows = [
        {
            "layer": layer,
            "head": head_name(layer, head),
            "itself": float(found.sep_to_sep[layer, head]),
            "others": float(found.other_to_sep[layer, head]),
        }
        for layer, head in np.argwhere(~np.isnan(found.sep_to_sep)).tolist()
    ]
    share = {"scale": alt.Scale(domain=[0, 1]), "axis": alt.Axis(format=".0%", tickCount=5)}
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_text(fontWeight="bold")
        .encode(
            x=alt.X("others:Q", title="from other pieces to [SEP]", **share),
            y=alt.Y("itself:Q", title="from [SEP] to [SEP]", **share),
            text="layer:N",
            tooltip=[
                "head:N",
                *(alt.Tooltip(f"{n}:Q", format=".3f") for n in ("itself", "others")),
            ],
        )
        .properties(width="container", height=320)
    )


def entropy_chart(found: AttentionPatterns) -> Any:
    """Entropy of each head against its layer, over all pieces and from [CLS]."""
    kinds = {"all pieces": found.entropy, "from [CLS]": found.cls_entropy}
    rows = [
        {
            "rows": kind,
            "layer": layer,
            "head": head_name(layer, head),
            "entropy": float(values[layer, head]),
        }
        for kind, values in kinds.items()
        for layer, head in np.argwhere(~np.isnan(values)).tolist()
    ]
    order = alt.Scale(domain=list(kinds))
    points = (
        alt.Chart(alt.Data(values=rows))
        .mark_point(opacity=0.75)
        .encode(
            x=alt.X("layer:O", axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("rows:N", scale=order),
            y=alt.Y("entropy:Q", title="entropy (nats)"),
            color=alt.Color("rows:N", scale=order),
            shape=alt.Shape(
                "rows:N", scale=alt.Scale(domain=list(kinds), range=["circle", "diamond"])
            ),
            tooltip=["head:N", "rows:N", alt.Tooltip("entropy:Q", format=".2f")],
        )
    )
    line = alt.Chart(alt.Data(values=[{"entropy": found.uniform_entropy}])).encode(y="entropy:Q")
    return alt.layer(line.mark_rule(strokeDash=[6, 4]), points).properties(
        width="container", height=300
    )


def map_chart(found: HeadDistances, labels: np.ndarray | None = None) -> Any:
    """The heads on their plane, with marks by label and the numbers of layers."""
    rows = [
        {
            "layer": layer,
            "head": head_name(layer, head),
            "x": x,
            "y": y,
            "cluster": cluster,
            "label": OTHER if labels is None else labels[layer, head],
        }
        for (layer, head), (x, y), cluster in zip(
            found.heads.tolist(), found.positions.tolist(), found.clusters.tolist(), strict=True
        )
    ]
    there = [label for label in _LABELS if any(row["label"] == label for row in rows)]
    shapes = [_SHAPES[_LABELS.index(label)] for label in there]
    plain = alt.Axis(labels=False, ticks=False, grid=False, domain=False, title=None)
    reach = 1.1 * float(np.abs(found.positions).max())  # one scale for both: it is a map
    scale = alt.Scale(domain=[-reach, reach], nice=False)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("x:Q", axis=plain, scale=scale),
        y=alt.Y("y:Q", axis=plain, scale=scale),
        tooltip=["head:N", "label:N", "cluster:O"],
    )
    points = base.mark_point(opacity=0.75, size=110).encode(
        shape=alt.Shape("label:N", scale=alt.Scale(domain=there, range=shapes)),
        color=alt.Color("label:N", scale=alt.Scale(domain=there)),
    )
    if labels is None:
        points = base.mark_point(opacity=0.75, size=110)
    numbers = base.mark_text(dx=9, dy=-7, fontSize=10).encode(text="layer:N")
    return alt.layer(points, numbers).properties(width=560, height=560)
