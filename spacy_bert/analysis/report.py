"""Report: tables and charts as one off-line HTML file, with a PNG of every chart and a JSON.

The HTML file holds Vega itself, so it needs no network, and follows the reader's light or dark
mode. Whatever the caller hands in is escaped.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from numbers import Integral, Real
from pathlib import Path
from string import Template
from typing import Any

import altair as alt
import vl_convert

from spacy_bert.analysis.theme import PAGE, vega_config
from spacy_bert.files import replacing

PNG_WIDTH = 720  # of a chart that takes its container's width, in CSS pixels
PNG_SCALE = 2
_VEGA = "window.vegaEmbed = vegaEmbed;"  # what the bundle shows to the page

Row = Mapping[str, object]


class Report:
    """A page built from top to bottom; every method that adds to it returns it.

    Example:
        >>> report = Report("Probing").text("What the layers know.")
        >>> report = report.table("layers", [{"layer": 1, "F1": 0.81}], caption="F1 by layer.")
        >>> page = report.save(Path("report"))  # doctest: +SKIP
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        """An empty page with a heading."""
        self.title = title
        self.subtitle = subtitle
        self._blocks: list[str] = []
        self._charts: dict[str, dict[str, Any]] = {}
        self._record: dict[str, Any] = {"title": title, "figures": {}, "tables": {}, "charts": {}}

    def section(self, title: str) -> Report:
        """Add a heading."""
        self._blocks.append(f"<h2>{escape(title)}</h2>")
        return self

    def text(self, text: str) -> Report:
        """Add a paragraph of plain text."""
        self._blocks.append(f"<p>{escape(text)}</p>")
        return self

    def figures(self, figures: Mapping[str, tuple[object, str]]) -> Report:
        """Add a row of single figures: label to value and a short note."""
        cards = []
        for label, (value, note) in figures.items():
            self._record["figures"][label] = {"value": _plain(value), "note": note}
            cards.append(
                f'<div><dt>{escape(label)}</dt><dd class="value">{escape(format_value(value))}</dd>'
                f'<dd class="note">{escape(note)}</dd></div>'
            )
        self._blocks.append(f'<dl class="cards">{"".join(cards)}</dl>')
        return self

    def table(
        self,
        name: str,
        rows: Sequence[Row],
        *,
        caption: str,
        source: str = "",
        best: Sequence[str] = (),
    ) -> Report:
        """Add a table.

        Args:
            name: Its key in the JSON: small letters, digits and hyphens.
            rows: Column to cell, a mapping a row; the first row's order rules, gaps show as a dash.
            caption: One sentence that says what the reader sees.
            source: Where the figures come from: files, commands.
            best: Columns in which the greatest number is marked.

        Raises:
            ValueError: If the name is taken or not of the form above, or there are no rows.
        """
        self._claim(name, "tables")
        if not rows:
            raise ValueError(f"table {name!r} has no rows; leave it out")
        cells = [{column: _plain(value) for column, value in row.items()} for row in rows]
        columns = list(dict.fromkeys(column for row in cells for column in row))
        numbers = {
            column: [row[column] for row in cells if _is_number(row.get(column))]
            for column in columns
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
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        self._figure(f'<div class="scroll">{table}</div>', caption, source)
        self._record["tables"][name] = {"caption": caption, "source": source, "rows": cells}
        return self

    def chart(self, name: str, chart: Any, *, caption: str, source: str = "") -> Report:
        """Add an Altair chart; give it `width="container"` to fill the page.

        Args:
            name: The stem of its PNG and its key in the JSON: small letters, digits and hyphens.
            chart: The chart; its colours are the theme's unless it names its own.
            caption: One sentence that says what the reader sees.
            source: Where the figures come from: files, commands.

        Raises:
            ValueError: If the name is taken or not of the form above.
        """
        self._claim(name, "charts")
        with alt.data_transformers.enable("default", max_rows=None):
            spec: dict[str, Any] = chart.to_dict()
        spec.pop("$schema", None)  # Vega comes with the page, in a version of its own
        spec.pop("config", None)  # Altair's default look; the page's theme takes its place
        self._charts[name] = spec
        label = escape(caption, quote=True)
        self._figure(
            f'<div class="scroll"><div class="chart" id="chart-{name}" role="img" '
            f'aria-label="{label}"></div></div>',
            caption,
            source,
        )
        self._record["charts"][name] = {
            "caption": caption,
            "source": source,
            "rows": list(_data_rows(spec)),
        }
        return self

    def save(self, directory: Path) -> Path:
        """Write `index.html`, `report.json` and a PNG of every chart.

        Returns:
            The path of the page.
        """
        page = directory / "index.html"
        with replacing(page) as temporary:
            temporary.write_text(self.to_html(), encoding="utf-8")
        with replacing(directory / "report.json") as temporary:
            text = json.dumps(self._record, indent=2, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        for name in self._charts:
            with replacing(directory / f"{name}.png") as temporary:
                temporary.write_bytes(self.to_png(name))
        return page

    def to_html(self) -> str:
        """The whole page, Vega included (about 0.9 MB when there is a chart)."""
        bundle = (
            vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;") if self._charts else ""
        )
        themes = {theme: vega_config(theme) for theme in ("light", "dark")}
        data = json.dumps({"charts": self._charts, "themes": themes}, allow_nan=False)
        template = Template(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
        return template.substitute(
            title=escape(self.title),
            subtitle=f"<p>{escape(self.subtitle)}</p>" if self.subtitle else "",
            body="\n".join(self._blocks),
            # Neither may end its script element, whatever its strings hold.
            data=data.replace("<", "\\u003c"),
            bundle=bundle.replace("</script", "<\\/script"),
            version=version("spacy-bert"),
        )

    def to_png(self, name: str, theme: str = "light") -> bytes:
        """One chart as a PNG, twice as fine as the screen."""
        spec = dict(self._charts[name])
        if spec.get("width") == "container":
            spec["width"] = PNG_WIDTH
        config = vega_config(theme) | {"background": PAGE[theme], "padding": 16}
        png: bytes = vl_convert.vegalite_to_png(spec, config=config, scale=PNG_SCALE)
        return png

    def _claim(self, name: str, kind: str) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            raise ValueError(f"{name!r}: a name has small letters, digits and hyphens alone")
        if name in self._record[kind]:
            raise ValueError(f"{name!r}: the report has it already; choose another name")

    def _figure(self, content: str, caption: str, source: str) -> None:
        small = f"<small>Source: {escape(source)}</small>" if source else ""
        self._blocks.append(
            f"<figure>{content}<figcaption>{escape(caption)}{small}</figcaption></figure>"
        )


def _data_rows(spec: Mapping[str, Any]) -> Iterator[Any]:
    """The data that a chart and its layers hold."""
    for dataset in spec.get("datasets", {}).values():
        yield from dataset
    yield from spec.get("data", {}).get("values", [])
    for part in ("layer", "concat", "hconcat", "vconcat"):
        for inner in spec.get(part, []):
            yield from _data_rows(inner)


def _cell(tag: str, value: object, *, number: bool, best: bool = False) -> str:
    names = " ".join(name for name, holds in (("number", number), ("best", best)) if holds)
    attribute = f' class="{names}"' if names else ""
    return f"<{tag}{attribute}>{escape(format_value(value))}</{tag}>"


def _plain(value: object) -> Any:
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
    plain = _plain(value)
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
    return f"{plain:.3f}" if abs(plain) < 10.0 else f"{plain:,.1f}"
