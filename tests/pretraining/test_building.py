"""Shards on several cores, in constant memory, resumable."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from spacy_bert.pretraining import building
from spacy_bert.pretraining.building import write_shards
from spacy_bert.pretraining.corpus import Lines
from spacy_bert.pretraining.journal import JOURNAL_FILE, PARTIAL
from spacy_bert.pretraining.shards import Shards
from spacy_bert.wordpiece import WordPiece
from tests.pretraining.conftest import make_documents, records


class Stream:
    """A corpus that is broken off after some documents."""

    fingerprint = "stream"

    def __init__(self, documents: list[list[str]], *, end: int | None = None) -> None:
        self.splitter = Lines()
        self._documents = documents
        self._end = end
        self.given = 0

    def texts(self) -> Iterator[str]:
        for number, document in enumerate(self._documents):
            if number == self._end:
                raise RuntimeError("power cut")
            self.given += 1
            yield "\n".join(document)


@pytest.fixture
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr(building, "_BLOCK_CHARACTERS", 2000)


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.usefixtures("small_blocks")
def test_workers_write_the_same_bytes(wordpiece, tmp_path):
    documents = make_documents(300)
    counts = write_shards(records(documents), tmp_path / "one", wordpiece, dev_share=0.2)
    seen: list[int] = []
    again = write_shards(
        records(documents),
        tmp_path / "two",
        wordpiece,
        dev_share=0.2,
        workers=2,
        progress=seen.append,
    )
    assert again == counts
    assert len(seen) > 5
    assert sum(seen) == 300
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("torn", [False, True])
def test_a_broken_run_goes_on_where_it_was(wordpiece, tmp_path, monkeypatch, torn):
    documents = make_documents(300)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_shards(Stream(documents), whole, wordpiece, dev_share=0.2)
    with pytest.raises(RuntimeError, match="power cut"):
        write_shards(Stream(documents, end=200), broken, wordpiece, dev_share=0.2)
    assert (broken / PARTIAL / JOURNAL_FILE).is_file()
    if torn:  # bytes that were written behind the last entry of the journal
        with (broken / PARTIAL / "train.pieces.bin").open("ab") as stream:
            stream.write(b"half a block")
    encoded = []
    original = building.BlockEncoder.__call__
    monkeypatch.setattr(
        building.BlockEncoder,
        "__call__",
        lambda self, texts: encoded.extend(texts) or original(self, texts),
    )
    write_shards(Stream(documents), broken, wordpiece, dev_share=0.2)
    assert len(encoded) < 150
    assert contents(broken) == contents(whole)


@pytest.mark.usefixtures("small_blocks")
def test_a_broken_run_of_other_inputs_is_given_up_only_if_told(wordpiece, tmp_path):
    documents = make_documents(300)
    with pytest.raises(RuntimeError, match="power cut"):
        write_shards(Stream(documents, end=200), tmp_path, wordpiece, dev_share=0.2)
    before = contents(tmp_path / PARTIAL)
    message = r"unfinished run with other inputs \(not the same: --dev-share\); .* --overwrite"
    with pytest.raises(ValueError, match=message):
        write_shards(Stream(documents), tmp_path, wordpiece, dev_share=0.5)
    assert contents(tmp_path / PARTIAL) == before
    write_shards(Stream(documents), tmp_path, wordpiece, dev_share=0.5, overwrite=True)
    write_shards(Stream(documents), tmp_path / "other", wordpiece, dev_share=0.5)
    for name, content in contents(tmp_path / "other").items():
        assert (tmp_path / name).read_bytes() == content


@pytest.mark.usefixtures("small_blocks")
def test_old_shards_stay_until_the_new_ones_are_there(shard_directory, wordpiece, tmp_path):
    directory = shutil.copytree(shard_directory, tmp_path / "shards")
    with pytest.raises(RuntimeError, match="power cut"):
        write_shards(
            Stream(make_documents(99), end=90), directory, wordpiece, dev_share=0.2, overwrite=True
        )
    old = Shards.open(directory, wordpiece)
    assert len(old.train.pieces) > 0


def test_a_run_that_failed_at_once_leaves_nothing(wordpiece, tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        write_shards(Stream(make_documents(9), end=5), tmp_path, wordpiece, dev_share=0.2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("moved", [1, 6])
def test_a_run_broken_off_while_its_files_are_put_in_place_goes_on(
    wordpiece, tmp_path, monkeypatch, moved
):
    documents = make_documents(300)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_shards(Stream(documents), whole, wordpiece, dev_share=0.2)
    original, calls = Path.replace, []

    def failing(path, target):
        if Path(target).parent == broken:
            calls.append(target)
            if len(calls) > moved:
                raise RuntimeError("power cut")
        return original(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            write_shards(Stream(documents), broken, wordpiece, dev_share=0.2)
    assert len(list(broken.glob("*.bin"))) == moved
    write_shards(Stream(documents), broken, wordpiece, dev_share=0.2)
    assert contents(broken) == contents(whole)


def test_finished_shards_of_the_same_inputs_are_left(wordpiece, tmp_path):
    counts = write_shards(Stream(make_documents(99)), tmp_path, wordpiece, dev_share=0.2)
    again, said = Stream(make_documents(99)), []
    shards = contents(tmp_path)
    assert counts == write_shards(again, tmp_path, wordpiece, dev_share=0.2, say=said.append)
    assert again.given == 0
    assert "already done" in said[0]
    (tmp_path / "dev.pieces.bin").write_bytes(b"damaged")  # is mended
    write_shards(again, tmp_path, wordpiece, dev_share=0.2)
    assert contents(tmp_path) == shards


def test_finished_shards_of_other_inputs_are_replaced_only_if_told(wordpiece, tmp_path):
    write_shards(Stream(make_documents(99)), tmp_path, wordpiece, dev_share=0.2)
    shards = contents(tmp_path)
    tokens = {token: number for number, token in enumerate(wordpiece.tokens)}
    cased = WordPiece.from_vocabulary(tokens, lowercase=False)
    message = r"holds shards of other inputs \(not the same: the tokenizer, --dev-share\)"
    with pytest.raises(ValueError, match=message):
        write_shards(Stream(make_documents(99)), tmp_path, cased, dev_share=0.5)
    assert contents(tmp_path) == shards
    write_shards(Stream(make_documents(99)), tmp_path, cased, dev_share=0.5, overwrite=True)
    assert contents(tmp_path) != shards


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_of_other_files_is_left_alone(wordpiece, tmp_path, overwrite):
    (tmp_path / "run" / PARTIAL).mkdir(parents=True)
    (tmp_path / "run" / PARTIAL / "precious.txt").write_text("text")
    for directory, message in (
        (tmp_path / "run", r"holds other files than shards, such as partial/precious\.txt"),
        (tmp_path / "run" / PARTIAL / "precious.txt", r"precious\.txt: is a file; name a dir"),
        (tmp_path / "run" / PARTIAL / "precious.txt" / "sub", r"precious\.txt: is a file"),
    ):
        with pytest.raises(ValueError, match=message):
            write_shards(
                Stream(make_documents(9)), directory, wordpiece, dev_share=0.2, overwrite=overwrite
            )
    assert (tmp_path / "run" / PARTIAL / "precious.txt").read_text() == "text"


@pytest.mark.usefixtures("small_blocks")
def test_a_damaged_journal_is_named(wordpiece, tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        write_shards(Stream(make_documents(99), end=90), tmp_path, wordpiece, dev_share=0.2)
    (tmp_path / PARTIAL / JOURNAL_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"journal\.json: damaged"):
        write_shards(Stream(make_documents(99)), tmp_path, wordpiece, dev_share=0.2)


def test_memory_does_not_grow_with_the_corpus(wordpiece, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_BLOCK_CHARACTERS", 20_000)
    documents = make_documents(1024)

    def peak(times: int) -> int:
        corpus = Stream(documents * times)
        tracemalloc.start()
        write_shards(corpus, tmp_path / str(times), wordpiece, dev_share=0.1)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(1)  # fills the caches
    assert peak(12) < 1.2 * peak(3)


def test_a_negative_number_of_workers_is_refused(wordpiece, tmp_path):
    with pytest.raises(ValueError, match="--workers must not be negative, got -1"):
        write_shards(Stream([]), tmp_path, wordpiece, dev_share=0.2, workers=-1)
