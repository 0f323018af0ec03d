"""Patterns of attention: equal to sums by hand, right on planted maps, pruned heads left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spacy.language import Language

import spacy_bert
from spacy_bert.analysis.attention_patterns import AttentionPatterns, attention_patterns
from spacy_bert.analysis.trace import Trace
from tests.analysis.planted import plant, pruned
from tests.conftest import SENTENCES

LONG = " ".join(SENTENCES * 2)


def by_hand(nlp: Language, texts: list[str], layer: int, head: int) -> dict[str, float]:
    """The same, a weight at a time."""
    names = ["self", "next", "previous", "[CLS]", "[SEP]", "punctuation"]
    sums = dict.fromkeys([*names, "sep_sep", "other_sep", "entropy", "cls_entropy"], 0.0)
    rows = seps = windows = 0
    for trace in spacy_bert.trace(nlp, texts):
        start = 0
        for maps in trace.attentions:
            length = maps.shape[-1]
            pieces = trace.pieces[start : start + length]
            start += length
            windows += 1
            for i, row in enumerate(maps[layer, head].tolist()):
                rows += 1
                seps += pieces[i] == "[SEP]"
                for j, weight in enumerate(row):
                    sums["self"] += weight * (j == i)
                    sums["next"] += weight * (j == i + 1)
                    sums["previous"] += weight * (j == i - 1)
                    sums["[CLS]"] += weight * (pieces[j] == "[CLS]")
                    sums["[SEP]"] += weight * (pieces[j] == "[SEP]")
                    sums["punctuation"] += weight * (pieces[j] in (".", ","))
                    kind = "sep_sep" if pieces[i] == "[SEP]" else "other_sep"
                    sums[kind] += weight * (pieces[j] == "[SEP]")
                    sums["entropy"] -= weight * np.log(weight)
                    sums["cls_entropy"] -= weight * np.log(weight) * (pieces[i] == "[CLS]")
    found = {name: sums[name] / rows for name in [*names, "entropy"]}
    found["cls_entropy"] = sums["cls_entropy"] / windows
    return {
        **found,
        "sep_sep": sums["sep_sep"] / seps,
        "other_sep": sums["other_sep"] / (rows - seps),
    }


@pytest.mark.parametrize("pipeline", ["nlp", "narrow"])
def test_equal_to_sums_by_hand(pipeline: str, request: pytest.FixtureRequest) -> None:
    nlp = request.getfixturevalue(pipeline)
    texts = [*SENTENCES[:3], "One, two.", f"{SENTENCES[0]}\x1e{SENTENCES[2]}"]
    if pipeline == "narrow":
        texts.append(LONG)
    counted: list[int] = []
    docs = [nlp.make_doc(text) for text in texts]
    found = attention_patterns(nlp, docs, progress=counted.append)
    assert counted == [1] * len(texts)
    assert found.to_self.shape == (2, 2)
    for layer, head in np.ndindex(2, 2):
        expected = by_hand(nlp, texts, layer, head)
        got = {name: share[layer, head] for name, share in found.targets.items()}
        got["entropy"] = found.entropy[layer, head]
        got["cls_entropy"] = found.cls_entropy[layer, head]
        got["sep_sep"] = found.sep_to_sep[layer, head]
        got["other_sep"] = found.other_to_sep[layer, head]
        assert got == pytest.approx(expected, abs=1e-5)
    assert found.entropy.max() <= found.uniform_entropy


def shifted(length: int, offset: int) -> np.ndarray:
    """All look `offset` pieces on, or at themselves where there is none."""
    weights = np.eye(length, k=offset)
    rows = np.flatnonzero(weights.sum(axis=1) == 0)
    weights[rows, rows] = 1.0
    return weights


def test_planted_patterns(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    def maps(trace: Trace) -> np.ndarray:
        n = len(trace.pieces)
        to_sep = np.zeros((n, n))
        to_sep[:, -1] = 1.0
        uniform = np.full((n, n), 1 / n)
        return np.stack([shifted(n, 1), shifted(n, -1), to_sep, uniform]).reshape(2, 2, n, n)

    plant(monkeypatch, maps)
    docs = [nlp.make_doc(" ".join(["a"] * 56))]  # ln 58 = 4.06: long enough to be broad
    found = attention_patterns(nlp, docs)
    assert found.labels.tolist() == [["next", "previous"], ["[SEP]", "broad"]]
    n = found.pieces
    assert n == 58
    np.testing.assert_allclose(found.to_next[0, 0], (n - 1) / n)
    np.testing.assert_allclose(found.to_previous[0], [0, (n - 1) / n], atol=1e-7)
    np.testing.assert_allclose(found.sep_to_sep, [[1, 0], [1, 1 / n]], atol=1e-6)
    np.testing.assert_allclose(found.other_to_sep, [[1 / (n - 1), 0], [1, 1 / n]], atol=1e-6)
    np.testing.assert_allclose(found.entropy, [[0, 0], [0, np.log(n)]], atol=1e-5)
    np.testing.assert_allclose(found.cls_entropy[1, 1], np.log(n), rtol=1e-5)
    assert found.uniform_entropy == pytest.approx(np.log(n))


def test_what_only_looks_special_is_not(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    def last_word(trace: Trace) -> np.ndarray:
        maps = np.zeros((2, 2, len(trace.pieces), len(trace.pieces)))
        maps[..., -2] = 1.0
        return maps

    plant(monkeypatch, last_word)
    doc = nlp.make_doc("keys [SEP]")
    assert spacy_bert.trace(nlp, doc).pieces == ["[CLS]", "keys", "[SEP]", "[SEP]"]
    found = attention_patterns(nlp, [doc])
    assert not found.to_sep.any()
    assert (found.labels == "other").all()


def test_pruned_heads_are_left_out(checkpoint: Path, nlp: Language) -> None:
    found = attention_patterns(pruned(checkpoint, {1: [0]}), [nlp.make_doc(SENTENCES[0])])
    whole = attention_patterns(nlp, [nlp.make_doc(SENTENCES[0])])
    for name in ("to_self", "to_sep", "sep_to_sep", "entropy", "cls_entropy"):
        values = getattr(found, name)
        assert np.isnan(values).tolist() == [[False, False], [True, False]]
        np.testing.assert_allclose(values[0], getattr(whole, name)[0], atol=1e-6)
    assert found.labels[1, 0] == "pruned"


def test_labels_take_the_first_that_holds() -> None:
    def filled(**given: float) -> AttentionPatterns:
        names = [f"to_{name}" for name in ("self", "next", "previous", "cls", "sep", "punctuation")]
        names += ["sep_to_sep", "other_to_sep", "entropy", "cls_entropy"]
        arrays = {name: np.full((1, 1), given.get(name, 0.0)) for name in names}
        return AttentionPatterns(**arrays, uniform_entropy=0.0, windows=1, pieces=1)

    for given, label in [
        ({"entropy": 3.81, "to_next": 0.9}, "broad"),
        ({"entropy": 3.8, "to_next": 0.51, "to_punctuation": 0.7}, "next"),
        ({"to_next": 0.5, "to_punctuation": 0.61}, "punctuation"),
        ({"to_previous": 0.51}, "previous"),
        ({"to_cls": 0.61}, "[CLS]"),
        ({"to_sep": 0.6, "to_self": 1.0}, "other"),
    ]:
        assert filled(**given).labels.tolist() == [[label]]


def test_without_docs(nlp: Language) -> None:
    with pytest.raises(ValueError, match="there are no Docs to look at"):
        attention_patterns(nlp, [])
