"""Section of a report: how far attention follows the structure of code."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from spacy_bert.analysis.cat_probing import CatScores
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.report_blocks import format_value

SCORE, CEILING, NEIGHBOURS = "CAT-score", "ceiling", "neighbours in the text"


def add_code(report: Report, found: CatScores, *, source: str, prose: bool = False) -> None:
    """Add the CAT-scores of the layers, and the types of tokens that were kept.

    Args:
        report: The report.
        found: What `cat_probe` gives.
        source: Where the code and the network come from.
        prose: Whether the structures are dependency trees, which is this package's own extension.
    """
    name = "cat-prose" if prose else "cat-code"
    structure = "dependency tree" if prose else "syntax tree"
    report.section(f"Attention and the {structure}")
    report.text(_summary(found, structure))
    extension = " The score over dependency trees is this package's own extension." if prose else ""
    report.chart(
        name,
        scores_chart(found),
        caption=f"CAT-score (Chen et al. 2022) by layer: high means that tokens which attend "
        f"strongly to each other stand close in the {structure}. The ceiling is what perfect "
        "attention would have, since many distances are equal; attention to neighbours in the text "
        "alone, this package's own baseline, must be passed to speak of structure; the dashed line "
        "is chance."
        f"{extension}",
        source=source,
    )
    if found.types:
        report.table(
            f"{name}-types",
            [
                {
                    "layer": layer,
                    "types, with the share of strong weights": "   ".join(
                        f"{kind} {format_value(rate)}" for kind, rate in types.items()
                    ),
                }
                for layer, types in enumerate(found.types, start=1)
            ],
            caption="The types of tokens that were kept in each layer; a high share means that "
            "tokens of this type attend, or are attended to, more than others.",
            source=source,
        )


def scores_chart(found: CatScores) -> Any:
    """Scores and ceilings by layer, and chance as a dashed line."""
    series = {SCORE: found.scores, CEILING: found.ceilings, NEIGHBOURS: found.neighbours}
    order = list(series)
    rows = [
        {"series": name, "layer": layer, "score": value}
        for name, values in series.items()
        for layer, value in enumerate(values.tolist(), start=1)
        if np.isfinite(value)
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("layer:Q", axis=alt.Axis(grid=False, tickMinStep=1, format="d")),
        y=alt.Y("score:Q", title=SCORE, axis=alt.Axis(format=".2f")),
        color=alt.Color("series:N", sort=order, scale=alt.Scale(domain=order)),
        tooltip=["series:N", "layer:Q", alt.Tooltip("score:Q", format=".3f")],
    )
    shapes = alt.Scale(domain=order, range=["circle", "diamond", "square"])
    chance = alt.Chart(alt.Data(values=[{"score": found.chance}])).encode(y="score:Q")
    label = chance.mark_text(align="left", baseline="top", dx=6, dy=5).encode(
        x=alt.value(0), text=alt.value(f"chance {found.chance:.3f}")
    )
    return alt.layer(
        base.mark_line(),
        base.mark_point().encode(shape=alt.Shape("series:N", sort=order, scale=shapes)),
        chance.mark_rule(strokeDash=[6, 4]),
        label,
    ).properties(width="container", height=280)


def _summary(found: CatScores, structure: str) -> str:
    known = [
        (layer, score) for layer, score in enumerate(found.scores.tolist(), 1) if np.isfinite(score)
    ]
    if not known:
        return "No sample has tokens enough to be scored."
    best, score = max(known, key=lambda pair: pair[1])
    above = sum(score > found.chance for _, score in known)
    beyond = int((found.scores > found.neighbours).sum())
    return (
        f"Attention follows the {structure} best in layer {best}, with a CAT-score of "
        f"{score:.3f} where chance is {found.chance:.3f}, attention to neighbours in the text "
        f"{found.neighbours[best - 1]:.3f}, and perfect attention would have "
        f"{found.ceilings[best - 1]:.3f}. {above} of {len(known)} layers are above chance, "
        f"{beyond} above neighbours; "
        f"{int(found.samples.max()):,} samples were scored."
    )
