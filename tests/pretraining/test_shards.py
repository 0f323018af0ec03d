"""Documents -> memory-mapped shards, and what is refused when they are opened."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest

from spacy_bert.pretraining.building import write_shards
from spacy_bert.pretraining.shards import MANIFEST_FILE, Shards
from spacy_bert.wordpiece import SPECIAL_TOKENS, WordPiece
from tests.pretraining.conftest import make_documents, records


def read_back(split, wordpiece) -> list[list[list[int]]]:
    documents = []
    for number in range(split.document_count):
        bounds = split.bounds(number)
        documents.append([split.pieces[a:b].tolist() for a, b in pairwise(bounds)])
    return documents


def test_every_document_is_in_one_split_piece_by_piece(corpus, wordpiece, shards):
    expected = [[ids.tolist() for ids in wordpiece.encode_ids(document)] for document in corpus]
    train, dev = (read_back(split, wordpiece) for split in (shards.train, shards.dev))
    assert sorted(train + dev) == sorted(expected)
    assert 0.15 < len(dev) / len(expected) < 0.25
    for split, counts in shards.manifest["counts"].items():
        part = getattr(shards, split)
        assert counts["documents"] == part.document_count
        assert counts["sentences"] == part.sentence_count
        assert counts["pieces"] == len(part.pieces)
    assert shards.train.pieces.dtype == np.uint16


def test_the_split_depends_on_the_document_alone(corpus, wordpiece, shards, tmp_path):
    half = list(corpus)[::-2]
    write_shards(records([*half, *half]), tmp_path, wordpiece, dev_share=0.2)
    again = Shards.open(tmp_path, wordpiece)
    dev = {json.dumps(document) for document in read_back(shards.dev, wordpiece)}
    train = {json.dumps(document) for document in read_back(shards.train, wordpiece)}
    for document in read_back(again.dev, wordpiece):
        assert json.dumps(document) in dev
    for document in read_back(again.train, wordpiece):
        assert json.dumps(document) in train


def test_two_runs_write_the_same_bytes(corpus, wordpiece, shard_directory, tmp_path):
    write_shards(corpus, tmp_path, wordpiece, dev_share=0.2)
    names = {file.name for file in shard_directory.iterdir()}
    assert names == {file.name for file in tmp_path.iterdir()}
    assert len(names) == 7
    for name in names:
        assert (tmp_path / name).read_bytes() == (shard_directory / name).read_bytes()


def test_a_large_vocabulary_takes_four_bytes(tmp_path):
    words = [f"w{number}" for number in range(70_000)]
    tokens = [*SPECIAL_TOKENS, *words]
    wordpiece = WordPiece.from_vocabulary({token: number for number, token in enumerate(tokens)})
    documents = [[f"{word} {word}"] for word in words[-100:]]
    write_shards(records(documents), tmp_path, wordpiece, dev_share=0.5)
    shards = Shards.open(tmp_path, wordpiece)
    assert shards.train.pieces.dtype == np.int32
    assert shards.train.pieces.max() > 65_535


def test_documents_that_cannot_be_cut_in_two_are_left_out(wordpiece, tmp_path):
    documents = [["."], ["\x01\x02"], *make_documents(50)]
    counts = write_shards(records(documents), tmp_path, wordpiece, dev_share=0.5)
    assert sum(part.documents for part in counts.values()) == 50


@pytest.fixture
def broken(shard_directory, tmp_path):
    """A copy of the shards to be broken."""
    return shutil.copytree(shard_directory, tmp_path / "broken")


def test_truncated_shards_are_refused(broken, wordpiece):
    file = broken / "train.pieces.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"train\.pieces\.bin: has \d+ bytes, the manifest says"):
        Shards.open(broken, wordpiece)


def test_altered_shards_are_refused(broken, wordpiece):
    file = broken / "dev.sentences.bin"
    data = bytearray(file.read_bytes())
    data[8] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"dev\.sentences\.bin: sha256"):
        Shards.open(broken, wordpiece)
    Shards.open(broken, wordpiece, verify_checksums=False)


def test_shards_of_another_vocabulary_are_refused(broken, corpus):
    other = WordPiece.train(corpus.sentences(), vocab_size=120)
    with pytest.raises(ValueError, match=r"manifest\.json: vocab_hash .* another vocabulary"):
        Shards.open(broken, other)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "not JSON"),
        ("[]", "format is not"),
        ('{"format": "other"}', "format is not"),
        ('{"format": "spacy_bert.shards.v1", "files": {}}', "vocab_hash or files are missing"),
    ],
)
def test_a_broken_manifest_is_refused(broken, wordpiece, manifest, message):
    (broken / MANIFEST_FILE).write_text(manifest)
    with pytest.raises(ValueError, match=rf"manifest\.json: {message}"):
        Shards.open(broken, wordpiece)


@pytest.mark.parametrize("name", [MANIFEST_FILE, "dev.documents.bin"])
def test_a_missing_file_is_named(broken, wordpiece, name):
    (broken / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: not found"):
        Shards.open(broken, wordpiece)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_dev_share_out_of_range_is_refused(wordpiece, tmp_path, share):
    with pytest.raises(ValueError, match="--dev-share must lie between 0 and 1"):
        write_shards(records(make_documents(10)), tmp_path, wordpiece, dev_share=share)


def test_an_empty_split_is_refused_and_leaves_nothing(wordpiece, tmp_path):
    with pytest.raises(ValueError, match="the dev split has 0 documents"):
        write_shards(records(make_documents(10)), tmp_path, wordpiece, dev_share=1e-9)
    assert list(tmp_path.iterdir()) == []
