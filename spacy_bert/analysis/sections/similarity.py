"""Sections of a report: how alike layers are, and whether one model can go on from another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spacy_bert.analysis.layer_charts import layer_map, lines_by_layer
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.stitching import Stitching


def add_similarity(
    report: Report, found: np.ndarray, *, one: str, other: str, source: str, name: str = "cka"
) -> None:
    """Add a map of the similarity of every layer of a model with every layer of another.

    Args:
        report: The report.
        found: Linear CKA, (layers of the first, layers of the second).
        one: Name of the first model.
        other: Of the second, or the same.
        source: Where the texts and the networks come from.
        name: Of the chart in the report.
    """
    same = one == other
    between = f"the layers of {one}" if same else f"the layers of {one} and those of {other}"
    report.section(f"Similarity: {one}" if same else f"Similarity: {one} and {other}")
    if found.shape[0] == found.shape[1]:
        if same:
            steps = np.diagonal(found, offset=1)
            report.text(
                f"The greatest step is from layer {int(steps.argmin())} to the next: their vectors "
                f"have a similarity of {steps.min():.2f}; the first and the last layer have "
                f"{found[0, -1]:.2f}."
            )
        else:
            own = np.diagonal(found)
            report.text(
                f"Layer against the same layer, the models are least alike in layer "
                f"{int(own.argmin())} ({own.min():.2f}) and most in layer {int(own.argmax())} "
                f"({own.max():.2f})."
            )
    if not same:
        pairs = found.argmax(axis=1).tolist()
        report.table(
            f"{name}-layers",
            [
                {f"layer of {one}": i, f"most alike of {other}": j, "CKA": float(found[i, j])}
                for i, j in enumerate(pairs)
            ],
            caption=f"For each layer of {one}, the layer of {other} that is most like it.",
            source=source,
        )
    report.chart(
        name,
        layer_map(
            found, x=f"layer of {other}", y=f"layer of {one}", title="CKA", domain=(0.0, 1.0)
        ),
        caption=f"Linear CKA of the tokens' vectors (unbiased, by minibatches) between {between}, "
        "0 the embeddings; 1 means the same vectors but for rotation, scale and shift, 0 unrelated "
        "ones.",
        source=source,
    )


def add_stitching(
    report: Report, found: Sequence[Stitching], *, one: str, other: str, source: str
) -> None:
    """Add how well a model does whose first layers are another's.

    Args:
        report: The report.
        found: For some layers, in their order.
        one: Name of the model whose first layers are taken.
        other: Of the one whose remaining layers and head are taken.
        source: Where the examples and the networks come from.
    """
    depth = max(each.layer for each in found)
    scores, original = np.full(depth + 1, np.nan), np.full(depth + 1, found[0].original)
    for each in found:
        scores[each.layer] = each.score
    worst = min(found, key=lambda each: each.score)
    report.section(f"Stitching: {one}, then {other}")
    report.text(
        f"{other} by itself scores {found[0].original:.3f} ({found[0].metric}); with its first "
        f"layers replaced by those of {one} and a trained map between, it does worst after layer "
        f"{worst.layer}: {worst.score:.3f}."
    )
    report.chart(
        "stitching",
        lines_by_layer({"stitched": scores, "by itself": original}, title=found[0].metric),
        caption=f"The score of {other} when it goes on from a layer of {one}, by that layer; as "
        "high as by itself means that the first model's layer holds all that the second one needs.",
        source=source,
    )
