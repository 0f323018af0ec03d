from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import spacy
import srsly
from spacy.tokens import DocBin

from spacy_bert.datasets.areas import (
    AREAS,
    MIN_WORDS,
    SPLITS,
    LabelledText,
    area_of,
    mask_module,
    split_modules,
    without_held_out,
)
from spacy_bert.datasets.pydocs import Document

Examples = dict[str, list[LabelledText]]


@pytest.mark.parametrize(
    ("text", "module", "expected"),
    [
        ("ZipFile objects, see zipfile.", "zipfile", "X objects, see X."),
        ("The asyncio locks and blocks", "asyncio.locks", "The X X and blocks"),
        ("call _strptime or strptime()", "_strptime", "call X or X()"),
        ("a re-entrant regular expression", "re", "a X-entrant regular expression"),
    ],
)
def test_mask_module(text: str, module: str, expected: str) -> None:
    assert mask_module(text, module) == expected


def test_areas_name_every_module_once() -> None:
    names = [name for modules in AREAS.values() for name in modules.split()]
    assert len(names) == len(set(names))
    assert area_of("email.message") == "MAIL"
    assert area_of("turtle") is None


def test_splits_are_disjoint_by_module_and_text(examples: Examples) -> None:
    modules = {split: {text.module for text in texts} for split, texts in examples.items()}
    texts = [text.text.lower() for split in examples.values() for text in split]
    assert not modules["train"] & modules["dev"]
    assert not modules["train"] & modules["test"]
    assert not modules["dev"] & modules["test"]
    assert len(texts) == len(set(texts))


def test_every_split_has_every_area_and_none_rules(examples: Examples) -> None:
    total = sum(map(len, examples.values()))
    assert total > 3000
    for split, texts in examples.items():
        areas = Counter(text.area for text in texts)
        assert areas.keys() == AREAS.keys()
        assert max(areas.values()) < 0.4 * len(texts)
        assert len(texts) == pytest.approx(SPLITS[split] * total, rel=0.3)


def test_texts_are_full_and_masked(examples: Examples) -> None:
    for text in (text for texts in examples.values() for text in texts):
        words = {word.lower() for word in re.findall(r"[^\W_]+", text.text)}
        assert not words & {part.strip("_").lower() for part in text.module.split(".")}
        assert len(text.text.split()) >= MIN_WORDS


def test_pretraining_sees_nothing_held_out(docs: list[Document], splits: dict[str, str]) -> None:
    held_out = {module for module, split in splits.items() if split != "train"}
    hidden = {s for doc in docs if doc.source in held_out for s in doc.sentences}
    kept = without_held_out(docs, splits)
    assert not held_out & {doc.source for doc in kept}
    assert not hidden & {sentence for doc in kept for sentence in doc.sentences}
    assert all(doc.sentences for doc in kept)
    assert {doc.source for doc in kept} >= {name for name, s in splits.items() if s == "train"}


def test_the_split_does_not_depend_on_the_order(docs: list[Document]) -> None:
    assert split_modules(reversed(docs)) == split_modules(docs)


def test_files_are_the_same_in_every_process(written: Path, tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, spacy_bert.datasets.embedded as e; e.write_pydocs(pathlib.Path('.'))"
    )
    other_order = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=other_order, check=True)
    docbins = [f"{task}/{split}.spacy" for task in ("textcat", "ner", "qa") for split in SPLITS]
    for name in ["corpus.txt", "stats.json", *docbins]:
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_the_statistics_count_the_files(written: Path) -> None:
    stats = srsly.read_json(written / "stats.json")
    corpus = (written / "corpus.txt").read_text(encoding="utf-8").strip().split("\n\n")
    assert len(corpus) == stats["corpus"]["documents"]
    assert sum(len(doc.split("\n")) for doc in corpus) == stats["corpus"]["sentences"]
    assert stats["python"] == platform.python_version()


def test_the_labelled_files_hold_exclusive_cats(written: Path) -> None:
    stats = srsly.read_json(written / "stats.json")
    vocab = spacy.blank("en").vocab
    for split in SPLITS:
        docs = list(DocBin().from_disk(written / "textcat" / f"{split}.spacy").get_docs(vocab))
        assert len(docs) == stats["textcat"][split]["documents"]
        assert all(sorted(doc.cats.values()) == [0.0] * (len(AREAS) - 1) + [1.0] for doc in docs)
        assert all(set(doc.cats) == set(AREAS) for doc in docs)
