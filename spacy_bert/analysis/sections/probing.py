"""Sections of a report: what probes find in the layers, and the classical pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from spacy_bert.analysis.description_length import OnlineCode
from spacy_bert.analysis.layer_charts import lines_by_layer
from spacy_bert.analysis.probing import Probing, divergence_from_uniform
from spacy_bert.analysis.regression import Regression
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
        if each.learned_nothing:
            report.text(
                f"{encoder}: no probe told {first.task} better than always the most frequent label "
                f"({each.majority:.3f}): they have learned too little from {each.targets[0]:,} "
                "targets, and the layers cannot be compared. Give more Docs, or more --epochs."
            )
            continue
        report.text(
            f"{encoder}: {first.task} is read best off layer {best}, F1 "
            f"{each.scores.layers[best]:.3f} (control task {each.control.layers[best]:.3f}, always "
            f"the most frequent label {each.majority:.3f}); a mixture of all layers gives "
            f"{each.scores.mixture:.3f}."
        )
    probe = "a linear probe" if first.linear else "an edge probe"
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
        caption=f"Micro-averaged F1 of {probe} on each layer alone, 0 the embeddings, for "
        f"{first.labels:,} labels on {first.targets[1]:,} spans. High, and far above the control "
        "task, means that the layer itself tells the labels.",
        source=source,
    )
    report.table(
        f"probing-{name}-layers",
        [
            {
                "encoder": encoder,
                "layer": layer,
                "F1": float(each.scores.layers[layer]),
                "control": float(each.control.layers[layer]),
                "selectivity": float(each.selectivity[layer]),
            }
            for encoder, each in found.items()
            for layer in range(len(each.scores.layers))
        ],
        caption=f"F1 of {probe} on each layer alone, of the control task (random labels for "
        "words), and their difference. Each is one training: small differences between layers mean "
        "little.",
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
                "mixture": each.scores.mixture,
                "majority": each.majority,
            }
            for encoder, each in found.items()
        ],
        caption="The best single layer, its control task (random labels for words, which only "
        "memory can give), the difference of the two (selectivity), and the learned mixture of all "
        "layers.",
        source=source,
    )


def add_online_codes(report: Report, found: Mapping[str, OnlineCode], *, source: str) -> None:
    """Add how few bits the labels of a task cost by layer, for one encoder or for several.

    Args:
        report: The report.
        found: Name of an encoder to the codes of the labels, all of one task; at most five.
        source: Where the annotation and the networks come from.
    """
    first = next(iter(found.values()))
    name = first.task.lower().replace(" ", "-")
    report.section(f"Description length: {first.task}")
    for encoder, each in found.items():
        best = int(each.code.bits.argmin())
        report.text(
            f"{encoder}: the labels of {each.code.targets:,} spans cost least from layer {best}, "
            f"{each.code.bits[best] / 1000:.1f} kilobits, {each.code.compression[best]:.2f} times "
            f"less than in the uniform code (control task {each.control.compression[best]:.2f})."
        )
    series = {encoder: each.code.compression for encoder, each in found.items()}
    if len(found) == 1:
        series = {"task": first.code.compression, "control task": first.control.compression}
    report.chart(
        f"online-code-{name}",
        lines_by_layer(series, title="compression", zero=True),
        caption="How many times shorter than the uniform code the labels become if they are sent "
        "in portions, each by a probe that has learned from those before (Voita & Titov 2020), by "
        "layer, 0 the embeddings. High means that the layer tells the labels, and by few "
        "examples; 1 that it does not.",
        source=source,
    )
    report.table(
        f"online-code-{name}-bits",
        [
            {
                "encoder": encoder,
                "layer": layer,
                "bits": float(each.code.bits[layer]),
                "compression": float(each.code.compression[layer]),
                "control": float(each.control.compression[layer]),
            }
            for encoder, each in found.items()
            for layer in range(len(each.code.bits))
        ],
        caption="Length of the online code in bits, and how many times shorter it is than the "
        "uniform one, beside the control task (random labels for words).",
        source=source,
    )


def add_regressions(report: Report, found: Mapping[str, Regression], *, source: str) -> None:
    """Add how well a number is predicted from each layer, for one encoder or for several.

    Args:
        report: The report.
        found: Name of an encoder to what is predicted from it, all of one number; at most five.
        source: Where the annotation and the networks come from.
    """
    first = next(iter(found.values()))
    name = first.quantity.lower().replace(" ", "-")
    report.section(f"Regression: {first.quantity}")
    for encoder, each in found.items():
        best = each.best_layer
        report.text(
            f"{encoder}: {each.quantity} is predicted best from layer {best}, R² "
            f"{each.determination[best]:.3f}, r {each.correlation[best]:.3f} (shuffled among "
            f"{each.tokens[1]:,} tokens: R² {each.control[best]:.3f})."
        )
    series = {encoder: each.determination for encoder, each in found.items()}
    if len(found) == 1:
        series = {"number": first.determination, "shuffled": first.control}
    report.chart(
        f"regression-{name}",
        lines_by_layer(series, title="R²"),
        caption="R² of a linear regression on the vectors of each layer, 0 the embeddings: 1 means "
        "that the number is linear in the layer, 0 that the layer tells nothing of it; "
        "below 0 it fits what the training tokens have by chance.",
        source=source,
    )
    report.table(
        f"regression-{name}-scores",
        [
            {
                "encoder": encoder,
                "layer": layer,
                "R²": float(each.determination[layer]),
                "r": float(each.correlation[layer]),
                "shuffled, R²": float(each.control[layer]),
            }
            for encoder, each in found.items()
            for layer in range(len(each.determination))
        ],
        caption="Variance of the number that a linear regression explains (R²), correlation of "
        "prediction and number (r), and the control: the same numbers shuffled among all tokens.",
        source=source,
    )


def add_classical_pipeline(report: Report, found: Sequence[Probing], *, source: str) -> None:
    """Add where in the stack the tasks of the classical pipeline are solved.

    Args:
        report: The report.
        found: What probes find, a task each.
        source: Where the annotation and the network come from.
    """
    known = [each for each in found if each.expected_layer is not None and not each.learned_nothing]
    report.section("The classical pipeline")
    order = sorted(known, key=lambda each: each.expected_layer or 0.0)
    if lost := [each.task for each in found if each.learned_nothing]:
        report.text(
            "No probe told more than always the most frequent label, so that nothing can be said, "
            f"for: {', '.join(lost)}. Give more Docs, or more --epochs."
        )
    if len(order) > 1:
        text = ", ".join(f"{each.task} ({each.expected_layer:.2f})" for each in order)
        report.text(f"In the order of their expected layers: {text}.")
    if uncertain := [each.task for each in found if each.is_uncertain and each.task not in lost]:
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
                "F1, embeddings": float(each.scores.rise[0]),
                "F1, all layers": each.scores.mixture,
                "control, all layers": each.control.mixture,
                "majority": each.majority,
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
    depth = max(len(each.scores.layers) for each in found) - 1
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
        x=alt.X(
            "centre of gravity:Q",
            title="layer",
            scale=alt.Scale(domain=[0, depth]),
            axis=alt.Axis(tickMinStep=1, format="d"),
        )
    )
    marks = (
        base.transform_filter("isValid(datum['expected layer'])")
        .mark_point(shape="diamond", size=140, filled=True)
        .encode(x="expected layer:Q")
    )
    return alt.layer(bars, marks).properties(
        width="container",
        height=34 * max(len(names), 2),
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),  # the axis stands below
    )
