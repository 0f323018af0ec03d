"""Drawings of attention: one head, all heads, and what one token looks at, layer by layer.

Layers and heads are numbered from 0, as in `trace.attention[layer, head]`. Darkness (on a dark
page: brightness) goes with the square root of a weight, so that small weights are seen too; weights
under 0.0025 (as lines: 0.02) are left out. The view of one head is that of Vig (2019,
arXiv:1906.05714).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from spacy.tokens import Token

from spacy_bert.analysis.svg import STEPS, Drawing, label, quoted, shortened, text_width
from spacy_bert.analysis.trace import Trace, UnitTrace

LIMIT = 60  # units in a drawing
_COLUMNS = 16  # letters of a label
_MARGIN = 16
_LEGEND = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
_SWATCH = 58
_LEGEND_WIDTH, _LEGEND_HEIGHT = 78 + _SWATCH * len(_LEGEND), 30


@dataclass(frozen=True, eq=False)
class ReadUnits:
    """What is drawn: the units that BERT reads, and their attention.

    Attributes:
        labels: Their texts.
        tokens: Of each, the token in the Doc, (units,); -1 of others.
        attention: (layers, heads, units, units).
    """

    labels: list[str]
    tokens: np.ndarray
    attention: np.ndarray


def draw_head(trace: Trace | UnitTrace, layer: int, head: int) -> Drawing:
    """One head: a line from every token on the left to what it attends to on the right.

    The wider and stronger a line, the more attention. In a browser, the lines of the token under
    the pointer stand out.

    Args:
        trace: A Doc's trace, drawn by tokens with [CLS] and [SEP]; or units of your choice.
        layer: Its number, from 0.
        head: Its number, from 0.

    Raises:
        ValueError: If there is no such layer or head, or there are more than 60 units.
    """
    units = read_units(trace)
    layer, head = _number(units, "layer", layer), _number(units, "head", head)
    weights = units.attention[layer, head]
    names = [shortened(text, _COLUMNS) for text in units.labels]
    row, gap, top = 20, 240, 62
    side = max(text_width(names), 40) + 8
    width = max(2 * (_MARGIN + side) + gap, 2 * _MARGIN + _LEGEND_WIDTH)
    left, right = width // 2 - gap // 2, width // 2 + gap // 2
    heights = [top + row * number + row // 2 for number in range(len(names))]
    parts = [
        label(_MARGIN, 24, f"layer {layer}, head {head}", more='font-weight="bold"'),
        label(left - 8, 48, "from", size=12, ink="soft", more='text-anchor="end"'),
        label(right + 8, 48, "to", size=12, ink="soft"),
        '<g class="heads">',
    ]
    for number, name in enumerate(names):
        y = heights[number]
        box = f'<rect class="page" x="{left - side}" y="{y - 10}" width="{side}" height="{row}"/>'
        text = label(left - 8, y + 4.5, name, more='text-anchor="end"')
        title = f"<title>{quoted(_strongest(units.labels, number, weights[number]))}</title>"
        lines = _lines(weights[number], left, right, y, heights)
        parts.append(f'<g class="from">{title}{box}{text}<g class="lines">{lines}</g></g>')
    parts.append("</g>")
    parts += [label(right + 8, y + 4.5, name) for y, name in zip(heights, names, strict=True)]
    bottom = top + row * len(names) + 10
    parts.append(_legend(_MARGIN, bottom))
    return Drawing(
        "".join(parts),
        width,
        bottom + _LEGEND_HEIGHT,
        f"Attention of layer {layer}, head {head}, as lines among {len(names)} tokens",
    )


def draw_heads(trace: Trace | UnitTrace) -> Drawing:
    """All heads: a small map for each, layers from top to bottom, heads from left to right.

    In every map a row is a token that attends, a column one that is attended to. A crossed out map
    is that of a pruned head.

    Args:
        trace: A Doc's trace, drawn by tokens with [CLS] and [SEP]; or units of your choice.

    Raises:
        ValueError: If there are more than 60 units.
    """
    units = read_units(trace)
    layers, heads, count, _ = units.attention.shape
    gap, left, top = 8, 64, 54
    tile = min(max((860 - left - _MARGIN) // heads - gap, 32), 180)
    parts = [label(_MARGIN, top - 10, "layer", size=12, ink="soft")]
    parts.append(label(left, top - 30, "head", size=12, ink="soft"))
    for head in range(heads):
        x = left + head * (tile + gap) + tile / 2
        parts.append(label(x, top - 10, str(head), size=12, more='text-anchor="middle"'))
    for layer in range(layers):
        y = top + layer * (tile + gap)
        more = 'text-anchor="end"'
        parts.append(label(left - 14, y + tile / 2 + 4, str(layer), size=12, more=more))
        for head in range(heads):
            x = left + head * (tile + gap)
            weights = units.attention[layer, head]
            inside = _map(weights, f"scale({tile / count:.4g})")
            if not weights.any():
                inside = f'<path class="frame" d="M0 0L{tile} {tile}M{tile} 0L0 {tile}"/>'
            parts.append(
                f'<g transform="translate({x} {y})"><title>{quoted(_peak(units, layer, head))}'
                f'</title><rect class="frame" width="{tile}" height="{tile}" pointer-events="all"/>'
                f"{inside}</g>"
            )
    bottom = top + layers * (tile + gap) + 8
    parts.append(_legend(_MARGIN, bottom))
    wide = left + heads * (tile + gap) - gap + _MARGIN
    return Drawing(
        "".join(parts),
        max(wide, 2 * _MARGIN + _LEGEND_WIDTH),
        bottom + _LEGEND_HEIGHT,
        f"Attention of {layers} x {heads} heads as maps of {count} x {count} tokens",
    )


def draw_token(
    trace: Trace | UnitTrace, token: Token | int | str, *, head: int | None = None
) -> Drawing:
    """What one token attends to: a row for each layer, a column for each token.

    Weights from 0.1 on stand in the cells, in percent.

    Args:
        trace: A Doc's trace, drawn by tokens with [CLS] and [SEP]; or units of your choice.
        token: A token of the Doc or its number there; or a label, such as "[CLS]", of which the
            first is meant.
        head: Number of the head, from 0; None for the mean of each layer's heads (pruned ones left
            out).

    Raises:
        ValueError: If there is no such token or head, or there are more than 60 units.
    """
    units = read_units(trace)
    number = _place(units, token, trace)
    if head is None:
        weights, whose = _mean_heads(units.attention)[:, number], "mean of the heads"
    else:
        head = _number(units, "head", head)
        weights, whose = units.attention[:, head, number], f"head {head}"
    names = [shortened(text, _COLUMNS) for text in units.labels]
    wide, high, left = 27, 22, 64
    # Labels lean by 55 degrees: sine 0.82, cosine 0.57.
    top = 48 + round(0.82 * text_width(names, 12))
    lean = round(0.57 * text_width(names[-1:], 12))
    name = shortened(units.labels[number], 40)
    parts = [
        label(_MARGIN, 24, f"“{name}” attends to, {whose}", more='font-weight="bold"'),
        label(_MARGIN, top - 8, "layer", size=12, ink="soft"),
        f'<g transform="translate({left} {top})">',
        _map(weights, f"scale({wide} {high})"),
    ]
    for column, text in enumerate(names):
        x = (column + 0.6) * wide
        more = f'transform="rotate(-55 {x:g} -6)"' + ' font-weight="bold"' * (column == number)
        parts.append(label(x, -6, text, size=12, more=more))
    more = 'text-anchor="end"'
    for layer, row in enumerate(weights):
        y = (layer + 0.5) * high + 4
        parts.append(label(-14, y, str(layer), size=12, more=more))
        for column in np.flatnonzero(row >= 0.1).tolist():
            ink = f"t{_steps(row[column])}"
            text = f"{100 * row[column]:.0f}"
            parts.append(label((column + 0.5) * wide, y, text, size=11, ink=ink))
    width, height = wide * len(names), high * len(weights)
    parts.append(f'<rect class="frame" width="{width}" height="{height}"/>')
    parts.append(f'<rect class="mark" x="{number * wide}" width="{wide}" height="{height}"/></g>')
    bottom = top + height + 14
    parts.append(_legend(_MARGIN, bottom))
    heading = text_width([f"“{name}” attends to, {whose}"], 14)
    return Drawing(
        "".join(parts),
        max(left + width + lean, heading + _MARGIN, 2 * _MARGIN + _LEGEND_WIDTH) + _MARGIN,
        bottom + _LEGEND_HEIGHT,
        f"What “{name}” attends to in each of {len(weights)} layers, {whose}",
    )


def read_units(trace: Trace | UnitTrace) -> ReadUnits:
    """What a drawing of a trace shows: the units that BERT reads (white space it does not).

    Raises:
        ValueError: If there is nothing, or there are more than 60 units.
    """
    units = trace.tokens(special=True) if isinstance(trace, Trace) else trace
    token = units.token_of_unit
    kept = np.flatnonzero((token < 0) | (units.trace.reading.align_lengths[token] > 0))
    if not len(kept):
        raise ValueError("BERT reads nothing of this: there is no attention to draw")
    if len(kept) > LIMIT:
        raise ValueError(
            f"a drawing shows up to {LIMIT} tokens, and these are {len(kept)}: draw a part of the "
            "Doc, such as trace[span] or trace[0:50]"
        )
    return ReadUnits(
        [units.labels[number] for number in kept.tolist()],
        units.token_of_unit[kept],
        units.attention[:, :, kept][..., kept],
    )


def _number(units: ReadUnits, kind: str, number: int) -> int:
    """A layer's or a head's number, counted from the end if it is negative."""
    count = units.attention.shape[0 if kind == "layer" else 1]
    if not -count <= number < count:
        raise ValueError(f"there is no {kind} {number}: they are numbered from 0 to {count - 1}")
    return range(count)[number]


def _place(units: ReadUnits, token: Token | int | str, trace: Trace | UnitTrace) -> int:
    """Where a token stands among the units."""
    doc = trace.doc if isinstance(trace, Trace) else trace.trace.doc
    if isinstance(token, str):
        if token not in units.labels:
            raise ValueError(f"no token {token!r} is drawn: there are {', '.join(units.labels)}")
        return units.labels.index(token)
    if isinstance(token, Token):
        if token.doc is not doc:
            raise ValueError(f"{token.text!r} is of another Doc than the trace")
        token = token.i
    if not -len(doc) <= token < len(doc):
        raise ValueError(f"there is no token {token}: the Doc has {len(doc)}")
    number = range(len(doc))[token]
    found = np.flatnonzero(units.tokens == number)
    if not len(found):
        raise ValueError(f"token {number}, {doc[number].text!r}, is not among those that are drawn")
    return int(found[0])


def _mean_heads(attention: np.ndarray) -> np.ndarray:
    """The mean of each layer's heads, those left out that attend to nothing: pruned ones."""
    kept = attention.any(axis=(2, 3)).sum(axis=1)
    mean: np.ndarray = attention.sum(axis=1) / np.maximum(kept, 1)[:, None, None]
    return mean


def _steps(weights: np.ndarray) -> np.ndarray:
    """Weights as steps from 0 (not drawn) to 10."""
    steps: np.ndarray = np.rint(STEPS * np.sqrt(np.clip(weights, 0.0, 1.0))).astype(int)
    return steps


def _map(weights: np.ndarray, transform: str) -> str:
    """Weights, (rows, columns), as cells of one by one; neighbours of one step are one box."""
    steps = _steps(weights)
    paths = []
    for step in range(1, STEPS + 1):
        edges = np.diff(np.pad(steps == step, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        starts, ends = np.argwhere(edges == 1).tolist(), np.argwhere(edges == -1)[:, 1].tolist()
        if starts:
            boxes = "".join(
                f"M{first} {row}h{end - first}v1h-{end - first}z"
                for (row, first), end in zip(starts, ends, strict=True)
            )
            paths.append(f'<path class="w{step}" d="{boxes}"/>')
    return f'<g class="weights" transform="{transform}">{"".join(paths)}</g>'


def _lines(row: np.ndarray, left: int, right: int, y: int, heights: Sequence[int]) -> str:
    """The lines of one token, weak ones under strong ones."""
    steps = _steps(row)
    paths = []
    for step in sorted(set(steps.tolist()) - {0, 1}):  # the weakest would hide the others
        lines = "".join(
            f"M{left} {y}L{right} {heights[to]}" for to in np.flatnonzero(steps == step).tolist()
        )
        paths.append(f'<path class="l{step}" d="{lines}"/>')
    return "".join(paths)


def _strongest(labels: Sequence[str], number: int, row: np.ndarray, count: int = 5) -> str:
    """What a token attends to most, in words."""
    order = np.argsort(-row, kind="stable")[:count].tolist()
    found = ", ".join(f"“{labels[to]}” {row[to]:.2f}" for to in order if row[to] >= 0.005)
    return f"“{labels[number]}” attends to {found or 'nothing'}"


def _peak(units: ReadUnits, layer: int, head: int) -> str:
    """A head's greatest weight, in words."""
    weights = units.attention[layer, head]
    row, column = np.unravel_index(int(weights.argmax()), weights.shape)
    if not weights.any():
        return f"layer {layer}, head {head}: pruned"
    return (
        f"layer {layer}, head {head}: at most {weights.max():.2f}, from “{units.labels[row]}” to "
        f"“{units.labels[column]}”"
    )


def _legend(x: int, y: int) -> str:
    """What the shades mean."""
    parts = [label(x, y + 11, "attention", size=12, ink="soft")]
    for place, weight in enumerate(_LEGEND):
        left = x + 72 + place * _SWATCH
        step = _steps(np.array(weight))
        parts.append(
            f'<g class="weights"><rect class="w{step}" x="{left}" y="{y}" width="16" height="13"/>'
            f"</g>{label(left + 21, y + 11, f'{weight:g}', size=12, ink='soft')}"
        )
    return "".join(parts)
