"""Sections on what heads look at: the sentences and rows say what the arrays do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from spacy.language import Language

from spacy_bert.analysis.attention_patterns import attention_patterns
from spacy_bert.analysis.head_distances import head_distances
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.sections.attention import add_attention, add_head_distances
from tests.analysis.planted import pruned
from tests.conftest import SENTENCES

SOURCE = "five sentences"


def saved(report: Report, folder: Path) -> dict[str, Any]:
    """The record of a report whose charts have all been drawn."""
    report.save(folder)
    record: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    for part in ("tables", "charts"):
        for name, found in record[part].items():
            assert found["source"] == SOURCE, name
            assert found["caption"].endswith("."), name
            assert found["rows"], name
    for name, chart in record["charts"].items():  # Vega would read such a name as a path
        assert not any(set("[].") & set(field) for row in chart["rows"] for field in row), name
    return record


def test_what_heads_look_at(checkpoint: Path, tmp_path: Path) -> None:
    nlp = pruned(checkpoint, {0: [1]})
    found = attention_patterns(nlp, [nlp.make_doc(text) for text in SENTENCES])
    report = Report("Attention")
    add_attention(report, found, source=SOURCE)
    assert "Of 3 heads, by what they look at: none with a clear pattern." in report.to_html()
    assert "hardly any head can be broad" in report.to_html()
    record = saved(report, tmp_path)
    rows = {row["looks at"]: row for row in record["tables"]["attention-targets"]["rows"]}
    assert list(rows) == ["self", "next", "previous", "[CLS]", "[SEP]", "punctuation"]
    for name, shares in found.targets.items():
        layer, head = map(int, rows[name]["strongest head"].split("-"))
        assert rows[name]["its share"] == shares[layer, head] == np.nanmax(shares)
        assert rows[name]["mean share"] == np.nanmean(shares)
    heads = record["charts"]["attention-heads"]["rows"]
    assert len(heads) == 6 * 3
    assert not any((row["layer"], row["head"]) == (0, 1) for row in heads)
    entropies = record["charts"]["attention-entropy"]["rows"]
    assert sum(row.get("rows") == "from [CLS]" for row in entropies) == 3
    assert len(record["charts"]["attention-sep"]["rows"]) == 3


def test_heads_on_a_map(nlp: Language, tmp_path: Path) -> None:
    docs = [nlp.make_doc(text) for text in SENTENCES]
    found = head_distances(nlp, docs, clusters=2)
    patterns = attention_patterns(nlp, docs)
    report = Report("Distances")
    add_head_distances(report, found, source=SOURCE, patterns=patterns)
    record = saved(report, tmp_path)
    points = record["charts"]["head-map"]["rows"]
    assert {row["head"] for row in points} == {"0-0", "0-1", "1-0", "1-1"}
    assert {row["label"] for row in points} <= set(patterns.labels.ravel().tolist())
    clusters = record["tables"]["head-clusters"]["rows"]
    assert sum(row["heads"] for row in clusters) == 4
    assert sorted(", ".join(row["members"] for row in clusters).split(", ")) == [
        "0-0",
        "0-1",
        "1-0",
        "1-1",
    ]
    without = Report("Distances")
    add_head_distances(without, found, source=SOURCE)
    assert "the mark what a head mostly looks at" not in without.to_html()
