"""Charts by layer, which several sections share: lines, and maps of layers against layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

SQUARE = 38, 30  # width and height of a square of a map, in pixels
_SHAPES = ["circle", "diamond", "square", "triangle-up", "cross", "triangle-down"]
_DASHES = [[1, 0], [6, 4], [2, 2], [8, 2, 2, 2], [4, 2], [1, 3]]


def lines_by_layer(
    series: Mapping[str, Sequence[float] | np.ndarray],
    *,
    title: str,
    zero: bool = False,
    height: int = 260,
) -> Any:
    """A line for each series over the layers; gaps where a value is not a number.

    Args:
        series: Name to a value for each layer, from 0, the embeddings; at most six.
        title: Of the axis of values.
        zero: Whether that axis begins at 0.
        height: In pixels.

    Raises:
        ValueError: If there are more series than can be told apart.
    """
    names = list(series)
    if len(names) > len(_SHAPES):
        raise ValueError(f"{len(names)} lines cannot be told apart: show {len(_SHAPES)} at most")
    rows = [
        {"series": name, "layer": layer, "value": float(value)}
        for name, values in series.items()
        for layer, value in enumerate(values)
        if np.isfinite(value)
    ]
    scale = alt.Scale(domain=names)
    legend = alt.Legend(symbolType="stroke", symbolSize=900) if len(names) > 1 else None
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("layer:Q", axis=alt.Axis(grid=False, tickMinStep=1, format="d")),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=zero)),
        tooltip=["series:N", "layer:Q", alt.Tooltip("value:Q", format=".3f")],
    )
    count = len(names)
    line = base.mark_line().encode(
        color=alt.Color("series:N", sort=names, scale=scale, legend=legend),
        strokeDash=alt.StrokeDash(
            "series:N",
            sort=names,
            scale=alt.Scale(domain=names, range=_DASHES[:count]),
            legend=legend,
        ),
    )
    points = base.mark_point(strokeWidth=0).encode(
        color=alt.Color("series:N", sort=names, scale=scale, legend=None),
        shape=alt.Shape(
            "series:N",
            sort=names,
            scale=alt.Scale(domain=names, range=_SHAPES[:count]),
            legend=None,
        ),
    )
    # With legends of its own, the layer of lines shows its dashes, not points with dashed edges.
    return (
        alt.layer(line, points)
        .resolve_legend(color="independent", strokeDash="independent", shape="independent")
        .properties(width="container", height=height)
    )


def layer_map(values: np.ndarray, *, x: str, y: str, title: str, domain: Sequence[float]) -> Any:
    """A map of layers against layers, each value written into its square.

    Args:
        values: (rows, columns); what is not a number stays empty.
        x: What the columns are layers of.
        y: What the rows are layers of.
        title: Of the values.
        domain: The least and the greatest value of the scale.
    """
    rows = [
        {"row": i, "column": j, "value": float(values[i, j])}
        for i in range(values.shape[0])
        for j in range(values.shape[1])
        if np.isfinite(values[i, j])
    ]
    low, high = domain
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("column:O", title=x, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("row:O", title=y, sort="descending"),
        tooltip=["row:O", "column:O", alt.Tooltip("value:Q", title=title, format=".3f")],
    )
    scale = alt.Scale(domain=[low, high], clamp=True)
    squares = base.mark_rect().encode(
        color=alt.Color("value:Q", title=title, scale=scale, legend=alt.Legend(title=title))
    )
    layers = [squares]
    if max(values.shape) <= 14:  # more would not fit into the squares
        numbers = base.mark_text(fontSize=10).encode(
            text=alt.Text("value:Q", format=".2f"),
            color=alt.condition(
                alt.datum.value > (low + high) / 2, alt.value("#ffffff"), alt.value("#17202b")
            ),
        )
        layers.append(numbers)
    # The squares have this size, whatever axes and legend need beside them.
    return alt.layer(*layers).properties(
        width=SQUARE[0] * values.shape[1],
        height=SQUARE[1] * values.shape[0],
        autosize=alt.AutoSizeParams(type="pad"),
    )
