"""Pseudo-log-likelihoods equal those taken piece by piece."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer
from transformers import BertForMaskedLM as HfForMaskedLM

from spacy_bert.analysis import minimal_pairs as module
from spacy_bert.analysis.minimal_pairs import (
    MaskedScorer,
    MinimalPair,
    minimal_pairs,
    read_pairs,
)
from tests.conftest import SENTENCES


def test_equal_to_hugging_face_piece_by_piece(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECES", 500)
    scorer = MaskedScorer.load(checkpoint)
    theirs = HfForMaskedLM.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    done: list[int] = []
    found = scorer.score([*SENTENCES, ""], progress=done.append)
    assert sum(done) == len(SENTENCES) + 1
    assert len(done) > 2
    for score, text in zip(found, SENTENCES, strict=False):
        ids = tokenizer(text, return_tensors="pt").input_ids
        expected = 0.0
        for place in range(1, ids.shape[1] - 1):
            masked = ids.clone()
            masked[0, place] = tokenizer.mask_token_id
            with torch.inference_mode():
                logs = theirs(masked).logits[0, place].log_softmax(dim=-1)
            expected += float(logs[ids[0, place]])
        assert score == pytest.approx(expected, abs=1e-3)
    assert found[-1] == 0.0


class Lengths:
    """Holds the shorter sentence for the likelier one."""

    def score(self, sentences: list[str], *, progress: object) -> np.ndarray:
        return np.array([-len(sentence) for sentence in sentences])


def test_accuracy_by_kind() -> None:
    pairs = [
        MinimalPair("a", "bb", "one"),
        MinimalPair("aaa", "b", "other"),
        MinimalPair("a", "bbb", "other"),
        MinimalPair("a", "b", "one"),  # equal scores are not right
    ]
    found = minimal_pairs(Lengths(), pairs)  # type: ignore[arg-type]
    assert [(score.kind, score.accuracy, score.pairs) for score in found] == [
        ("one", 0.5, 2),
        ("other", 0.5, 2),
    ]
    with pytest.raises(ValueError, match="no minimal pairs"):
        minimal_pairs(Lengths(), [])  # type: ignore[arg-type]


def test_files(tmp_path: Path) -> None:
    blimp = {"sentence_good": "A", "sentence_bad": "B", "UID": "kind", "field": "x"}
    other = {"construction": "long", "case": "sing", "sentences": ["A", "B", "C"]}
    file = tmp_path / "pairs.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf8") as stream:
        stream.write(json.dumps(blimp) + "\n\n" + json.dumps(other) + "\n \n")
    assert list(read_pairs(file)) == [
        MinimalPair("A", "B", "kind"),
        MinimalPair("A", "B", "long"),
        MinimalPair("A", "C", "long"),
    ]
    plain = tmp_path / "pairs.jsonl"
    numbers = '{"sentence_good": 1, "sentence_bad": "B", "UID": "x"}'
    empty = '{"sentences": [], "construction": "x"}'
    for line in ('{"sentence_good": "A"}', "[]", "{", empty, numbers):
        plain.write_text(json.dumps(blimp) + "\n" + line + "\n", encoding="utf8")
        with pytest.raises(ValueError, match=r"pairs\.jsonl, line 2: expected sentence_good"):
            list(read_pairs(plain))
