"""Sections of a report: heads as parsers, as pickers of antecedents, and all as one parser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from spacy_bert.analysis.attention_parser import AttentionParsing
from spacy_bert.analysis.head_maps import head_name
from spacy_bert.analysis.head_relations import (
    ALL,
    Annotation,
    Coreference,
    HeadRelations,
    RelationScore,
)
from spacy_bert.analysis.report import Report

SYSTEMS = ("best head", "best offset")


def add_relations(report: Report, found: HeadRelations, *, source: str) -> None:
    """Add the best head of each relation beside the best fixed offset.

    Args:
        report: The report.
        found: What `head_relations` gives.
        source: Where the treebank and the network come from.
    """
    relations = [score for score in found.scores if score.relation != ALL]
    report.section("Heads as parsers")
    report.text(f"{_about_relations(relations)} {_about_choice(found)}{_about_rare(found)}")
    score = _score_name(found.annotation)
    report.table(
        "relations",
        [_row(row, score) for row in found.scores],
        caption=f"For each relation the best head (layer-head, both from 0) and the best fixed "
        f"offset (in words from the dependent, +1 is the next word), with {_meaning(found)}; high "
        "means that the most attended word nearly always is the head.",
        source=source,
        best=["gain"],
    )
    if relations:
        report.chart(
            "relations-gain",
            relations_chart(relations, title=score),
            caption="The best head and the best fixed offset for each relation: what counts is how "
            "far the head is to the right of the offset; high means that it finds the word's head.",
            source=source,
        )


def add_coreference(report: Report, found: Coreference, *, source: str) -> None:
    """Add how well heads pick antecedents.

    Args:
        report: The report.
        found: What `coreference` gives.
        source: Where the clusters and the network come from.
    """
    report.section("Heads as pickers of antecedents")
    name = head_name(found.layer, found.head)
    gain = found.best - max(found.nearest, found.first)
    report.text(
        f"Of {found.mentions:,} mentions with an antecedent, head {name} attends most to a right "
        f"one for {found.best:.1%}, {abs(gain):.1%} {'more' if gain >= 0 else 'less'} than the "
        f"better of the two simple guesses. {_held_out(found.held_out, 'head was')}"
    )
    rows = [
        {"guess": f"head {name}", "accuracy": found.best},
        {"guess": "nearest mention", "accuracy": found.nearest},
        {"guess": "first mention", "accuracy": found.first},
        {"guess": "mean of all heads", "accuracy": float(np.nanmean(found.accuracy))},
    ]
    report.table(
        "coreference",
        rows,
        caption="The share of mentions for which the earlier mention that is picked is of the same "
        "cluster; high means that coreference can be read off.",
        source=source,
        best=["accuracy"],
    )


def add_attention_parser(report: Report, found: AttentionParsing, *, source: str) -> None:
    """Add how well a probe parses by the attention of all heads.

    Args:
        report: The report.
        found: What `attention_parser` gives.
        source: Where the treebank and the network come from.
    """
    score = "UAS" if found.annotation == "gold" else "agreement with spaCy (UAS)"
    probe = "attention and words" if found.with_words else "attention alone"
    rows = {
        probe: found.uas,
        f"best offset ({found.offset:+d})": found.offset_uas,
        "next word": found.next_word,
        "previous word": found.previous_word,
    }
    best = max(value for name, value in rows.items() if name != probe)
    report.section("All heads as a parser")
    report.text(
        f"A linear probe on all heads finds the head of {found.uas:.1%} of {found.words:,} words "
        f"in {found.sentences:,} sentences that it has not seen; the best parser that looks at "
        f"nothing, of {best:.1%}. It learned from {found.learned:,} sentences."
    )
    report.table(
        "attention-parser",
        [{"parser": name, score: value} for name, value in rows.items()],
        caption="Unlabelled attachment score without punctuation, beside guesses that always name "
        "the word at the same distance, or the root where there is none; high means that the "
        "heads of the network hold the tree together.",
        source=source,
        best=[score],
    )
    if not np.isnan(found.weights).all():
        report.chart(
            "attention-parser-weights",
            weights_chart(found),
            caption="What the probe has learned of each head: a large weight, in either direction "
            "of attention, means that the head tells of syntax what others do not.",
            source=source,
        )


def _row(score: RelationScore, name: str) -> dict[str, object]:
    return {
        "relation": score.relation,
        "count": score.count,
        "head": head_name(score.layer, score.head),
        "direction": score.direction,
        name: score.accuracy,
        "offset": f"{score.offset:+d}",
        "by offset": score.offset_accuracy,
        "gain": score.accuracy - score.offset_accuracy,
    }


def _score_name(annotation: Annotation) -> str:
    return "accuracy" if annotation == "gold" else "agreement with spaCy"


def _meaning(found: HeadRelations) -> str:
    if found.annotation == "gold":
        return "their accuracy against the gold trees"
    return "their agreement with spaCy's trees, which are no gold standard"


def _about_relations(scores: Sequence[RelationScore]) -> str:
    if not scores:
        return "No relation is frequent enough to be shown by itself."
    better = [score for score in scores if score.accuracy > score.offset_accuracy]
    best = max(scores, key=lambda score: score.accuracy - score.offset_accuracy)
    return (
        f"For {len(better)} of {len(scores)} relations the best head beats the best offset; by "
        f"most for {best.relation} ({best.count:,} words), where head "
        f"{head_name(best.layer, best.head)} finds {best.accuracy:.1%} and the offset "
        f"{best.offset_accuracy:.1%}."
    )


def _about_choice(found: HeadRelations) -> str:
    return f"{found.docs:,} Docs. {_held_out(found.held_out, 'heads and offsets were')}"


def _about_rare(found: HeadRelations) -> str:
    if not found.left_out:
        return ""
    rare = ", ".join(f"{relation} ({count})" for relation, count in found.left_out.items())
    return f" Too rare for a row of their own, but counted in {ALL!r}: {rare}."


def _held_out(held_out: bool, what: str) -> str:
    if held_out:
        return f"The {what} chosen on one half of the Docs and scored on the other."
    return f"The {what} chosen on the Docs that they are scored on, which flatters them."


def relations_chart(scores: Sequence[RelationScore], *, title: str) -> Any:
    """Two bars for each relation, those of most gain first."""
    order = sorted(scores, key=lambda score: score.offset_accuracy - score.accuracy)
    rows = [
        {"relation": score.relation, "by": system, "score": value}
        for score in order
        for system, value in zip(SYSTEMS, (score.accuracy, score.offset_accuracy), strict=True)
    ]
    scale = alt.Scale(domain=list(SYSTEMS))
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(cornerRadiusEnd=2)
        .encode(
            y=alt.Y("relation:N", sort=[score.relation for score in order], title=None),
            yOffset=alt.YOffset("by:N", scale=scale),
            x=alt.X(
                "score:Q",
                title=title,
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format=".1f", tickCount=5),
            ),
            color=alt.Color("by:N", scale=scale),
            tooltip=["relation:N", "by:N", alt.Tooltip("score:Q", format=".3f")],
        )
        .properties(width="container", height=alt.Step(11))
    )


def weights_chart(found: AttentionParsing) -> Any:
    """Layers x heads, by the larger of a head's two weights."""
    strength = np.abs(found.weights).max(axis=-1)
    rows = [
        {"layer": layer, "head": head, "weight": float(strength[layer, head])}
        for layer, head in np.argwhere(~np.isnan(strength)).tolist()
    ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_rect()
        .encode(
            x=alt.X("head:O", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("layer:O", sort="descending"),
            color=alt.Color("weight:Q", legend=alt.Legend(title="weight (absolute)")),
            tooltip=["layer:O", "head:O", alt.Tooltip("weight:Q", format=".2f")],
        )
        .properties(width=420, height=alt.Step(22))
    )
