"""Sections on layers: what they say is what was found, and every chart can be drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spacy_bert.analysis.agreement import Agreement
from spacy_bert.analysis.geometry import layer_geometry
from spacy_bert.analysis.layer_charts import layer_map, lines_by_layer
from spacy_bert.analysis.minimal_pairs import PairScore
from spacy_bert.analysis.phrases import PhraseClusters
from spacy_bert.analysis.probe_training import ProbeScores
from spacy_bert.analysis.probing import Probing
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.sections.geometry import add_geometry
from spacy_bert.analysis.sections.probing import add_classical_pipeline, add_probing
from spacy_bert.analysis.sections.similarity import add_similarity, add_stitching
from spacy_bert.analysis.sections.structure import (
    add_agreement,
    add_decompositions,
    add_minimal_pairs,
    add_phrases,
    add_sentences,
)
from spacy_bert.analysis.sentence_probes import SentenceScores
from spacy_bert.analysis.stitching import Stitching
from spacy_bert.analysis.tensor_products import Decomposition

RNG = np.random.default_rng(0)


def scores(*layers: float) -> ProbeScores:
    values = np.array(layers)
    weights = np.full(len(layers), 1 / len(layers))
    rise = np.maximum.accumulate(values)
    return ProbeScores(layers=values, mixture=rise[-1], weights=weights, cumulative=rise)


def probing(task: str, *layers: float) -> Probing:
    return Probing(
        task=task,
        scores=scores(*layers),
        control=scores(*(0.5 * np.array(layers))),
        majority=0.2,
        targets=(100, 40),
        labels=5,
    )


def geometry(report: Report) -> None:
    states = [RNG.normal(size=(200, width)) for width in (3, 9, 4, 8)]
    found = layer_geometry(states, RNG.integers(0, 2, size=200), k=10)
    add_geometry(report, found, source="here")


def probes(report: Report) -> None:
    one, other = probing("part of speech", 0.4, 0.9, 0.8), probing("dependency", 0.3, 0.3, 0.7)
    add_probing(report, {"BERT": one}, source="here")
    add_classical_pipeline(report, [other, one, probing("flat", 0.5, 0.5, 0.5)], source="here")


def probes_that_learned_nothing(report: Report) -> None:
    lost = probing("relation", 0.1, 0.2)
    add_probing(report, {"BERT": lost}, source="here")
    add_classical_pipeline(report, [lost, probing("tag", 0.4, 0.9)], source="here")


def probes_of_two(report: Report) -> None:
    found = {"tuned": probing("tag", 0.4, 0.9), "random": probing("tag", 0.4, 0.5)}
    add_probing(report, found, source="here")


def similarity(report: Report) -> None:
    values = np.array([[1.0, 0.6, 0.2], [0.6, 1.0, 0.7], [0.2, 0.7, 1.0]])
    add_similarity(report, values, one="BERT", other="BERT", source="here")
    add_similarity(report, values, one="BERT", other="tuned", source="here", name="cka-tuned")
    found = [
        Stitching(layer=layer, metric="cats_acc", score=score, original=0.9, losses=(1.0,))
        for layer, score in ((0, 0.8), (2, 0.5))
    ]
    add_stitching(report, found, one="BERT", other="tuned", source="here")


def structure(report: Report) -> None:
    add_phrases(
        report,
        PhraseClusters(
            nmi=np.array([0.1, 0.4, 0.2]),
            kinds=np.array(["A", "B"]),
            texts=["a", "b"],
            vectors=np.zeros((3, 2, 8)),
        ),
        source="here",
    )
    right = np.array([[True, False], [True, True], [False, False]])
    sentences = SentenceScores(right=right, majority=0.5, targets=(8, 2, 2), labels=2)
    add_sentences(report, {"Tense": sentences}, source="here")
    accuracy = np.array([[0.6, 0.5], [0.9, 0.7]])
    padded = np.concatenate([accuracy, np.full((2, 3), np.nan)], axis=1)
    counts = np.array([30, 10, 0, 0, 0])
    add_agreement(report, Agreement(accuracy=padded, counts=counts, majority=0.6), source="here")
    pairs = [
        PairScore(kind="easy", accuracy=0.9, pairs=10),
        PairScore(kind="hard", accuracy=0.3, pairs=30),
    ]
    add_minimal_pairs(report, pairs, source="here")
    add_decompositions(
        report,
        {
            "tree": {1: Decomposition(error=0.1, relative=0.2)},
            "bag of words": {1: Decomposition(error=0.3, relative=0.6)},
        },
        source="here",
    )


SAID = {
    geometry: ["most in layer 1", "layer 2 holds most meaning", "by chance"],
    probes: [
        "read best off layer 1, F1 0.900 (control task 0.450",
        "part of speech (1.00), dependency (2.00)",
        "means nothing, for: flat",
    ],
    probes_that_learned_nothing: [
        "BERT: no probe told relation better than always the most frequent label (0.200)",
        "nothing can be said, for: relation.",
    ],
    probes_of_two: ["tuned: tag", "random: tag is read best off layer 1, F1 0.500"],
    similarity: [
        "from layer 0 to the next: their vectors have a similarity of 0.60",
        "least alike in layer 0 (1.00)",
        "the layer of tuned that is most like it",
        "worst after layer 2: 0.500",
    ],
    structure: [
        "most in layer 1 (mutual information 0.40)",
        "The best layer of each task: Tense 1.",
        "in layer 1: 0.850 of 40 verbs",
        "Of 40 pairs, the right sentence is the likelier one in 45.0%",
        "layer 1, tree",
    ],
}


@pytest.mark.parametrize("add", SAID)
def test_sections(add: Callable[[Report], None], tmp_path: Path) -> None:
    report = Report("T")
    add(report)
    text = report.save(tmp_path).read_text(encoding="utf-8")
    for sentence in SAID[add]:
        assert sentence in text
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    for block in (*record["charts"].values(), *record["tables"].values()):
        assert block["source"] == "here"
        assert block["caption"].endswith(".")
    for name in record["charts"]:
        assert (tmp_path / f"{name}.png").stat().st_size > 2000


def rows(chart: Any) -> list[dict[str, Any]]:
    return chart.to_dict()["data"]["values"]


def test_charts() -> None:
    chart = lines_by_layer({"a": [0.1, float("nan"), 0.3]}, title="t")
    assert [row["layer"] for row in rows(chart)] == [0, 2]
    with pytest.raises(ValueError, match="7 lines cannot be told apart"):
        lines_by_layer({str(i): [0.0] for i in range(7)}, title="t")
    values = np.array([[0.1, np.nan], [0.3, 0.4]])
    found = layer_map(values, x="x", y="y", title="t", domain=(0, 1))
    assert [(r["row"], r["column"]) for r in rows(found)] == [(0, 0), (1, 0), (1, 1)]
