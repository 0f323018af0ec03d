from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import altair as alt
import numpy as np
import pytest

from spacy_bert.analysis.report import PNG_SCALE, PNG_WIDTH, Report
from spacy_bert.analysis.svg import Drawing, label
from spacy_bert.analysis.theme import vega_config

EVIL = "</script><script>alert('x')</script><b>&"


def points(width: object = "container") -> alt.Chart:
    rows = [{"x": 1, "y": 2.0, "name": EVIL}, {"x": 2, "y": 1.0, "name": "b"}]
    encoding = {"x": "x:Q", "y": "y:Q", "color": "name:N"}
    chart = alt.Chart(alt.Data(values=rows)).mark_point().encode(**encoding)
    return chart.properties(width=width, height=100)


def drawing(text: str = "hello") -> Drawing:
    return Drawing(label(10, 20, text), 120, 40, f"A word: {text}")


class Page(HTMLParser):
    """Collects the tags, the text outside of scripts, and the scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data


def test_everything_is_escaped() -> None:
    report = Report(EVIL, EVIL).section(EVIL).text(EVIL).figures({EVIL: (EVIL, EVIL)})
    report.table("t", [{EVIL: EVIL}], caption=EVIL, source=EVIL)
    report.chart("c", points(), caption=EVIL, source=EVIL)
    page = Page(report.to_html())
    assert len(page.scripts) == 3
    assert [tag for tag, _ in page.tags].count("b") == 0
    assert page.text.count(EVIL) == 14
    report.picture("p", drawing(EVIL), caption=EVIL, source=EVIL)
    report.gallery("g", {EVIL: drawing(EVIL), "d": points()}, caption=EVIL, source=EVIL)
    page = Page(report.to_html())
    assert len(page.scripts) == 3
    assert [tag for tag, _ in page.tags].count("b") == 0
    assert page.text.count(EVIL) == 14 + 3 + 5
    data = json.loads(page.scripts[0])
    data = json.loads(page.scripts[0])
    assert data["charts"]["c"]["data"]["values"][0]["name"] == EVIL


def test_the_page_loads_nothing() -> None:
    report = Report("T").chart("c", points(), caption="C").picture("p", drawing(), caption="P")
    page = Page(report.gallery("g", {"a": drawing(), "b": points()}, caption="G").to_html())
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe"}
        assert "src" not in attributes
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "$schema" not in page.scripts[0]


def test_tables() -> None:
    rows = [
        {"system": "a", "F1": 0.5, "runs": 3, "ok": True},
        {"system": "b", "F1": np.float32(0.75), "more": 1234567},
        {"system": "c", "F1": float("nan")},
    ]
    html = Report("T").table("t", rows, caption="C", best=["F1"]).to_html()
    body = html[html.index("<tbody>") : html.index("</tbody>")]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body.split("</tr>")[:-1]]
    assert cells == [
        ["a", "0.500", "3", "yes", "–"],
        ["b", "0.750", "–", "–", "1,234,567"],
        ["c", "–", "–", "–", "–"],
    ]
    assert re.findall(r'class="number best">(.*?)<', body) == ["0.750"]


def test_names() -> None:
    report = Report("T").table("t", [{"a": 1}], caption="C").chart("t", points(), caption="C")
    for name in ("t", "A b", "../up"):
        with pytest.raises(ValueError, match="name"):
            report.chart(name, points(), caption="C")
    with pytest.raises(ValueError, match="no rows"):
        report.table("empty", [], caption="C")
    with pytest.raises(ValueError, match="no pictures"):
        report.gallery("none", {}, caption="C")
    # Charts, pictures and galleries share their names with files.
    report.picture("p", drawing(), caption="C").gallery("g", {"a": drawing()}, caption="C")
    for name in ("t", "p", "g"):
        for add in (report.picture, report.gallery):
            with pytest.raises(ValueError, match="has it already"):
                add(name, drawing(), caption="C")
    report.table("p", [{"a": 1}], caption="C")


def test_save(tmp_path: Path) -> None:
    report = Report("T").figures({"loss": (1.5, "nats")}).table("t", [{"a": 0.5}], caption="C")
    page = report.chart("c", points(), caption="A chart.", source="here").save(tmp_path / "out")
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "c.png",
        "index.html",
        "report.json",
    ]
    record = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert record["figures"] == {"loss": {"value": 1.5, "note": "nats"}}
    assert record["tables"]["t"]["rows"] == [{"a": 0.5}]
    assert record["charts"]["c"]["rows"][1] == {"x": 2, "y": 1.0, "name": "b"}
    png = (page.parent / "c.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") >= PNG_WIDTH * PNG_SCALE


def test_pictures_and_galleries(tmp_path: Path) -> None:
    report = Report("T").picture("p", drawing("alone"), caption="P", source="here")
    items = {"one": drawing("first"), "two": points(), "three": drawing("third")}
    page = report.gallery("g", items, caption="G").save(tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    both = {"p.svg", "p.png", "g/1.svg", "g/1.png", "g/3.svg"}
    assert found == {"index.html", "report.json", *both}
    assert "third" in (tmp_path / "g" / "3.svg").read_text(encoding="utf-8")
    assert (tmp_path / "g" / "1.png").read_bytes() == drawing("first").to_png()
    assert report.to_png("g/2", "dark").startswith(b"\x89PNG")
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert record["pictures"]["p"]["description"] == "A word: alone"
    kept = record["galleries"]["g"]["items"]
    assert [item["label"] for item in kept] == list(items)
    assert kept[1]["rows"][1] == {"x": 2, "y": 1.0, "name": "b"}
    # The first is seen without a script, the control with one.
    html = page.read_text(encoding="utf-8")
    shown = [dict(attributes) for tag, attributes in Page(html).tags if tag == "div"]
    assert ["hidden" in a for a in shown if a.get("class") == "item"] == [False, True, True]
    assert ["hidden" in a for a in shown if a.get("class") == "choice"] == [True]
    assert html.count(".bert-drawing .w10") == 2  # once for light, once for dark


def test_one_page_alone(tmp_path: Path) -> None:
    report = Report("T").chart("c", points(), caption="C")
    path = report.save_page(tmp_path / "deep" / "report.html")
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    page, beside = path.read_text(encoding="utf-8"), report.to_html(beside=True)
    assert "beside this page" not in page
    assert page.count("noscript") == beside.count("noscript") == 2
    assert beside.count("beside this page") == 1
    assert "noscript" not in Report("T").picture("p", drawing(), caption="P").to_html()
    with pytest.raises(ValueError, match="is a directory; name a file"):
        report.save_page(tmp_path)


def test_light_and_dark_differ_in_colour_alone() -> None:
    light, dark = vega_config("light"), vega_config("dark")
    assert light.keys() == dark.keys()
    assert light["range"] != dark["range"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_series_stay_apart_in_greyscale(theme: str) -> None:
    def grey(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    first, second, *_ = map(grey, vega_config(theme)["range"]["category"])
    page = 255 if theme == "light" else 30
    assert min(abs(first - page), abs(second - page)) > 60
    assert theme == "dark" or abs(first - second) > 60
