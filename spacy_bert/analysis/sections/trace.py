"""The attention of one Doc in a report: all heads, each head, each token."""

from __future__ import annotations

import numpy as np

from spacy_bert.analysis.drawings import (
    ReadUnits,
    draw_head,
    draw_heads,
    draw_token,
    read_units,
)
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.svg import Drawing
from spacy_bert.analysis.trace import Trace, UnitTrace


def add_trace(
    report: Report, found: Trace | UnitTrace, *, source: str, name: str = "trace"
) -> None:
    """Add the attention of a Doc: maps of all heads, the lines of each head, each token's view.

    Args:
        report: The report.
        found: A Doc's trace, drawn by tokens with [CLS] and [SEP]; of a long one, a part such as
            `trace[span]`.
        source: Where the Doc and the pipeline come from.
        name: What the names of its pictures begin with; another for each Doc of a report.

    Raises:
        ValueError: If there are more than 60 tokens.
    """
    units = found.tokens(special=True) if isinstance(found, Trace) else found
    drawn = read_units(units)
    layers, heads = drawn.attention.shape[:2]
    report.section("Attention of one Doc")
    report.text(" ".join(_sentences(drawn)))
    report.picture(
        f"{name}-heads",
        draw_heads(units),
        caption="Every map is a head, a row of it a token that attends and a column one that is "
        "attended to; the stronger a cell, the more of the row's attention goes there.",
        source=source,
    )
    each_head = {
        f"layer {layer}, head {head}": draw_head(units, layer, head)
        for layer in range(layers)
        for head in range(heads)
    }
    report.gallery(
        f"{name}-head",
        each_head,
        caption="The wider and stronger a line, the more the token on the left attends to the one "
        "on the right; those of the token under the pointer stand out.",
        source=source,
    )
    report.gallery(
        f"{name}-token",
        _each_token(units, drawn),
        caption="Of the framed token, in each layer, what it attends to in the mean of the heads; "
        "weights from 0.1 on stand in the cells as percentages.",
        source=source,
    )


def _each_token(units: UnitTrace, drawn: ReadUnits) -> dict[str, Drawing]:
    """The view of each token, and of the first unit of each name that is no token."""
    views = {}
    for number, (text, token) in enumerate(zip(drawn.labels, drawn.tokens.tolist(), strict=True)):
        if token >= 0:
            views[f"{number} {text}"] = draw_token(units, token)
        elif drawn.labels.index(text) == number:
            views[f"{number} {text}"] = draw_token(units, text)
    return views


def _sentences(drawn: ReadUnits) -> list[str]:
    """What is seen in this Doc."""
    attention = drawn.attention
    # A pruned head attends to nothing.
    kept = np.asarray(attention.any(axis=(2, 3)))
    sentences = []
    special = drawn.tokens < 0
    if special.any() and not special.all():
        share = attention[..., special].sum(axis=-1).mean(axis=-1)
        layers = np.array(
            [row[own].mean() if own.any() else np.nan for row, own in zip(share, kept, strict=True)]
        )
        most, least = int(np.nanargmax(layers)), int(np.nanargmin(layers))
        names = " and ".join(
            dict.fromkeys(t for t, s in zip(drawn.labels, special, strict=True) if s)
        )
        sentences.append(
            f"{share[kept].mean():.0%} of the attention goes to {names}: most in layer {most} "
            f"({layers[most]:.0%}), least in layer {least} ({layers[least]:.0%})."
        )
    peak = np.where(kept, attention.max(axis=-1).mean(axis=-1), np.nan)
    sharp = np.unravel_index(int(np.nanargmax(peak)), peak.shape)
    broad = np.unravel_index(int(np.nanargmin(peak)), peak.shape)
    sentences.append(
        f"The most pointed head is layer {sharp[0]}, head {sharp[1]}, where a token's greatest "
        f"weight is {peak[sharp]:.2f} in the mean; the broadest is layer {broad[0]}, head "
        f"{broad[1]}, with {peak[broad]:.2f}."
    )
    return sentences
