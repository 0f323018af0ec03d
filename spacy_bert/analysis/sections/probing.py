"""Sections of a report: what probes find in the layers, and the classical pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from spacy_bert.analysis.layer_charts import lines_by_layer
from spacy_bert.analysis.probing import Probing, divergence_from_uniform
from spacy_bert.analysis.report import Report


def add_probing(report: Report, found: Mapping[str, Probing], *, source: str) -> None:
    """Add the scores of probes of one task by layer, for one encoder or for several.

    Args:
        report: The report.
        found: Name of an encoder to what probes find in it, all of one task; at most five.
        source: Where the annotation and the networks come from.
    """
    first = next(iter(found.values()))
    name = first.task.lower().replace(" ", "-")
    report.section(f"Probing: {first.task}")
    for encoder, each in found.items():
        best = int(each.scores.layers.argmax())
        report.text(
            f"{encoder}: {first.task} is read best off layer {best}, F1 "
            f"{each.scores.layers[best]:.3f} (control task {each.control.layers[best]:.3f}, always "
            f"the most frequent label {each.majority:.3f}); a mixture of all layers gives "
            f"{each.scores.cumulative[-1]:.3f}."
        )
    series: dict[str, Sequence[float] | np.ndarray]
    if len(found) == 1:
        series = {
            "task": first.scores.layers,
            "control task": first.control.layers,
            "most frequent label": np.full(len(first.scores.layers), first.majority),
        }
    else:
        series = {encoder: each.scores.layers for encoder, each in found.items()}
        series["most frequent label"] = np.full(len(first.scores.layers), first.majority)
    report.chart(
        f"probing-{name}",
        lines_by_layer(series, title="F1"),
        caption=f"Micro-averaged F1 of a probe on each layer alone, 0 the embeddings, for "
        f"{first.labels:,} labels on {first.targets[1]:,} spans. High, and far above the control "
        "task, means that the layer itself tells the labels.",
        source=source,
    )
    report.table(
        f"probing-{name}-scores",
        [
            {
                "encoder": encoder,
                "best layer": int(each.scores.layers.argmax()),
                "F1": float(each.scores.layers.max()),
                "control": float(each.control.layers[each.scores.layers.argmax()]),
                "selectivity": float(each.selectivity[each.scores.layers.argmax()]),
                "embeddings": float(each.scores.layers[0]),
                "mixture": float(each.scores.cumulative[-1]),
                "majority": each.majority,
            }
            for encoder, each in found.items()
        ],
        caption="The best single layer, its control task (random labels for words, which only "
        "memory can give), the difference of the two (selectivity), and the learned mixture of all "
        "layers.",
        source=source,
    )


def add_classical_pipeline(report: Report, found: Sequence[Probing], *, source: str) -> None:
    """Add where in the stack the tasks of the classical pipeline are solved.

    Args:
        report: The report.
        found: What probes find, a task each.
        source: Where the annotation and the network come from.
    """
    known = [each for each in found if each.expected_layer is not None]
    report.section("The classical pipeline")
    order = sorted(known, key=lambda each: each.expected_layer or 0.0)
    if order:
        text = ", ".join(f"{each.task} ({each.expected_layer:.2f})" for each in order)
        report.text(f"In the order of their expected layers: {text}.")
    if uncertain := [each.task for each in found if each.is_uncertain]:
        report.text(
            "The score hardly rises from layer to layer, so that the expected layer means nothing, "
            f"for: {', '.join(uncertain)}."
        )
    report.chart(
        "expected-layers",
        expected_layers_chart(found),
        caption="The expected layer at which a task is solved (from the gains of cumulative "
        "probes, diamond) and the centre of gravity of the mixture's weights (bar); high means "
        "late. A uniform mixture has its centre in the middle too.",
        source=source,
    )
    report.table(
        "classical-pipeline",
        [
            {
                "task": each.task,
                "expected layer": each.expected_layer,
                "centre of gravity": each.centre_of_gravity,
                "divergence from uniform, bits": divergence_from_uniform(each.scores.weights),
                "F1, embeddings": float(each.scores.cumulative[0]),
                "F1, all layers": float(each.scores.cumulative[-1]),
                "control, all layers": float(each.control.cumulative[-1]),
            }
            for each in found
        ],
        caption="Cumulative probes and mixture weights of each task (Tenney et al. 2019); a dash: "
        "the score does not rise.",
        source=source,
    )


def expected_layers_chart(found: Sequence[Probing]) -> Any:
    """A bar for the centre of gravity of each task, and a diamond at its expected layer."""
    names = [each.task for each in found]
    rows = [
        {
            "task": each.task,
            "centre of gravity": each.centre_of_gravity,
            "expected layer": each.expected_layer,
        }
        for each in found
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("task:N", sort=names, title=None),
        tooltip=[
            "task:N",
            alt.Tooltip("centre of gravity:Q", format=".2f"),
            alt.Tooltip("expected layer:Q", format=".2f"),
        ],
    )
    bars = base.mark_bar(opacity=0.45, height=14).encode(
        x=alt.X("centre of gravity:Q", title="layer")
    )
    marks = (
        base.transform_filter("isValid(datum['expected layer'])")
        .mark_point(shape="diamond", size=140, filled=True)
        .encode(x="expected layer:Q")
    )
    return alt.layer(bars, marks).properties(width="container", height=34 * max(len(names), 2))
