"""Segment pairs for next sentence prediction (Devlin et al. 2018, section 3.1 and appendix A.2).

A pair is two ranges of pieces in a split: A, and B, which follows A in its document or comes from
another document, half of the time each. The paper leaves open how a random B is drawn; done
carelessly, lengths and full stops give the label away. Here everything that shapes a segment
happens before the label is known, and random pairs arise by *exchange*: two pairs of different
documents, whose B have (nearly) the same length, swap them. Therefore

* the lengths of A and B, and whether they are whole sentences, say nothing about the label;
* every document is used, and stands under both labels alike: one of a single sentence is cut
  into two segments at a random piece ("an arbitrary span of contiguous text", as the paper has
  it), and such pairs exchange among themselves.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from spacy_bert.pretraining.reference_pairs import draw_reference_pairs
from spacy_bert.pretraining.segment_pairs import SHORTEST, BoolArray, Pairs
from spacy_bert.pretraining.shards import IntArray, Split

Pairing = Literal["exchange", "consecutive", "reference"]


def draw_pairs(
    split: Split,
    documents: IntArray,
    *,
    max_pieces: int,
    short_share: float,
    rng: np.random.Generator,
    pairing: Pairing = "exchange",
) -> Pairs:
    """Cut documents into pairs and exchange the B of half of them.

    Spans of sentences that follow each other fill up to `max_pieces` pieces, or to a random
    smaller number for a share of them; a span has at least two sentences where the document has.
    It becomes A and B at a random border between sentences. What is still too long loses pieces
    at the outer ends, the longer segment first.

    Args:
        split: Where the documents stand.
        documents: Which ones, (documents,).
        max_pieces: Most pieces of A and B together, [CLS] and [SEP] not counted.
        short_share: Share of the spans that are deliberately short (the paper's .1).
        rng: All chance comes from here.
        pairing: `exchange` as said above; `consecutive` leaves every B behind its A, for objectives
            without next sentence prediction; `reference` draws as Google's code does (see
            `spacy_bert.pretraining.reference_pairs`).

    Returns:
        Pairs in the order of the documents. With `exchange`, half of them are random, within the
        whole-sentence pairs and the others alike (off by at most two pairs each).
    """
    if pairing == "reference":
        return draw_reference_pairs(
            split, documents, max_pieces=max_pieces, short_share=short_share, rng=rng
        )
    borders, source, whole = _cut(split, documents, max_pieces, short_share, rng)
    _trim(borders, whole, max_pieces)
    partner = np.arange(len(borders))
    if pairing == "exchange":
        partner = _exchange(borders, source, whole, max_pieces, rng)
    return Pairs(
        a=borders[:, :2],
        b=borders[partner, 1:],
        is_random=partner != np.arange(len(partner)),
        whole=whole,
    )


def _cut(
    split: Split,
    documents: IntArray,
    max_pieces: int,
    short_share: float,
    rng: np.random.Generator,
) -> tuple[IntArray, IntArray, BoolArray]:
    """Spans as start, middle and end, (pairs, 3); their document; does each have two sentences?"""
    sentences = split.documents[documents + 1] - split.documents[documents]
    most = int(sentences.sum())  # a span consumes at least one sentence
    short = rng.random(most) < short_share
    targets = np.where(short, rng.integers(SHORTEST, max_pieces + 1, most), max_pieces).tolist()
    chances = rng.random(most).tolist()
    borders: list[tuple[int, int, int]] = []
    source: list[int] = []
    whole: list[bool] = []
    for document in documents.tolist():
        bounds = split.bounds(document)
        count = len(bounds) - 1
        first = 0
        while first < count:
            start, target, chance = bounds[first], targets[len(borders)], chances[len(borders)]
            last = min(first + 2, count)
            while last < count and bounds[last + 1] - start <= target:
                last += 1
            if last - first > 1:
                middle = bounds[first + 1 + int(chance * (last - first - 1))]
            else:
                middle = start + 1 + int(chance * (bounds[last] - start - 1))
            borders.append((start, middle, bounds[last]))
            source.append(document)
            whole.append(last - first > 1)
            # A sentence left alone at the end pairs up with the one before it.
            first = last - 1 if last == count - 1 else last
    return np.array(borders), np.array(source), np.array(whole)


def _trim(borders: IntArray, whole: BoolArray, max_pieces: int) -> None:
    """Move the outer ends in until A and B have at most `max_pieces`; the middle stays."""
    start, middle, end = borders.T.copy()
    half = (max_pieces + 1) // 2
    length_a = np.minimum(middle - start, np.maximum(max_pieces - (end - middle), half))
    length_b = np.minimum(end - middle, max_pieces - length_a)
    borders[:, 0], borders[:, 2] = middle - length_a, middle + length_b
    whole &= (start == borders[:, 0]) & (end == borders[:, 2])


def _exchange(
    borders: IntArray, source: IntArray, whole: BoolArray, max_pieces: int, rng: np.random.Generator
) -> IntArray:
    """Whose B each pair takes, (pairs,): its own, or that of a pair of another document.

    Pairs meet whose B have nearly the same length. Where a longer B would not fit beside the
    other A, it loses its last pieces, whether it is then exchanged or not: `borders` and `whole`
    are changed in place.
    """
    partner = np.arange(len(borders))
    for kind in (whole.copy(), ~whole):
        members = rng.permutation(np.flatnonzero(kind))
        length_b = borders[members, 2] - borders[members, 1]
        members = members[np.argsort(length_b, kind="stable")]
        couples = members[: len(members) // 2 * 2].reshape(-1, 2)
        length_a, length_b = np.diff(borders[couples]).transpose(2, 0, 1)
        too_long = (length_a + length_b[:, ::-1]).max(1) > max_pieces
        surplus = np.where(too_long[:, None], length_b - length_b.min(1, keepdims=True), 0)
        borders[couples, 2] -= surplus
        whole[couples] &= (surplus == 0).all(1, keepdims=True)
        possible = couples[source[couples[:, 0]] != source[couples[:, 1]]]
        chosen = rng.permutation(possible)[: (len(members) + 2) // 4]
        partner[chosen] = chosen[:, ::-1]
    return partner
