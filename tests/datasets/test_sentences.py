"""Sentences for the pre-training corpus, cut by spaCy."""

from __future__ import annotations

import pickle

import pytest
import spacy

from spacy_bert.datasets import sentences as module
from spacy_bert.datasets.sentences import SpacySplitter


def test_rules_cut_paragraphs_into_sentences() -> None:
    splitter = SpacySplitter()
    texts = ["It rains. It pours!\n\nThe end", "", "One  here. "]
    expected = [["It rains.", "It pours!", "The end"], [], ["One  here."]]
    assert list(splitter(texts)) == expected
    again = pickle.loads(pickle.dumps(splitter))
    assert list(again(texts)) == expected


def test_a_trained_pipeline_cuts_with_its_own_finder(tmp_path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer", config={"punct_chars": [";"]})
    nlp.add_pipe("entity_ruler")
    nlp.to_disk(tmp_path)
    splitter = SpacySplitter(str(tmp_path))
    assert list(splitter(["a b; c. d"])) == [["a b;", "c. d"]]
    assert splitter.name != SpacySplitter().name


def test_a_pipeline_without_sentences_is_named(tmp_path) -> None:
    spacy.blank("en").to_disk(tmp_path)
    with pytest.raises(ValueError, match="has no senter, sentencizer or parser"):
        list(SpacySplitter(str(tmp_path))(["a"]))


def test_an_unknown_pipeline_or_language_is_one_line() -> None:
    message = "--splitter sentenciser: no such pipeline; use lines, sentencizer or the name or dir"
    with pytest.raises(ValueError, match=message):
        SpacySplitter("sentenciser")
    with pytest.raises(ValueError, match=r"--lang zz: spaCy cannot load .*E048") as caught:
        SpacySplitter(lang="zz")
    assert "\n" not in str(caught.value)


def test_a_paragraph_longer_than_spacy_reads_is_cut_at_spaces(monkeypatch) -> None:
    monkeypatch.setattr(module, "_MAX_CHARACTERS", 10)
    assert list(SpacySplitter()(["one two three four"])) == [["one two", "three four"]]
