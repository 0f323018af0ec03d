"""Fixtures for all tests: a small checkpoint with its vocabulary."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported, for this process and the commands it starts: two threads beside another
# busy process are many times slower than one, and the models here are small.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

from spacy_bert.bert import BertConfig, BertForPreTraining, PackedBatch, save_pretrained
from spacy_bert.wordpiece import WordPiece
from tests.passes import watched

# A slow machine must not fail a property.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Photosynthesis converts light energy into chemical energy inside the cells of plants.",
    "Does the function return a string, or does it raise an error?",
    "Naïve readers of façades said: it isn't far away (1848, Paris).",
    "A dictionary maps keys to values; a list keeps values in order.",
]


@pytest.fixture
def batches() -> Iterator[list[PackedBatch]]:
    """What encoders read in a test, pass by pass."""
    with watched() as found:
        yield found


@pytest.fixture(scope="session")
def wordpiece() -> WordPiece:
    """A small uncased vocabulary."""
    return WordPiece.train(SENTENCES * 4, vocab_size=220)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, wordpiece: WordPiece) -> Path:
    """A directory with a tiny random BERT (2 layers, 128 wide, 64 positions) and its vocabulary."""
    path = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    config = BertConfig.preset("tiny", vocab_size=len(wordpiece), max_position_embeddings=64)
    save_pretrained(BertForPreTraining(config), path)
    wordpiece.save(path)
    return path
