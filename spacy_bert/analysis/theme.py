"""How every chart looks: one Vega-Lite configuration for a light page and one for a dark one.

Colours differ in lightness as well as in hue, so that they stay apart in greyscale and for the
colour-blind; charts still name their series by shape, dash or label as well.
"""

from __future__ import annotations

from typing import Any

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
INKS = {
    "light": {"ink": "#17202b", "soft": "#586575", "line": "#dfe4ea"},
    "dark": {"ink": "#e8edf2", "soft": "#9dabb9", "line": "#2a343f"},
}
SERIES = {
    "light": ["#1d4f9f", "#e08214", "#6b7785", "#0b8069", "#a5328a", "#8fb4e8"],
    "dark": ["#8ab8ff", "#f2a541", "#8492a1", "#4fd0b0", "#ee8fd2", "#4874b8"],
}
_RAMPS = {"light": ["#f2f6fc", "#1d4f9f"], "dark": ["#1b2733", "#a9ccff"]}

PAGE = {"light": "#ffffff", "dark": "#171e26"}


def vega_config(theme: str) -> dict[str, Any]:
    """The Vega-Lite `config` of a theme, "light" or "dark"; the background stays transparent."""
    inks, series = INKS[theme], SERIES[theme]
    return {
        "background": "transparent",
        "font": FONT,
        "autosize": {"type": "fit", "contains": "padding"},
        "view": {"stroke": "transparent"},
        "axis": {
            "labelColor": inks["soft"],
            "titleColor": inks["soft"],
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 10,
            "gridColor": inks["line"],
            "domainColor": inks["line"],
            "tickColor": inks["line"],
            "labelLimit": 240,
            "labelPadding": 6,
        },
        "axisY": {"domain": False, "ticks": False},
        "header": {"labelColor": inks["ink"], "titleColor": inks["soft"], "labelFontSize": 12},
        "legend": {
            "orient": "top",
            "title": None,
            "titleColor": inks["soft"],
            "titleFontWeight": "normal",
            "labelColor": inks["ink"],
            "labelFontSize": 12,
            "symbolStrokeWidth": 2.5,
            "labelLimit": 320,
        },
        "title": {"color": inks["ink"], "subtitleColor": inks["soft"], "anchor": "start"},
        "range": {"category": series, "ramp": _RAMPS[theme], "heatmap": _RAMPS[theme]},
        "mark": {"color": series[0]},
        "line": {"strokeWidth": 2.5},
        "point": {"size": 70, "filled": True},
        "tick": {"thickness": 3},
        "rule": {"color": inks["soft"], "strokeWidth": 1.5},
        "text": {"color": inks["ink"], "fontSize": 12},
    }
