"""A report in a real browser: off-line, silent, drawn, and its galleries within the keys' reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import altair as alt
import pytest

from spacy_bert.analysis.report import Report
from spacy_bert.analysis.svg import Drawing, label
from tests.analysis.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt install chromium)")

SHOWN = "[...document.querySelectorAll('.gallery')].map(gallery => [...gallery.querySelectorAll("
SHOWN += "'.item')].filter(item => item.checkVisibility()).map(item => item.innerText.trim()))"


def points(height: int) -> alt.Chart:
    rows = [{"x": 1, "y": 2.0, "kind": "a"}, {"x": 2, "y": height, "kind": "b"}]
    chart = alt.Chart(alt.Data(values=rows)).mark_point().encode(x="x:Q", y="y:Q", color="kind:N")
    return chart.properties(width="container", height=height)


def word(text: str) -> Drawing:
    return Drawing(label(10, 20, text), 120, 40, f"The word {text}")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = Report("A report", "of everything").section("Section").text("Text.")
    report.figures({"loss": (1.5, "nats")}).table("t", [{"a": 0.5, "b": "c"}], caption="A table.")
    report.chart("c", points(100), caption="A chart.").picture("p", word("alone"), caption="P.")
    words = {name: word(name) for name in ("one", "two", "three")}
    report.gallery("words", words, caption="Words.")
    report.gallery("charts", {"low": points(80), "high": points(160)}, caption="Charts.")
    report.gallery("single", {"only": word("only")}, caption="One word.")
    return report.save_page(tmp_path_factory.mktemp("report") / "report.html")


def drawn(browser: Browser) -> dict[str, list[int]]:
    """The size of the chart in each place, nothing where there is none."""
    found: dict[str, list[int]] = browser.run(
        "Object.fromEntries([...document.querySelectorAll('.chart')].map(place => [place.id, "
        "[...place.querySelectorAll('svg.marks')].flatMap(svg => [svg.clientWidth, "
        "svg.clientHeight])]))"
    )
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_opens_offline(browser: Browser, page: Path, theme: str) -> None:
    browser.open(page, theme=theme)
    browser.wait("document.querySelectorAll('.chart svg.marks').length === 2")
    sizes = drawn(browser)
    assert sizes["chart-c"][0] > 600
    assert sizes["chart-charts/1"][0] > 600
    assert sizes["chart-charts/2"] == []  # not seen yet
    words, charts, single = browser.run(SHOWN)
    assert words == ["one"]
    assert len(charts) == 1
    assert single[0].split() == ["only", "only"]  # its label, and the word itself
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.complaints == []
    colours = browser.run(
        "['.bert-drawing .page', '.bert-drawing .ink'].map("
        "name => getComputedStyle(document.querySelector(name)).fill)"
    )
    light = ["rgb(255, 255, 255)", "rgb(23, 32, 43)"]
    assert colours == (light if theme == "light" else ["rgb(23, 30, 38)", "rgb(232, 237, 242)"])


def test_a_gallery_by_keys_and_by_choice(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.wait("document.querySelectorAll('.chart svg.marks').length === 2")
    visible = "[...document.querySelectorAll('.choice')].map(choice => choice.checkVisibility())"
    assert browser.run(visible) == [True, True, False]  # there is nothing to choose of one
    browser.run("document.querySelector('.gallery input').focus()")
    browser.press("ArrowRight")
    assert browser.run(SHOWN)[0] == ["two"]
    browser.press("End")
    assert browser.run(SHOWN)[0] == ["three"]
    assert (
        browser.run("document.querySelector('.gallery select').selectedOptions[0].text") == "three"
    )
    assert browser.run("document.activeElement.getAttribute('aria-valuetext')") == "three"
    browser.run("document.querySelectorAll('.gallery select')[1].focus()")
    browser.press("End")
    browser.wait("document.querySelectorAll('.chart svg.marks').length === 3")
    width, height = drawn(browser)["chart-charts/2"]
    assert width > 600
    assert height > 150
    assert browser.run("document.querySelectorAll('.gallery input')[1].value") == "1"
    assert browser.complaints == []


def test_without_scripts_and_in_print(browser: Browser, page: Path) -> None:
    browser.open(page, scripts=False)
    shown = browser.run(SHOWN)
    assert [part.split() for part in shown[0]] == [["one", "one"]]
    assert "The charts need JavaScript" in browser.run("document.body.innerText")
    browser.open(page)
    browser.media("print")
    assert [part.split() for part in browser.run(SHOWN)[0]] == [["one", "one"]]
    assert not browser.run("document.querySelector('.choice').checkVisibility()")
    browser.media("screen")
