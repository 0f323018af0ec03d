"""Drawing: an SVG of our own that follows light and dark, in a page, a notebook or a file.

Its colours stand in one style sheet as classes, so that a page holds it once for all drawings, and
programs that know no dark mode still draw the light one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import vl_convert

from spacy_bert.analysis.theme import FONT, INKS, PAGE, SERIES
from spacy_bert.files import replacing

STEPS = 10  # in which a weight is shown
PNG_SCALE = 2
_EM = 0.62  # the width of a letter of these fonts, in parts of the font's size
_LAST_INK = {"light": 7, "dark": 5}  # the last step on which letters are of the ink's colour
# What XML may not hold, and what has no shape.
_UNSEEN = re.compile("[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Drawing:
    """A picture as SVG. A notebook shows it.

    Attributes:
        content: The elements inside `<svg>`, coloured by the classes of `drawing_css`.
        width: In CSS pixels.
        height: In CSS pixels.
        description: What it shows, for those who do not see it.
    """

    content: str
    width: int
    height: int
    description: str

    @property
    def svg(self) -> str:
        """The picture, complete in itself."""
        return self.markup(drawing_css())

    def markup(self, css: str = "") -> str:
        """The `<svg>` element.

        Args:
            css: Its style sheet; none for a page that has `drawing_css()` already.
        """
        style = f"<style>{css}</style>" if css else ""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="bert-drawing" width="{self.width}" '
            f'height="{self.height}" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{quoted(self.description)}" font-family="{quoted(FONT)}">'
            f'{style}<rect class="page" width="100%" height="100%"/>{self.content}</svg>'
        )

    def to_png(self, theme: str = "light") -> bytes:
        """The picture as a PNG, twice as fine as the screen; the theme is "light" or "dark"."""
        png: bytes = vl_convert.svg_to_png(self.markup(_rules(theme)), scale=PNG_SCALE)
        return png

    def to_html(self) -> str:
        """A page with the picture alone."""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f"<title>{quoted(self.description)}</title>\n"
            "<style>:root { color-scheme: light dark; }</style>\n"
            f"</head>\n<body>\n{self.svg}\n</body>\n</html>\n"
        )

    def save(self, path: Path | str) -> Path:
        """Write the picture as the file's ending says: `.svg`, `.html` or `.png` (light).

        Raises:
            ValueError: If the ending is another.
        """
        path = Path(path)
        ending = path.suffix.lower()
        if ending == ".png":
            data = self.to_png()
        elif ending in (".svg", ".html"):
            data = (self.svg if ending == ".svg" else self.to_html()).encode("utf-8")
        else:
            raise ValueError(f"{path}: a drawing is saved as .svg, .html or .png")
        with replacing(path) as temporary:
            temporary.write_bytes(data)
        return path

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x: auto">{self.svg}</div>'


def drawing_css() -> str:
    """The style sheet of all drawings, for light and for dark."""
    return f"{_rules('light')}@media (prefers-color-scheme: dark){{{_rules('dark')}}}"


def _rules(theme: str) -> str:
    """The classes of one theme.

    `page`, `ink` and `soft` fill, `frame` and `mark` draw outlines; `w1` ... `w10` fill a weight,
    `t1` ... `t10` are letters upon it, `l1` ... `l10` draw it as a line, wider as well as stronger.
    """
    inks, accent = INKS[theme], SERIES[theme][0]
    rules = {
        "page": f"fill:{PAGE[theme]}",
        "ink": f"fill:{inks['ink']}",
        "soft": f"fill:{inks['soft']}",
        "frame": f"fill:none;stroke:{inks['line']}",
        "mark": f"fill:none;stroke:{inks['ink']};stroke-width:1.5",
        "weights": f"fill:{accent};shape-rendering:crispEdges",
        "lines": f"fill:none;stroke:{accent};stroke-linecap:round;pointer-events:none",
    }
    for step in range(1, STEPS + 1):
        rules[f"w{step}"] = f"fill-opacity:{step / STEPS:g}"
        ink = inks["ink"] if step <= _LAST_INK[theme] else PAGE[theme]
        rules[f"t{step}"] = f"fill:{ink};text-anchor:middle"
        rules[f"l{step}"] = f"stroke-opacity:{step / STEPS:g};stroke-width:{0.4 + 0.24 * step:g}"
    css = "".join(f".bert-drawing .{name}{{{rule}}}" for name, rule in rules.items())
    # The lines of the label under the pointer stand out.
    return (
        f"{css}.bert-drawing .from text{{cursor:default}}"
        ".bert-drawing .heads:hover .from{opacity:.12}"
        ".bert-drawing .heads .from:hover{opacity:1}"
    )


def quoted(text: str) -> str:
    """A text as XML and HTML hold it, in an attribute too; what has no shape as U+FFFD."""
    return escape(_UNSEEN.sub("\ufffd", re.sub(r"\s", " ", text)), quote=True)


def label(
    x: float, y: float, text: str, *, size: int = 13, ink: str = "ink", more: str = ""
) -> str:
    """A line of text from (x, y) on, `more` being further attributes."""
    inside = f" {more}" if more else ""
    return (
        f'<text class="{ink}" x="{x:g}" y="{y:g}" font-size="{size}"{inside}>{quoted(text)}</text>'
    )


def shortened(text: str, columns: int) -> str:
    """A text of at most so many columns, an ellipsis in place of what is left out."""
    if columns_of(text) <= columns:
        return text
    kept = ""
    for character in text:
        if columns_of(kept + character) >= columns:
            break
        kept += character
    return f"{kept}…"


def columns_of(text: str) -> int:
    """How many letters wide a text is: full-width characters count twice, accents nothing."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def text_width(texts: Iterable[str], size: int = 13) -> int:
    """About the width of the longest of some texts, in pixels."""
    return round(max((columns_of(text) for text in texts), default=0) * size * _EM)
