"""Section of a report: intrinsic dimension and neighbourhoods of the layers."""

from __future__ import annotations

import numpy as np

from spacy_bert.analysis.geometry import Geometry, semantic_layer
from spacy_bert.analysis.layer_charts import layer_map, lines_by_layer
from spacy_bert.analysis.report import Report


def add_geometry(report: Report, found: Geometry, *, source: str) -> None:
    """Add the profile of the dimension, and the overlaps of neighbours and labels.

    Args:
        report: The report.
        found: What `token_geometry` gives.
        source: Where the tokens and the network come from.
    """
    profile = found.profile
    layer, peak = semantic_layer(profile), int(profile.argmax())
    report.section("The geometry of the layers")
    rule = (
        "The rule of Valeriani et al. (2023), the first minimum after a peak, names no layer here."
        if layer is None
        else f"By the rule of Valeriani et al. (2023), layer {layer} holds most meaning."
    )
    counts = [each.points for each in found.dimensions]
    report.text(
        f"Around each other, the tokens vary in {profile.min():.1f} to {profile.max():.1f} "
        f"dimensions (TwoNN, fit), most in layer {peak}. (Tokens with the same vector count once: "
        f"{min(counts):,} to {max(counts):,} vectors in a layer.) {rule}"
    )
    report.chart(
        "intrinsic-dimension",
        lines_by_layer(
            {
                "TwoNN, fit": profile,
                "TwoNN, likelihood": [each.likelihood for each in found.dimensions],
            },
            title="intrinsic dimension",
        ),
        caption="In how many directions the vectors of tokens vary around each other (TwoNN), by "
        "layer, 0 the embeddings; a high value means that the layer tells more things apart.",
        source=source,
    )
    report.chart(
        "neighbour-overlap",
        layer_map(
            found.overlap, x="layer", y="layer", title="shared neighbours", domain=(0.0, 1.0)
        ),
        caption=f"The share of the {found.k} nearest neighbours that a token has in both layers; 1 "
        "means that the layers order the tokens alike.",
        source=source,
    )
    if found.labels is None or found.chance is None:
        return
    best = int(np.argmax(found.labels))
    report.text(
        f"Neighbours share a token's label most in layer {best}: {found.labels[best]:.2f} of them, "
        f"where {found.chance:.2f} would by chance."
    )
    report.chart(
        "label-overlap",
        lines_by_layer(
            {
                "share of neighbours": found.labels,
                "by chance": np.full(len(found.labels), found.chance),
            },
            title="neighbours with the same label",
            zero=True,
        ),
        caption=f"The share of the {found.k} nearest neighbours that have the token's own label, "
        "by layer; high means that tokens of a kind lie together.",
        source=source,
    )
