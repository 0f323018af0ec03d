"""Report: tables, charts and drawings as one off-line HTML file, with PNG files and a JSON.

The HTML file holds Vega itself, so it needs no network, and follows the reader's light or dark
mode. Whatever the caller hands in is escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import altair as alt
import vl_convert

from spacy_bert.analysis.report_blocks import (
    Row,
    chart_place,
    data_rows,
    figure,
    format_value,
    gallery,
    plain_value,
    table,
)
from spacy_bert.analysis.svg import Drawing, drawing_css
from spacy_bert.analysis.theme import PAGE, vega_config
from spacy_bert.files import replacing

PNG_WIDTH = 720  # of a chart that takes its container's width, in CSS pixels
PNG_SCALE = 2
_WITH_FILES = ("charts", "pictures", "galleries")  # whose names are those of files


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
        self._said: list[str | list[Row]] = []
        self._part = ""
        self._charts: dict[str, dict[str, Any]] = {}
        self._drawings: dict[str, Drawing] = {}
        self._record: dict[str, Any] = {"title": title, "figures": {}, "tables": {}}
        self._record |= {kind: {} for kind in _WITH_FILES}

    def part(self, title: str, key: str) -> Report:
        """Begin a part: the same section may stand in several parts of a page.

        Args:
            title: Its heading.
            key: What the names of its tables, charts and pictures begin with.
        """
        self._part = key
        self._blocks.append(f'<h2 class="part">{escape(title)}</h2>')
        self._said.append(f"\n=== {title} ===")
        return self

    def section(self, title: str) -> Report:
        """Add a heading."""
        self._blocks.append(f"<h2>{escape(title)}</h2>")
        self._said.append(f"\n{title}")
        return self

    def text(self, text: str) -> Report:
        """Add a paragraph of plain text."""
        self._blocks.append(f"<p>{escape(text)}</p>")
        self._said.append(text)
        return self

    @property
    def said(self) -> Sequence[str | list[Row]]:
        """What the page says without pictures, in its order: headings, paragraphs, tables' rows."""
        return self._said

    def figures(self, figures: Mapping[str, tuple[object, str]]) -> Report:
        """Add a row of single figures: label to value and a short note."""
        cards = []
        for label, (value, note) in figures.items():
            self._record["figures"][label] = {"value": plain_value(value), "note": note}
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
        name = self._claim(name, "tables")
        if not rows:
            raise ValueError(f"table {name!r} has no rows; leave it out")
        cells = [{column: plain_value(value) for column, value in row.items()} for row in rows]
        self._blocks.append(figure(table(cells, best), caption, source))
        self._said.append(list(cells))
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
        name = self._claim(name, "charts")
        spec = self._charts[name] = _spec(chart)
        self._blocks.append(figure(chart_place(name, caption), caption, source))
        rows = list(data_rows(spec))
        self._record["charts"][name] = {"caption": caption, "source": source, "rows": rows}
        return self

    def picture(self, name: str, drawing: Drawing, *, caption: str, source: str = "") -> Report:
        """Add a drawing.

        Args:
            name: The stem of its SVG and PNG: small letters, digits and hyphens.
            drawing: The drawing.
            caption: One sentence that says what the reader sees.
            source: Where what is drawn comes from: files, commands.

        Raises:
            ValueError: If the name is taken or not of the form above.
        """
        name = self._claim(name, "pictures")
        self._drawings[name] = drawing
        content = f'<div class="scroll">{drawing.markup()}</div>'
        self._blocks.append(figure(content, caption, source))
        shown = {"caption": caption, "source": source, "description": drawing.description}
        self._record["pictures"][name] = shown
        return self

    def gallery(
        self, name: str, items: Mapping[str, Any], *, caption: str, source: str = ""
    ) -> Report:
        """Add several drawings or charts, of which the reader sees one and chooses which.

        Args:
            name: The directory of their files: small letters, digits and hyphens.
            items: Label to drawing or Altair chart, in the order of the slider; the first is seen
                before the reader chooses, and where there is no JavaScript.
            caption: One sentence that says what the reader sees in each of them.
            source: Where the figures come from: files, commands.

        Raises:
            ValueError: If the name is taken or not of the form above, or there are no items.
        """
        name = self._claim(name, "galleries")
        if not items:
            raise ValueError(f"gallery {name!r} has no pictures; leave it out")
        shown: dict[str, str] = {}
        kept: list[dict[str, object]] = []
        for number, (label, item) in enumerate(items.items(), 1):
            key = f"{name}/{number}"
            if isinstance(item, Drawing):
                self._drawings[key] = item
                shown[label] = f'<div class="scroll">{item.markup()}</div>'
                kept.append({"label": label, "description": item.description})
            else:
                spec = self._charts[key] = _spec(item)
                shown[label] = chart_place(key, f"{label}. {caption}")
                kept.append({"label": label, "rows": list(data_rows(spec))})
        content = gallery(shown, caption=caption)
        self._blocks.append(figure(content, caption, source, attributes=' class="gallery"'))
        self._record["galleries"][name] = {"caption": caption, "source": source, "items": kept}
        return self

    def save(self, directory: Path) -> Path:
        """Write `index.html`, `report.json`, and every chart and picture as PNG, drawings as SVG.

        A gallery's files stand in a directory of its name, numbered from 1: of every drawing the
        SVG, as PNG the first alone.

        Returns:
            The path of the page.
        """
        page = self._write(directory / "index.html", beside=True)
        with replacing(directory / "report.json") as temporary:
            text = json.dumps(self._record, indent=2, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        for name, drawing in self._drawings.items():
            drawing.save(directory / f"{name}.svg")
        for name in (*self._charts, *self._drawings):
            if "/" not in name or name.endswith("/1"):
                with replacing(directory / f"{name}.png") as temporary:
                    temporary.write_bytes(self.to_png(name))
        return page

    def save_page(self, path: Path) -> Path:
        """Write the page alone, complete in itself.

        Raises:
            ValueError: If there is a directory of that name.
        """
        if path.is_dir():
            raise ValueError(f"{path}: is a directory; name a file in it, such as report.html")
        return self._write(path, beside=False)

    def to_html(self, *, beside: bool = False) -> str:
        """The whole page, Vega included (about 0.9 MB when there is a chart).

        Args:
            beside: Whether it may say that the charts' PNG files stand beside it.
        """
        bundle = _vega() if self._charts else ""
        themes = {theme: vega_config(theme) for theme in ("light", "dark")}
        data = json.dumps({"charts": self._charts, "themes": themes}, allow_nan=False)
        template = Template(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
        return template.substitute(
            title=escape(self.title),
            subtitle=f"<p>{escape(self.subtitle)}</p>" if self.subtitle else "",
            body="\n".join(self._blocks),
            drawing_css=drawing_css() if self._drawings else "",
            script_note=_script_note(beside) if self._charts else "",
            # It may not end its script element, whatever its strings hold.
            data=data.replace("<", "\\u003c"),
            bundle=bundle,
            version=version("spacy-bert"),
        )

    def to_png(self, name: str, theme: str = "light") -> bytes:
        """One chart or picture as a PNG, twice as fine as the screen.

        Args:
            name: Its name; of a gallery, with the number: "heads/1".
            theme: "light" or "dark".
        """
        if name in self._drawings:
            return self._drawings[name].to_png(theme)
        spec = dict(self._charts[name])
        if spec.get("width") == "container":
            spec["width"] = PNG_WIDTH
        config = vega_config(theme) | {"background": PAGE[theme], "padding": 16}
        png: bytes = vl_convert.vegalite_to_png(spec, config=config, scale=PNG_SCALE)
        return png

    def _write(self, page: Path, *, beside: bool) -> Path:
        with replacing(page) as temporary:
            temporary.write_text(self.to_html(beside=beside), encoding="utf-8")
        return page

    def _claim(self, name: str, kind: str) -> str:
        """The name within its part, if it is of the right form and not taken."""
        name = f"{self._part}-{name}" if self._part else name
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            raise ValueError(f"{name!r}: a name has small letters, digits and hyphens alone")
        kinds = _WITH_FILES if kind in _WITH_FILES else (kind,)
        if any(name in self._record[kind] for kind in kinds):
            raise ValueError(f"{name!r}: the report has it already; choose another name")
        return name


@cache
def _vega() -> str:
    """Vega as a script that does not end its element; to bundle it takes seconds."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


def _spec(chart: Any) -> dict[str, Any]:
    """An Altair chart as Vega-Lite, without what the page gives."""
    with alt.data_transformers.enable("default", max_rows=None):
        spec: dict[str, Any] = chart.to_dict()
    spec.pop("$schema", None)  # Vega comes with the page, in a version of its own
    spec.pop("config", None)  # Altair's default look; the page's theme takes its place
    return spec


def _script_note(beside: bool) -> str:
    files_too = " They also stand as PNG files beside this page." if beside else ""
    return f"<noscript><p>The charts need JavaScript.{files_too}</p></noscript>"
