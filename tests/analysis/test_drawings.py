"""Drawings: well-formed, of the right weights, labelled, and refused where they cannot be read."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from spacy.language import Language

import spacy_bert
from spacy_bert.analysis.drawings import _map, draw_head, draw_heads, draw_token, read_units
from spacy_bert.analysis.svg import Drawing, columns_of, quoted, shortened
from spacy_bert.analysis.trace import Trace, UnitTrace
from tests.conftest import SENTENCES

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<b>&\"'</svg>"


@pytest.fixture(scope="module")
def trace(nlp: Language) -> Trace:
    return spacy_bert.trace(nlp, SENTENCES[3])


def planted(trace: Trace, attention: np.ndarray) -> Trace:
    """A trace of the same Doc with an attention of our choice, (layers, heads, pieces, pieces)."""
    return Trace(trace.doc, trace.reading, lambda wanted: (trace.hidden, [attention]))


def labels(trace: Trace | UnitTrace) -> list[str]:
    return read_units(trace).labels


def texts(drawing: Drawing) -> list[str]:
    return [element.text or "" for element in ET.fromstring(drawing.svg).iter(f"{SVG}text")]


def painted(element: ET.Element, size: tuple[int, int]) -> np.ndarray:
    """The step of every cell of a map, read back from its boxes."""
    steps = np.zeros(size, dtype=int)
    for path in element.iter(f"{SVG}path"):
        step = int(path.attrib["class"].removeprefix("w"))
        for column, row, length in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", path.attrib["d"]):
            cells = steps[int(row), int(column) : int(column) + int(length)]
            assert not cells.any()  # nothing is painted twice
            cells[:] = step
    return steps


def expected_steps(weights: np.ndarray) -> np.ndarray:
    return np.array([[round(10 * weight**0.5) for weight in row] for row in weights.tolist()])


def test_cells_are_the_weights() -> None:
    weights = np.random.default_rng(0).random((7, 9)) ** 3
    weights[2, 3:6] = 0.5
    weights[0, 0] = 1.0000001
    element = ET.fromstring(f'<g xmlns="http://www.w3.org/2000/svg">{_map(weights, "")}</g>')
    np.testing.assert_array_equal(painted(element, weights.shape), expected_steps(weights))


def test_all_heads(trace: Trace) -> None:
    root = ET.fromstring(draw_heads(trace).svg)
    maps = [e for e in root.iter(f"{SVG}g") if "scale" in e.attrib.get("transform", "")]
    units = trace.tokens(special=True)
    assert len(maps) == 4
    for number, element in enumerate(maps):
        weights = units.attention[number // 2, number % 2]
        np.testing.assert_array_equal(painted(element, weights.shape), expected_steps(weights))
    assert texts(draw_heads(trace))[:4] == ["layer", "head", "0", "1"]


def test_a_pruned_head_is_crossed_out(trace: Trace) -> None:
    attention = trace.attention.copy()
    attention[1, 0] = 0.0
    svg = draw_heads(planted(trace, attention)).svg
    assert svg.count("layer 1, head 0: pruned") == 1
    assert svg.count(": pruned") == 1
    # The mean of a layer's heads is of those that are left.
    alone = draw_token(planted(trace, attention), "[CLS]")
    doubled = attention.copy()
    doubled[1, 0] = doubled[1, 1]
    assert alone.content == draw_token(planted(trace, doubled), "[CLS]").content


def test_lines_go_where_the_head_looks(trace: Trace) -> None:
    """Every piece looks at the next one alone, the last one at itself."""
    pieces = len(trace.pieces)
    attention = np.tile(np.eye(pieces, k=1, dtype=np.float32), (2, 2, 1, 1))
    attention[..., -1, -1] = 1.0
    found = planted(trace, attention)
    weights = found.tokens(special=True).attention[1, 1]
    root = ET.fromstring(draw_head(found, 1, 1).svg)
    rows = [e for e in root.iter(f"{SVG}g") if e.attrib.get("class") == "from"]
    heights: list[float] = []
    for element in rows:
        (text,) = element.iter(f"{SVG}text")
        heights.append(float(text.attrib["y"]) - 4.5)
    for number, element in enumerate(rows):
        drawn = {}
        for path in element.iter(f"{SVG}path"):
            for y, to in re.findall(r"M\d+ (\d+)L\d+ (\d+)", path.attrib["d"]):
                assert float(y) == heights[number]
                drawn[heights.index(float(to))] = int(path.attrib["class"].removeprefix("l"))
        steps = expected_steps(weights)[number]
        assert drawn == {to: step for to, step in enumerate(steps.tolist()) if step > 1}
        assert drawn
    names = Counter(labels(found))
    shown = Counter(texts(draw_head(found, 1, 1)))
    assert all(shown[name] >= 2 * count for name, count in names.items())


def test_what_a_token_attends_to(trace: Trace) -> None:
    units = trace.tokens(special=True)
    token = trace.doc[4]
    place = units.token_of_unit.tolist().index(token.i)
    whole, one = draw_token(trace, token), draw_token(trace, token, head=1)
    for drawing, weights in (
        (whole, units.attention.mean(axis=1)[:, place]),
        (one, units.attention[:, 1, place]),
    ):
        element = ET.fromstring(drawing.svg).find(f".//{SVG}g[@class='weights']")
        assert element is not None
        np.testing.assert_array_equal(painted(element, weights.shape), expected_steps(weights))
        percents = [f"{100 * weight:.0f}" for weight in weights.flat if weight >= 0.1]
        cells = ET.fromstring(drawing.svg).iter(f"{SVG}text")
        assert percents == [e.text for e in cells if e.attrib["class"].startswith("t")]
    assert draw_token(trace, 4).content == whole.content
    assert draw_token(trace, token.text).content == whole.content
    assert "“[CLS]” attends to, head 0" in texts(draw_token(trace, "[CLS]", head=0))


def test_units_of_ones_choice(nlp: Language) -> None:
    doc = spacy_bert.join(nlp, "Does it return?", "A list keeps values in order.")
    trace = spacy_bert.trace(nlp, doc)
    names = [
        "[CLS]",
        "Does",
        "it",
        "return",
        "?",
        "[SEP]",
        *["A", "list", "keeps", "values", "in", "order", "."],
    ]
    assert labels(trace) == [*names, "[SEP]"]  # the border between them is not read
    assert "segment 2" in texts(draw_heads(trace.segments())) + texts(
        draw_head(trace.segments(), 0, 0)
    )
    part = trace[doc[5:9]]
    assert labels(part) == ["A", "list", "keeps", "values"]
    assert "keeps" in texts(draw_token(part, doc[7]))
    with pytest.raises(ValueError, match="token 0, 'Does', is not among"):
        draw_token(part, 0)


def test_texts_are_escaped(nlp: Language) -> None:
    units = spacy_bert.trace(nlp, "a b c").tokens(special=True)
    units.labels[1] = EVIL
    units.labels[2] = "x\x1e\ud800\n" + "y" * 40
    for drawing in (draw_head(units, 0, 0), draw_heads(units), draw_token(units, EVIL)):
        root = ET.fromstring(drawing.svg)
        assert not list(root.iter(f"{SVG}b"))
        assert drawing.to_html().count("</svg>") == 1
    assert EVIL in texts(draw_head(units, 0, 0))


def test_labels() -> None:
    assert quoted("a\x1e\ud800\tb\x7f") == "a \ufffd b\ufffd"
    assert shortened("short", 5) == "short"
    assert shortened("lengthy", 5) == "leng…"
    assert shortened("漢字漢字", 5) == "漢字…"
    assert columns_of("e\u0301") == 1


def test_saved_and_shown(trace: Trace, tmp_path: Path) -> None:
    drawing = draw_head(trace, 0, 0)
    assert drawing.save(tmp_path / "a.svg").read_text(encoding="utf-8") == drawing.svg
    assert drawing._repr_svg_() == drawing.svg
    assert drawing.svg in drawing._repr_html_()
    assert drawing.svg in drawing.save(tmp_path / "a.html").read_text(encoding="utf-8")
    png = drawing.save(str(tmp_path / "a.PNG")).read_bytes()
    assert png.startswith(b"\x89PNG")
    size = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    assert size == (2 * drawing.width, 2 * drawing.height)
    assert drawing.to_png("dark") != png
    with pytest.raises(ValueError, match=r"a\.pdf: a drawing is saved as \.svg"):
        drawing.save(tmp_path / "a.pdf")


def test_what_cannot_be_drawn(nlp: Language, trace: Trace) -> None:
    words = spacy_bert.trace(nlp, "a " * 59)
    with pytest.raises(ValueError, match=r"up to 60 tokens, and these are 61.*trace\[span\]"):
        draw_heads(words)
    assert len(labels(words[0:50])) == 50
    draw_head(words[0:50], 0, 0)
    with pytest.raises(ValueError, match="no layer 2: they are numbered from 0 to 1"):
        draw_head(trace, 2, 0)
    with pytest.raises(ValueError, match="no head -3"):
        draw_token(trace, 0, head=-3)
    with pytest.raises(ValueError, match="no token 'nowhere' is drawn"):
        draw_token(trace, "nowhere")
    with pytest.raises(ValueError, match="no token 99"):
        draw_token(trace, 99)
    with pytest.raises(ValueError, match="another Doc"):
        draw_token(trace, nlp.make_doc("a")[0])
    with pytest.raises(ValueError, match="reads nothing"):
        draw_heads(spacy_bert.trace(nlp, "a  b")[1:2])
