"""Sections of a report: how BERT answers one question, and a data set of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from spacy_bert.analysis.answer_phases import KINDS, ROLES, PhaseCurves, WrongMatching
from spacy_bert.analysis.answering import AnswerExplanation, AnswerStudy, Inside
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.report_blocks import format_value

AFTER, BEFORE = "the pipeline", "before"
CURVES = ("cluster separation", "fact matching", "answer isolation")
EXAMPLES = 50  # wrong answers in the table
_SHAPES = {"answer": "diamond", "question": "triangle-up", "other": "circle", "fact": "square"}
_SERIES_SHAPES = ["circle", "diamond", "square", "triangle-up"]
_PLANES = {"pca": "principal components", "ica": "independent components", "tsne": "t-SNE"}
_CAPTION = (
    "By layer (0 is the embeddings): how well all tokens fall into clusters, by how much the "
    "question is nearer to the supporting facts than to other sentences, and how far the answer "
    "stands from the other tokens; high means that this phase is reached. The three numbers are "
    "this package's own, the phases van Aken et al.'s (2019)."
)

Row = dict[str, Any]


def add_answer(report: Report, found: AnswerExplanation, *, source: str) -> None:
    """Add how one question is answered: projections, phases, and why the answer is wrong.

    Args:
        report: The report.
        found: What `spacy_bert.explain_answer` gives.
        source: Where the question and the networks come from.
    """
    report.section("How one question is answered")
    report.text(_what_was_answered(found))
    report.text(_peaks(found.after.phases))
    networks = {AFTER: found.after} | ({BEFORE: found.before} if found.before is not None else {})
    shares = found.after.projections.explained
    explained = (
        ""
        if shares is None
        else f" The plane holds {shares.min():.0%} to {shares.max():.0%} of the variance."
    )
    report.chart(
        "answer-projections",
        projections_chart(found, networks),
        caption=f"The tokens in a plane ({_PLANES[found.after.projections.method]}), a layer at a "
        "time by the slider; tokens that lie together are alike to BERT, far ones stand at the "
        f"edge.{explained}",
        source=source,
    )
    report.chart(
        "answer-phases",
        phases_chart({name: inside.phases for name, inside in networks.items()}),
        caption=_CAPTION,
        source=source,
    )
    if found.wrong is not None:
        report.chart(
            "answer-matching",
            matching_chart(found.wrong),
            caption="Similarity of the question to the supporting facts and to the sentence of the "
            "wrong answer (cosine, from -1 to 1): high means that BERT has matched the two.",
            source=source,
        )


def add_answers(report: Report, found: AnswerStudy, *, source: str) -> None:
    """Add how a data set is answered: mean phases, and wrong answers by their kind.

    Args:
        report: The report.
        found: What `explain_answers` gives.
        source: Where the questions and the networks come from.
    """
    report.section("How questions are answered")
    outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(found.outcomes.items()))
    report.text(f"{found.questions:,} questions: {outcomes}. {_peaks(found.after['all'])}")
    networks = {AFTER: found.after["all"]}
    if found.before is not None:
        networks[BEFORE] = found.before["all"]
    report.chart("answers-phases", phases_chart(networks), caption=_CAPTION, source=source)
    outcomes_known = {name: found.after[name] for name in ("right", "wrong") if name in found.after}
    if len(outcomes_known) == 2:
        report.chart(
            "answers-right-and-wrong",
            phases_chart({f"{name} answers": own for name, own in outcomes_known.items()}),
            caption="The same curves of questions that are answered rightly and wrongly: where "
            "they part, the layer tells a wrong answer; high means that the phase is reached.",
            source=source,
        )
    if found.wrong:
        _add_wrong(report, found, source)


def _add_wrong(report: Report, found: AnswerStudy, source: str) -> None:
    known = {kind: found.kinds.get(kind, 0) for kind in KINDS}
    most = max(known, key=lambda kind: known[kind])
    if known[most]:
        report.text(
            f"Of {len(found.wrong):,} wrong answers, {known[most]:,} are of the kind “{most}”."
        )
    rows = [
        {
            "kind": kind or "no facts to match",
            "wrong answers": count,
            "share": count / len(found.wrong),
            "median layer of parting": _median_parting(found, kind),
        }
        for kind, count in sorted(found.kinds.items(), key=lambda item: -item[1])
    ]
    report.table(
        "answers-kinds",
        rows,
        caption="Wrong answers by kind, by rules of this package: the question is matched with the "
        "wrong sentence in the first half of the layers (wrong match), with the right one (right "
        "fact), or with neither (low confidence); a high share says where the pipeline fails.",
        source=source,
    )
    shown = found.wrong[:EXAMPLES]
    report.table(
        "answers-wrong",
        [
            {
                "question": row.question,
                "right": " / ".join(dict.fromkeys(row.gold)) or "(no answer)",
                "answered": row.predicted or "(no answer)",
                "kind": row.kind,
                "layer of parting": row.parting,
            }
            for row in shown
        ],
        caption=f"{'The first ' if len(shown) < len(found.wrong) else ''}{len(shown)} wrong "
        "answers; from the layer of parting on, the question is nearer to one of the two sentences "
        "(a dash: to neither). A high layer means that they part late.",
        source=source,
    )


def projections_chart(found: AnswerExplanation, networks: Mapping[str, Inside]) -> Any:
    """The tokens of a layer as points, by role, with a slider over the layers.

    Every layer is scaled to a mean square radius of 1: what the slider shows is how they lie.

    Args:
        found: Gives tokens and roles.
        networks: Name to projections; a panel for each.
    """
    last = max(len(inside.projections.points) for inside in networks.values()) - 1
    slider = alt.binding_range(min=0, max=last, step=1, name="layer ")
    layer = alt.param(name="layer", value=last, bind=slider)
    width: int | str = "container" if len(networks) == 1 else 380
    panels = [
        _plane(_points(found, inside)).properties(
            width=width, height=380, title=name if len(networks) > 1 else ""
        )
        for name, inside in networks.items()
    ]
    return (panels[0] if len(panels) == 1 else alt.hconcat(*panels)).add_params(layer)


def phases_chart(networks: Mapping[str, PhaseCurves]) -> Any:
    """A panel for each curve, a line for each of the series.

    Args:
        networks: Name of a series to its curves.
    """
    rows = [row for name, curves in networks.items() for row in _curve_rows(name, curves)]
    order = list(networks)
    scale = alt.Scale(domain=order)
    shapes = alt.Scale(domain=order, range=_SERIES_SHAPES[: len(order)])
    dashes = alt.Scale(domain=order, range=[[1, 0], [6, 4], [2, 2]][: len(order)])
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("layer:Q", axis=alt.Axis(grid=False, tickMinStep=1, format="d")),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
        color=alt.Color("series:N", sort=order, scale=scale),
        tooltip=["series:N", "layer:Q", alt.Tooltip("value:Q", format=".3f")],
    )
    line = base.mark_line().encode(strokeDash=alt.StrokeDash("series:N", sort=order, scale=dashes))
    points = base.mark_point().encode(shape=alt.Shape("series:N", sort=order, scale=shapes))
    panel = alt.layer(line, points).properties(width=230, height=220)
    column = alt.Column("curve:N", sort=list(CURVES), title=None)
    return panel.facet(column=column).resolve_scale(y="independent")


def matching_chart(wrong: WrongMatching) -> Any:
    """Similarity of the question to the facts and to the sentence of the wrong answer, by layer.

    Args:
        wrong: The two curves, and where they part.
    """
    series = {"supporting facts": wrong.fact, "sentence of the answer": wrong.predicted}
    order = list(series)
    rows = [
        {"series": name, "layer": layer, "similarity": value}
        for name, values in series.items()
        for layer, value in _known(values)
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("layer:Q", axis=alt.Axis(grid=False, tickMinStep=1, format="d")),
        y=alt.Y("similarity:Q", title="similarity to the question"),
        color=alt.Color("series:N", sort=order, scale=alt.Scale(domain=order)),
        tooltip=["series:N", "layer:Q", alt.Tooltip("similarity:Q", format=".3f")],
    )
    shapes = alt.Scale(domain=order, range=_SERIES_SHAPES[:2])
    layers = [
        base.mark_line(),
        base.mark_point().encode(shape=alt.Shape("series:N", sort=order, scale=shapes)),
    ]
    if wrong.parting is not None:
        rule = alt.Chart(alt.Data(values=[{"layer": wrong.parting}])).encode(x="layer:Q")
        layers.append(rule.mark_rule(strokeDash=[6, 4]))
        label = rule.mark_text(align="left", dx=4).encode(
            y=alt.value(8), text=alt.value("they part")
        )
        layers.append(label)
    return alt.layer(*layers).properties(width="container", height=260)


def _plane(rows: Sequence[Row]) -> Any:
    """The points of one network, those of the chosen layer, with the answer named."""
    domain = list(_SHAPES)
    bare = alt.Axis(labels=False, ticks=False)
    base = (
        alt.Chart(alt.Data(values=rows))
        .transform_filter("datum.layer == layer")
        .encode(
            x=alt.X("x:Q", title=None, scale=_scale(rows, "x"), axis=bare),
            y=alt.Y("y:Q", title=None, scale=_scale(rows, "y"), axis=bare),
            tooltip=["token:N", "role:N"],
        )
    )
    points = base.mark_point().encode(
        color=alt.Color("role:N", sort=domain, scale=alt.Scale(domain=domain)),
        shape=alt.Shape(
            "role:N",
            sort=domain,
            scale=alt.Scale(domain=domain, range=list(_SHAPES.values())),
        ),
        opacity=alt.condition(alt.datum.role == "other", alt.value(0.4), alt.value(0.9)),
        size=alt.condition(alt.datum.role == "answer", alt.value(140), alt.value(60)),
    )
    named = base.transform_filter("datum.label != null")
    return alt.layer(points, named.mark_text(dy=-14).encode(text="label:N"))


def _scale(rows: Sequence[Row], axis: str) -> Any:
    """All layers on one scale, on which a hundredth of the points stands at the edge."""
    reach = float(np.quantile([abs(row[axis]) for row in rows], 0.99)) if rows else 0.0
    return alt.Scale(domain=[-reach, reach] if reach else [-1, 1], nice=False, clamp=True)


def _points(found: AnswerExplanation, inside: Inside) -> list[Row]:
    """A row for each token and layer, those of the answer last, so that they lie on top."""
    points = inside.projections.points
    radius = np.sqrt((points**2).sum(axis=-1).mean(axis=-1))
    scaled = points / np.where(radius > 0, radius, 1.0)[:, None, None]
    words = [found.doc[int(token)].text for token in found.tokens]
    answer = [place for place, role in enumerate(found.roles) if role == "answer"]
    text = " ".join(words[place] for place in answer)
    order = sorted(range(len(words)), key=lambda place: -ROLES.index(found.roles[place]))
    return [
        {
            "layer": layer,
            "token": words[place],
            "role": found.roles[place],
            "label": text if [place] == answer[:1] else None,
            "x": round(float(scaled[layer, place, 0]), 3),
            "y": round(float(scaled[layer, place, 1]), 3),
        }
        for layer in range(len(scaled))
        for place in order
    ]


def _curve_rows(series: str, curves: PhaseCurves) -> list[Row]:
    return [
        {"series": series, "curve": name, "layer": layer, "value": value}
        for name, values in _named(curves).items()
        for layer, value in _known(values)
    ]


def _named(curves: PhaseCurves) -> dict[str, np.ndarray]:
    values = (curves.cluster_separation, curves.fact_matching, curves.answer_isolation)
    return dict(zip(CURVES, values, strict=True))


def _known(values: np.ndarray) -> list[tuple[int, float]]:
    return [(i, value) for i, value in enumerate(values.tolist()) if np.isfinite(value)]


def _what_was_answered(found: AnswerExplanation) -> str:
    parts = [f"Question: {found.doc._.segments[0].text}"]
    if found.predicted is not None:
        answer = found.predicted.text or "(no answer)"
        parts.append(f"Answered: {answer} (probability {found.predicted.probability:.2f}).")
    if found.gold is not None:
        parts.append(f"Right: {' / '.join(dict.fromkeys(found.gold)) or '(no answer)'}.")
    if found.wrong is not None:
        where = (
            "the question never parts to one of the two sentences"
            if found.wrong.parting is None
            else f"the question is nearer to one of the two sentences from layer "
            f"{found.wrong.parting} on"
        )
        parts.append(f"The answer is wrong, of the kind “{found.wrong.kind}”: {where}.")
    return " ".join(parts)


def _peaks(curves: PhaseCurves) -> str:
    """Where each curve is highest, in a sentence."""
    peaks = []
    for name, values in _named(curves).items():
        known = _known(values)
        if known:
            layer, value = max(known, key=lambda pair: pair[1])
            peaks.append(f"{name} at layer {layer} ({format_value(value)})")
    return f"Of the pipeline, highest are {', '.join(peaks)}." if peaks else ""


def _median_parting(found: AnswerStudy, kind: str | None) -> float | None:
    layers = [row.parting for row in found.wrong if row.kind == kind and row.parting is not None]
    return float(np.median(layers)) if layers else None
