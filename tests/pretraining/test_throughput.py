"""FLOPs of a piece, as a table of known figures has them."""

from __future__ import annotations

import pytest
import torch

from spacy_bert.bert import BertConfig
from spacy_bert.pretraining.throughput import flops_per_piece, peak_flops


@pytest.mark.parametrize(
    ("preset", "length", "gigaflops"),
    [("base", 128, 0.545), ("base", 512, 0.588), ("large", 128, 1.879), ("large", 512, 1.992)],
)
def test_flops_of_the_published_sizes(preset, length, gigaflops):
    flops = flops_per_piece(BertConfig.preset(preset), length=length, predicted=0.15)
    assert flops / 1e9 == pytest.approx(gigaflops, abs=1e-3)


def test_the_peak_is_what_is_stated_or_unknown():
    assert peak_flops(torch.device("cpu"), 0.0) is None
    assert peak_flops(torch.device("cpu"), 1.5) == 1.5e12
