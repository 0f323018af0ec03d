"""The blocks of a report as HTML, everything that the caller hands in escaped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from numbers import Integral, Real
from typing import Any

Row = Mapping[str, object]


def figure(content: str, caption: str, source: str, *, attributes: str = "") -> str:
    """What is seen, with a caption and where it comes from; `attributes` are the figure's own."""
    small = f"<small>Source: {escape(source)}</small>" if source else ""
    return (
        f"<figure{attributes}>{content}<figcaption>{escape(caption)}{small}</figcaption></figure>"
    )


def chart_place(name: str, caption: str) -> str:
    """Where a chart is drawn."""
    label = escape(caption, quote=True)
    return (
        f'<div class="scroll"><div class="chart" id="chart-{name}" role="img" '
        f'aria-label="{label}"></div></div>'
    )


def gallery(items: Mapping[str, str], *, caption: str) -> str:
    """Pictures of which one is shown: the first, until a script lets the reader choose.

    Args:
        items: Label to what is shown, as HTML.
        caption: What all of them show, for those who do not see it.
    """
    said = escape(caption, quote=True)
    options = "".join(
        f'<option value="{place}">{escape(label)}</option>' for place, label in enumerate(items)
    )
    shown = "".join(
        f'<div class="item"{" hidden" if place else ""}><p class="label">{escape(label)}</p>'
        f"{content}</div>"
        for place, (label, content) in enumerate(items.items())
    )
    return (
        f'<div class="choice" hidden><input type="range" min="0" max="{len(items) - 1}" step="1" '
        f'value="0" aria-label="Which to show. {said}"><select autocomplete="off" '
        f'aria-label="Which to show. {said}">{options}</select></div>{shown}'
    )


def table(cells: Sequence[Mapping[str, Any]], best: Sequence[str]) -> str:
    """A table of plain values; in the columns of `best`, the greatest number is marked."""
    columns = list(dict.fromkeys(column for row in cells for column in row))
    numbers = {
        column: [row[column] for row in cells if _is_number(row.get(column))] for column in columns
    }
    head = "".join(_cell("th", column, number=bool(numbers[column])) for column in columns)
    lines = []
    for row in cells:
        line = ""
        for column in columns:
            value, found = row.get(column), numbers[column]
            is_best = column in best and value in found and value == max(found)
            line += _cell("td", value, number=bool(found), best=is_best)
        lines.append(f"<tr>{line}</tr>")
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="scroll">{body}</div>'


def data_rows(spec: Mapping[str, Any]) -> Iterator[Any]:
    """The data that a chart and its layers hold."""
    for dataset in spec.get("datasets", {}).values():
        yield from dataset
    yield from spec.get("data", {}).get("values", [])
    for part in ("layer", "concat", "hconcat", "vconcat"):
        for inner in spec.get(part, []):
            yield from data_rows(inner)


def _cell(tag: str, value: object, *, number: bool, best: bool = False) -> str:
    names = " ".join(name for name, holds in (("number", number), ("best", best)) if holds)
    attribute = f' class="{names}"' if names else ""
    return f"<{tag}{attribute}>{escape(format_value(value))}</{tag}>"


def plain_value(value: object) -> Any:
    """A value as JSON has it: numbers of any library as Python's, NaN and infinities as null."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else None
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def format_value(value: object) -> str:
    """A figure as people read it: some four digits, thousands apart, a dash for nothing."""
    plain = plain_value(value)
    if plain is None:
        return "–"
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    if isinstance(plain, int):
        return f"{plain:,}"
    if not isinstance(plain, float):
        return str(plain)
    if 0.0 < abs(plain) < 0.001:  # learning rates
        return f"{plain:.3g}"
    if 0.001 <= abs(plain) < 0.01:
        return f"{plain:.5f}"
    return f"{plain:.3f}" if abs(plain) < 10.0 else f"{plain:,.1f}"
