"""Sections of a report: phrases, sentences, agreement and roles in the layers, trees in heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spacy_bert.analysis.agreement import Agreement
from spacy_bert.analysis.head_maps import head_name
from spacy_bert.analysis.layer_charts import lines_by_layer
from spacy_bert.analysis.minimal_pairs import PairScore
from spacy_bert.analysis.phrases import PhraseClusters
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.sentence_probes import SentenceScores
from spacy_bert.analysis.spanning_trees import SpanningTrees
from spacy_bert.analysis.tensor_products import Decomposition


def add_phrases(report: Report, found: PhraseClusters, *, source: str) -> None:
    """Add how well phrases cluster by their kinds."""
    report.section("Phrases")
    report.text(
        f"{len(found.texts):,} phrases of {len(set(found.kinds.tolist()))} kinds cluster by kind "
        f"most in layer {found.best_layer} (mutual information {found.nmi.max():.2f}), and least "
        f"in layer {int(found.nmi.argmin())} ({found.nmi.min():.2f})."
    )
    report.chart(
        "phrases",
        lines_by_layer({"phrases": found.nmi}, title="normalized mutual information", zero=True),
        caption="How much k-means clusters of the vectors of phrases tell about their kind, "
        "by layer, 0 the embeddings; 1 means that clusters are kinds.",
        source=source,
    )


def add_sentences(report: Report, found: Mapping[str, SentenceScores], *, source: str) -> None:
    """Add what each layer knows about whole sentences, a row for each task."""
    report.section("Sentences")
    above = [name for name, each in found.items() if each.accuracy.max() > each.majority]
    below = [name for name in found if name not in above]
    if above:
        best = ", ".join(f"{name} {found[name].best_layer}" for name in above)
        report.text(f"The best layer of each task: {best}.")
    if below:
        report.text(f"No layer is above the most frequent answer in {', '.join(below)}.")
    report.table(
        "sentences",
        [
            {
                "task": name,
                "best layer": each.best_layer,
                "sentences": each.targets[2],
                "majority": 100 * each.majority,
                **{f"layer {i}": 100 * float(value) for i, value in enumerate(each.accuracy)},
            }
            for name, each in found.items()
        ],
        caption="Accuracy, in percent, of an MLP on the [CLS] vector of each layer, on so many "
        "sentences, beside that of always saying the most frequent answer; high means that the "
        "layer knows the answer. In layer 0 [CLS] is the same for all sentences.",
        source=source,
    )


def add_agreement(report: Report, found: Agreement, *, source: str) -> None:
    """Add how well the vector of a verb tells the number of its subject."""
    counts = [i for i, count in enumerate(found.counts) if count]
    whole = np.nansum(found.accuracy * found.counts, axis=1) / found.counts.sum()
    report.section("Agreement of subject and verb")
    report.text(
        f"The number of the subject is read best off the verb's vector in layer "
        f"{int(whole.argmax())}: {whole.max():.3f} of {int(found.counts.sum()):,} verbs (always "
        f"the more frequent number: {found.majority:.3f})."
    )
    report.chart(
        "agreement",
        lines_by_layer(
            {
                f"{i} attractor{'s' * (i != 1)} ({found.counts[i]:,} verbs)": found.accuracy[:, i]
                for i in counts
            },
            title="accuracy",
        ),
        caption="Accuracy of a probe on the verb's vector, by layer and by the nouns of the other "
        "number that stand between subject and verb; high in spite of many means that the layer "
        "knows the subject, not the nearest noun.",
        source=source,
    )


def add_minimal_pairs(report: Report, found: Sequence[PairScore], *, source: str) -> None:
    """Add how often the right one of two sentences is held for the likelier one."""
    pairs = sum(each.pairs for each in found)
    mean = sum(each.accuracy * each.pairs for each in found) / pairs
    order = sorted(found, key=lambda each: each.accuracy)
    report.section("Minimal pairs")
    report.text(
        f"Of {pairs:,} pairs, the right sentence is the likelier one in {mean:.1%}; best in "
        f"{order[-1].kind} ({order[-1].accuracy:.1%}), worst in {order[0].kind} "
        f"({order[0].accuracy:.1%}). Chance is 50 %."
    )
    report.table(
        "minimal-pairs",
        [
            {"kind": each.kind, "accuracy": 100 * each.accuracy, "pairs": each.pairs}
            for each in reversed(order)
        ],
        caption="How often, in percent, the masked language model gives the right sentence the "
        "greater pseudo-log-likelihood; 50 is chance.",
        source=source,
    )


def add_decompositions(
    report: Report, found: Mapping[str, Mapping[int, Decomposition]], *, source: str
) -> None:
    """Add how well tensor products with roles of each scheme explain sentence vectors.

    Args:
        report: The report.
        found: Scheme to layer to decomposition.
        source: Where the sentences and the network come from.
    """
    layers = sorted({layer for each in found.values() for layer in each})
    best = {layer: min(found, key=lambda scheme: found[scheme][layer].relative) for layer in layers}
    report.section("Roles in sentence vectors")
    explained = {layer: name for layer, name in best.items() if found[name][layer].relative < 1.0}
    if explained:
        named = ", ".join(f"layer {layer}, {scheme}" for layer, scheme in explained.items())
        report.text(f"The scheme that explains the vectors best: {named}.")
    if unexplained := [str(layer) for layer in layers if layer not in explained]:
        report.text(
            "No scheme explains the vectors better than their mean does in layer "
            f"{', '.join(unexplained)}: more sentences may help."
        )
    report.table(
        "decompositions",
        [
            {
                "scheme": scheme,
                **{f"layer {layer}": each[layer].relative for layer in layers if layer in each},
            }
            for scheme, each in found.items()
        ],
        caption="Error of a tensor product decomposition on held-out sentences, as a share of the "
        "variance of their vectors; low means that the roles explain them, 1 that they say "
        "nothing. “random tree” is the control of “tree”.",
        source=source,
    )


def add_spanning_trees(report: Report, found: SpanningTrees, *, source: str) -> None:
    """Add how far the trees of single heads agree with gold trees, beside cheap ones."""
    undirected, directed = found.best
    name = head_name(found.layer, found.head)
    offset = f"{found.offset:+d}"
    report.section("Trees of single heads")
    report.text(
        f"The tree of most attention in head {name} ({found.direction}) joins {undirected:.1%} of "
        f"{found.words:,} words with their heads; joining neighbours, {found.chain:.1%}. In the "
        f"right direction: {directed:.1%}; always the word at {offset}: "
        f"{found.offset_directed:.1%}."
    )
    rows: list[dict[str, str | float]] = [
        {"tree": f"head {name}, {found.direction}", "UUAS": undirected, "UAS": directed},
        {"tree": "neighbours joined", "UUAS": found.chain},
        {"tree": f"the word at {offset} as head", "UAS": found.offset_directed},
        {
            "tree": "mean of all heads",
            "UUAS": float(np.nanmean(found.undirected)),
            "UAS": float(np.nanmean(found.directed)),
        },
    ]
    report.table(
        "spanning-trees",
        [
            {"tree": row["tree"], "UUAS": _percent(row, "UUAS"), "UAS": _percent(row, "UAS")}
            for row in rows
        ],
        caption="Words joined with their head (UUAS) and with the right head (UAS), in percent, "
        "by the maximum spanning tree of a head's attention, the root given; the head and the "
        f"offset were chosen on other Docs than the {found.sentences:,} sentences scored. High, "
        "and above the neighbours, means that one head holds syntax.",
        source=source,
    )


def _percent(row: Mapping[str, str | float], name: str) -> float | None:
    return 100 * float(row[name]) if name in row else None
