"""The sections of a report on pairs of segments and on what the attention of [CLS] explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from spacy_bert.analysis.cls_attention import AdversarialAttention, PermutedAttention
from spacy_bert.analysis.ranking import PARTS, MarkerRemoval, SegmentAttention
from spacy_bert.analysis.report import Report

_SHARE = alt.Scale(domain=[0, 1])


def add_segment_attention(
    report: Report, found: SegmentAttention, *, source: str, key: str = "segments"
) -> None:
    """Add where [CLS], query, passage and [SEP] attend to.

    Args:
        report: The report.
        found: What `segment_attention` has found.
        source: Where the figures come from.
        key: Beginning of the names of its tables and charts.
    """
    query, passage, sep = (PARTS.index(part) for part in ("query", "passage", "[SEP]"))
    across = found.mass[:, query, passage]
    layer = int(across.argmax())
    report.section("Attention between query and passage")
    report.text(
        f"Over {found.windows:,} windows, the query attends most to the passage in layer {layer} "
        f"({across[layer]:.0%} of its attention; {found.even[passage]:.0%} if it were even). In "
        f"the last layer {found.mass[-1, [query, passage], sep].mean():.0%} of the attention of "
        "query and passage goes to [SEP]."
    )
    report.chart(
        f"{key}-mass",
        mass_lines(found),
        caption="Share of the attention of each part (panels) that goes to each part (lines), by "
        "layer from 0: a high line says that much goes there; the four add up to 1.",
        source=source,
    )


def add_marker_removal(
    report: Report, found: Sequence[MarkerRemoval], *, source: str, key: str = "markers"
) -> None:
    """Add what becomes of decisions without the markers.

    Args:
        report: The report.
        found: One for each marker.
        source: Where the figures come from.
        key: Beginning of the names of its tables and charts.

    Raises:
        ValueError: If there is none.
    """
    if not found:
        raise ValueError("no marker was removed: give what remove_marker has found")
    report.section("Decisions without [CLS] or [SEP]")
    report.text(
        " ".join(
            f"Without {each.marker}, {each.changed.mean():.0%} of {len(each.changed):,} decisions "
            "change."
            for each in found
        )
    )
    report.table(
        f"{key}-removed",
        [
            {
                "without": each.marker,
                "Docs": len(each.changed),
                "changed": f"{each.changed.mean():.1%}",
                "log-likelihood (nats)": float(np.nanmean(each.log_likelihoods)),
                "mean drop (nats)": float(np.nanmean(each.drops)),
            }
            for each in found
        ],
        caption="Decisions when a marker is taken out of the input: a high drop or share of "
        "changes says that the network needs the marker.",
        source=source,
    )


def add_permuted_attention(
    report: Report, found: PermutedAttention, *, source: str, key: str = "permuted"
) -> None:
    """Add how much outputs change when the attention of [CLS] is shuffled.

    Args:
        report: The report.
        found: What `permute_attention` has found.
        source: Where the figures come from.
        key: Beginning of the names of its tables and charts.
    """
    report.section("Permuted attention")
    report.text(
        f"Over {len(found.changes):,} Docs with {found.count} permutations each, the output moves "
        f"by {np.median(found.changes):.3f} (median of medians of the total variation distance); "
        f"{(found.changes < 0.1).mean():.0%} of the Docs stay under 0.1."
    )
    rows = [
        {"peak": peak, "change": change}
        for peak, change in zip(found.peaks.tolist(), found.changes.tolist(), strict=True)
    ]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_point(opacity=0.6)
        .encode(
            x=alt.X("peak:Q", title="greatest attention weight (mean of heads)", scale=_SHARE),
            y=alt.Y("change:Q", title="change of the output (TVD)", scale=_SHARE),
            tooltip=[alt.Tooltip("peak:Q", format=".3f"), alt.Tooltip("change:Q", format=".3f")],
        )
        .properties(width="container", height=300)
    )
    report.chart(
        f"{key}-changes",
        chart,
        caption="Each Doc as a point: low points have outputs that do not depend on where [CLS] "
        "attends in the last layer; right are Docs with peaked attention (Jain & Wallace 2019).",
        source=source,
    )


def add_adversarial_attention(
    report: Report, found: AdversarialAttention, *, source: str, key: str = "adversarial"
) -> None:
    """Add how far the attention of [CLS] can move while the output stays.

    Args:
        report: The report.
        found: What `attack_attention` has found.
        source: Where the figures come from.
        key: Beginning of the names of its tables and charts.
    """
    limit = math.log(2)
    report.section("Adversarial attention")
    report.text(
        f"Over {len(found.distances):,} Docs, attention was found that is "
        f"{found.distances.mean():.3f} nats from the original (Jensen-Shannon divergence, mean; "
        f"{limit:.3f} is the most there can be), while the output moves by "
        f"{found.epsilon:g} at most."
    )
    chart = (
        alt.Chart(alt.Data(values=[{"distance": each} for each in found.distances.tolist()]))
        .mark_bar()
        .encode(
            x=alt.X(
                "distance:Q",
                bin=alt.Bin(extent=[0.0, 0.7], step=0.05),
                title="divergence from the original attention (nats)",
            ),
            y=alt.Y("count():Q", title="Docs"),
        )
        .properties(width="container", height=240)
    )
    report.chart(
        f"{key}-distances",
        chart,
        caption="Docs by how far the attention of [CLS] can move without another output: far to "
        "the right, quite another attention explains the output as well.",
        source=source,
    )


def mass_lines(found: SegmentAttention) -> Any:
    """A panel for each part that attends, a line for each part attended to."""
    rows = [
        {
            "layer": layer,
            "of": PARTS[of],
            "to": PARTS[to],
            "mass": float(found.mass[layer, of, to]),
        }
        for layer, of, to in np.ndindex(*found.mass.shape)
    ]
    order = list(PARTS)
    shapes = ["circle", "diamond", "square", "triangle-up"]
    dashes = [[1, 0], [6, 3], [2, 2], [10, 4]]
    scale = alt.Scale(domain=order)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("layer:O", title="layer (from 0)", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("mass:Q", title="share of attention", scale=_SHARE),
        color=alt.Color("to:N", sort=order, scale=scale),
        tooltip=["layer:O", "of:N", "to:N", alt.Tooltip("mass:Q", format=".3f")],
    )
    line = base.mark_line().encode(
        strokeDash=alt.StrokeDash("to:N", sort=order, scale=alt.Scale(domain=order, range=dashes))
    )
    points = base.mark_point().encode(
        shape=alt.Shape("to:N", sort=order, scale=alt.Scale(domain=order, range=shapes))
    )
    panel = alt.layer(line, points).properties(width=300, height=200)
    return panel.facet(facet=alt.Facet("of:N", sort=order, title=None), columns=2)
