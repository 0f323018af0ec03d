"""BIO tags: what is encoded comes back, and decoding is as lenient as conlleval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.vocab import Vocab

from spacy_bert.pipeline import bio

LABELS = ("PER", "LOC", "ORG")
TAGS = ["O", *(f"{action}-{label}" for label in LABELS for action in "BI")]
Span = tuple[int, int, str]


def conlleval(tags: list[str]) -> list[Span]:
    """Entities of one sequence, token by token."""
    spans: list[Span] = []
    start = None
    for i, tag in enumerate([*tags, "O"]):
        if start is not None and (tag[0] in "OB" or tag[2:] != tags[start][2:]):
            spans.append((start, i - 1, tags[start][2:]))
            start = None
        if tag != "O" and start is None:
            start = i
    return spans


def decode(sequences: list[list[str]]) -> list[Span]:
    numbers = [TAGS.index(tag) for tags in sequences for tag in tags]
    starts = [i == 0 for tags in sequences for i in range(len(tags))]
    found = bio.decode(np.array(numbers, dtype=np.int64), np.array(starts, dtype=bool))
    return [(a, b, LABELS[k]) for a, b, k in zip(*(x.tolist() for x in found), strict=True)]


@given(st.lists(st.lists(st.sampled_from(TAGS), max_size=12), max_size=4))
def test_decodes_as_conlleval_and_never_over_a_border(sequences: list[list[str]]) -> None:
    expected, offset = [], 0
    for tags in sequences:
        expected += [(a + offset, b + offset, label) for a, b, label in conlleval(tags)]
        offset += len(tags)
    assert decode(sequences) == expected


def test_counts_the_tags_of_annotated_tokens() -> None:
    vocab = Vocab()
    ents = ["B-PER", "I-PER", "O", "O", "B-LOC", "B-OTHER"]
    gold = Doc(vocab, words=list("abcdef"), ents=ents)
    unknown = Doc(vocab, words=list("abc"))
    counts = {"O": 2, "B-PER": 1, "I-PER": 1, "B-LOC": 1}
    expected = np.array([counts.get(tag, 0) + 1 for tag in TAGS]) / 12
    assert np.allclose(bio.frequencies([gold, unknown], LABELS), expected)
    assert np.allclose(bio.frequencies([], LABELS), 1 / 7)


def test_biluo_and_unknown_tags_become_numbers() -> None:
    biluo = ["U-PER", "O", None, "B-ORG", "I-ORG", "L-ORG", "-", ""]
    assert bio.encode(biluo, LABELS).tolist() == [1, 0, -1, 5, 6, 6, -1, -1]
    assert bio.number_of_tags(LABELS) == len(TAGS) == 7
    with pytest.raises(ValueError, match="entity label 'GPE' is not among the labels"):
        bio.encode(["U-GPE"], LABELS)


@given(st.permutations(TAGS), st.integers(0, len(TAGS) - 1))
def test_tags_of_another_order_are_found(names: list[str], absent: int) -> None:
    names = [name for name in names if name == "O" or name != TAGS[absent]]
    labels, places = bio.find_tags(names)
    found = [None if place is None else names[place] for place in places]
    assert found == [name if name in names else None for name in bio.tag_names(labels)]
    assert sorted(place for place in places if place is not None) == list(range(len(names)))
    assert labels == list(dict.fromkeys(name[2:] for name in names if name != "O"))


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        (["O", "B-PER", "I-PER", "L-PER", "U-PER"], "'L-PER' is another"),
        (["O", "B-PER", "I-PER", "E-PER", "S-PER"], "'E-PER' is another"),
        (["NOUN", "VERB"], "'NOUN' is another"),
        (["O", "PER", "LOC"], "'PER' is another"),
        (["O", "B-"], "'B-' is another"),
        (["B-PER", "I-PER"], "there are only B-PER, I-PER"),
        (["O"], "there are only O"),
    ],
)
def test_other_schemes_are_refused(names: list[str], wrong: str) -> None:
    with pytest.raises(ValueError, match=f"tags must be O, B-LABEL and I-LABEL .*; {wrong}"):
        bio.find_tags(names)
