"""The section of a report on erasure: words and dimensions that decisions rest on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from spacy_bert.analysis.erasure import DimensionErasure, WordErasure
from spacy_bert.analysis.report import Report

SHOWN_DOCS, SHOWN_WORDS, SHOWN_DIMENSIONS = 5, 40, 30
HEAVIEST = 20  # words in the table
LONGEST = 60  # characters of a Doc, or of a decision, that are shown


def add_word_erasure(
    report: Report, found: Sequence[WordErasure], *, source: str, key: str = "words"
) -> None:
    """Add what decisions lose without single words.

    Args:
        report: The report.
        found: One for each Doc; the first few are drawn, all are counted.
        source: Where the figures come from.
        key: Beginning of the names of its tables and charts.

    Raises:
        ValueError: If there is none.
    """
    if not found:
        raise ValueError("no word could be erased: give Docs with tokens and a gold decision")
    report.section("Which words decide")
    report.text(_about_words(found))
    heaviest = _heaviest(found)
    if heaviest:
        report.table(
            f"{key}-heaviest",
            heaviest,
            caption="The words that weigh most, in all Docs: how far the log-likelihood of the "
            "decision falls when the word is erased; high values say that it rests on the word.",
            source=source,
        )
    for number, one in enumerate(found[:SHOWN_DOCS], start=1):
        if np.isnan(one.drops).all():
            continue
        report.chart(
            f"{key}-{number}",
            word_bars(one),
            caption=f"Doc {number}, its first words: a high bar says that the log-likelihood of "
            f"the decision (“{_cut(one.decision)}”, {one.log_likelihood:.3f} nats) falls far when "
            "the word is erased, one below zero that it rises.",
            source=source,
        )


def add_dimension_erasure(
    report: Report, found: DimensionErasure, *, source: str, key: str = "dimensions"
) -> None:
    """Add what decisions lose without single dimensions of a layer.

    Args:
        report: The report.
        found: What `erase_dimensions` has found.
        source: Where the figures come from.
        key: Beginning of the names of its tables and charts.
    """
    report.section(f"Which dimensions of layer {found.layer} decide")
    order = np.argsort(-np.nan_to_num(found.drops), kind="stable")
    best = order[0]
    positive = np.maximum(np.nan_to_num(found.drops), 0.0)
    half = int(np.searchsorted(positive[order].cumsum(), positive.sum() / 2)) + 1
    report.text(
        f"Over {len(found.log_likelihoods):,} Docs, dimension {found.dimensions[best]} weighs most "
        f"(the log-likelihood falls by {found.drops[best]:.3g} nats without it); {half} of "
        f"{len(order)} dimensions make up half of all drops."
    )
    report.chart(
        f"{key}-ranked",
        dimension_curve(found),
        caption="All dimensions from the one that weighs most to the one that weighs least: a high "
        "point says that decisions lose much log-likelihood without it; a line that falls steeply, "
        "that few decide.",
        source=source,
    )
    report.table(
        f"{key}-best",
        [
            {
                "dimension": int(found.dimensions[i]),
                "drop (nats)": float(found.drops[i]),
                "drop by |S|": float(found.relative[i]),
            }
            for i in order[:SHOWN_DIMENSIONS].tolist()
        ],
        caption="The dimensions that weigh most: mean drop in log-likelihood S without them, and "
        "the mean of the drop by |S|; high values say that decisions rest on the dimension.",
        source=source,
    )


def word_bars(found: WordErasure) -> Any:
    """A bar for each word, in the order of the text; those without pieces are left out."""
    read = np.flatnonzero(~np.isnan(found.drops))[:SHOWN_WORDS].tolist()
    # Words may come twice, places do not. The words stay out of the expression that leaves the
    # places off the labels: Vega takes some of them, such as "if", for its own.
    rows = [
        {"place": f"{i} {found.words[i]}", "word": found.words[i], "drop": float(found.drops[i])}
        for i in read
    ]
    label = "substring(datum.value, indexof(datum.value, ' ') + 1)"
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            x=alt.X(
                "place:N",
                sort=None,
                title=None,
                axis=alt.Axis(labelExpr=label, labelAngle=-60, ticks=False),
            ),
            y=alt.Y("drop:Q", title="drop (nats)"),
            tooltip=["word:N", alt.Tooltip("drop:Q", format=".3f")],
        )
        .properties(width="container", height=220)
    )


def dimension_curve(found: DimensionErasure) -> Any:
    """Drops in descending order."""
    known = ~np.isnan(found.drops)
    drops, dimensions = found.drops[known], found.dimensions[known]
    order = np.argsort(-drops, kind="stable")
    rows = [
        {"rank": rank, "dimension": int(dimensions[i]), "drop": float(drops[i])}
        for rank, i in enumerate(order.tolist(), start=1)
    ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("rank:Q", title="rank of the dimension", scale=alt.Scale(nice=False)),
            y=alt.Y("drop:Q", title="drop in log-likelihood (nats)"),
            tooltip=["rank:Q", "dimension:O", alt.Tooltip("drop:Q", format=".3g")],
        )
        .properties(width="container", height=260)
    )


def _heaviest(found: Sequence[WordErasure]) -> list[dict[str, object]]:
    """Rows of the words whose erasure costs most."""
    drops = [(drop, one, place) for one in found for place, drop in enumerate(one.drops.tolist())]
    known = [each for each in drops if each[0] == each[0]]  # NaN: without pieces
    best = sorted(known, key=lambda each: -each[0])[:HEAVIEST]
    numbers = {id(one): number for number, one in enumerate(found, start=1)}
    return [
        {
            "word": one.words[place],
            "drop (nats)": drop,
            "decision": _cut(one.decision),
            "Doc": numbers[id(one)],
            "text": _cut(" ".join(one.words)),
        }
        for drop, one, place in best
    ]


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _about_words(found: Sequence[WordErasure]) -> str:
    drops = np.concatenate([one.drops for one in found])
    drops = drops[~np.isnan(drops)]
    named = [
        (float(one.drops[i]), one.words[i])
        for one in found
        for i in np.flatnonzero(~np.isnan(one.drops)).tolist()
    ]
    if not named:
        return "No word has pieces, so that nothing was erased."
    largest, word = max(named)
    return (
        f"Of {len(drops):,} words in {len(found):,} Docs, {float((drops < 0).mean()):.0%} speak "
        f"against the decision: without them its log-likelihood rises. The greatest drop, "
        f"{largest:.3g} nats, is that of {word!r}; the median is {float(np.median(drops)):.3g}."
    )
