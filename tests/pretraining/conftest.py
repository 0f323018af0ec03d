"""A small synthetic corpus, its vocabulary and its shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spacy_bert.pretraining.building import write_shards
from spacy_bert.pretraining.corpus import RecordCorpus, TextCorpus
from spacy_bert.pretraining.shards import Shards
from spacy_bert.wordpiece import WordPiece

NOUNS = ["cat", "dog", "fish", "bird", "king", "queen", "ship", "tree", "house", "river"]
VERBS = ["sees", "likes", "finds", "hears", "follows"]
PLACES = ["in the garden", "near the sea", "by the road", "at night", "after the rain"]


def make_documents(number: int, *, seed: int = 0) -> list[list[str]]:
    """Documents of sentences such as "the cat sees the dog at night."; half have one sentence.

    A document keeps to two nouns, so that its sentences go together. Each is unique.
    """
    rng = np.random.default_rng(seed)
    documents = []
    for index in range(number):
        nouns = rng.choice(NOUNS, 2, replace=False)
        size = 1 if rng.random() < 0.5 else int(rng.integers(2, 9))
        document = [f"story {index} is about the {nouns[0]} and the {nouns[1]}."]
        for _ in range(size - 1):
            first, second = rng.permutation(nouns)
            place = "" if rng.random() < 0.3 else f" {rng.choice(PLACES)}"
            document.append(f"the {first} {rng.choice(VERBS)} the {second}{place}.")
        documents.append(document)
    return documents


def write_corpus(file: Path, documents: list[list[str]]) -> Path:
    """Write documents in Google's form."""
    file.write_text("\n\n".join("\n".join(document) for document in documents) + "\n", "utf8")
    return file


def records(documents: list[list[str]]) -> RecordCorpus:
    """Documents in memory as a corpus."""
    return RecordCorpus([{"text": document} for document in documents])


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small models are slower on more threads, and a test machine may be shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> TextCorpus:
    file = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    return TextCorpus(write_corpus(file, make_documents(1200)))


@pytest.fixture(scope="session")
def wordpiece(corpus) -> WordPiece:
    return WordPiece.train(corpus.sentences(), vocab_size=150)


@pytest.fixture(scope="session")
def shard_directory(corpus, wordpiece, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("shards")
    write_shards(corpus, directory, wordpiece, dev_share=0.2)
    return directory


@pytest.fixture(scope="session")
def shards(shard_directory, wordpiece) -> Shards:
    return Shards.open(shard_directory, wordpiece)
