"""Surface patterns of attention: what each head looks at, and how broadly (Clark et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import entr
from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.analysis.head_maps import (
    Progress,
    WindowMaps,
    kept_heads,
    trace_docs,
    window_maps,
    without_pruned,
)

CLS, SEP = "[CLS]", "[SEP]"
PUNCTUATION = (".", ",")  # what Clark et al. count as such

BROAD = 3.8  # nats: a head of more entropy attends broadly
OFFSET_SHARE = 0.5  # of attention, to the next or the previous piece
TARGET_SHARE = 0.6  # to [CLS], [SEP] or punctuation
PRUNED = "pruned"
OTHER = "other"

_TARGETS = ("self", "next", "previous", CLS, SEP, "punctuation")


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionPatterns:
    """Mean attention of each head to places and kinds of pieces.

    All rows count, those of [CLS] and [SEP] too, as in Clark et al.'s code: [SEP], which has no
    next piece, adds 0 to `to_next`, and [CLS] to `to_previous`. Each piece weighs the same, in
    long texts and short ones. Every array is (layers, heads) float64, NaN for pruned heads.

    Attributes:
        to_self: Share of attention that goes to the piece itself.
        to_next: To the piece behind it.
        to_previous: To the piece before it.
        to_cls: To [CLS].
        to_sep: To any [SEP].
        to_punctuation: To punctuation.
        sep_to_sep: To any [SEP], in the rows of [SEP] alone.
        other_to_sep: To any [SEP], in all other rows.
        entropy: Mean entropy of the rows, in nats.
        cls_entropy: Entropy of the row of [CLS], in nats.
        uniform_entropy: What `entropy` would be of heads that attend to all pieces alike, in nats.
        windows: How many texts (windows) were read.
        pieces: How many rows there were.
    """

    to_self: np.ndarray
    to_next: np.ndarray
    to_previous: np.ndarray
    to_cls: np.ndarray
    to_sep: np.ndarray
    to_punctuation: np.ndarray
    sep_to_sep: np.ndarray
    other_to_sep: np.ndarray
    entropy: np.ndarray
    cls_entropy: np.ndarray
    uniform_entropy: float
    windows: int
    pieces: int

    @property
    def targets(self) -> dict[str, np.ndarray]:
        """What is looked at -> the share of attention that goes there, (layers, heads)."""
        shares = (
            self.to_self,
            self.to_next,
            self.to_previous,
            self.to_cls,
            self.to_sep,
            self.to_punctuation,
        )
        return dict(zip(_TARGETS, shares, strict=True))

    @property
    def labels(self) -> np.ndarray:
        """One word for each head, (layers, heads) of str: the first of these that holds.

        "broad" (entropy over 3.8 nats, which presupposes texts of well over e^3.8 = 45 pieces),
        "next" or "previous" (over half of its attention), "[CLS]", "[SEP]" or "punctuation" (over
        0.6), else "other"; "pruned" of a head that is not there.
        """
        shares = self.targets
        rules = [
            (PRUNED, np.isnan(self.entropy)),
            ("broad", self.entropy > BROAD),
            *((name, shares[name] > OFFSET_SHARE) for name in ("next", "previous")),
            *((name, shares[name] > TARGET_SHARE) for name in (CLS, SEP, "punctuation")),
        ]
        names, conditions = zip(*rules, strict=True)
        found = np.select(list(conditions), [np.array(name, dtype=object) for name in names], OTHER)
        return np.asarray(found)


def attention_patterns(
    nlp: Language,
    docs: Iterable[Doc],
    *,
    component: str | None = None,
    punctuation: Collection[str] = PUNCTUATION,
    progress: Progress | None = None,
) -> AttentionPatterns:
    """What each head looks at: places, special pieces, punctuation (Clark et al. 2019, section 3).

    Args:
        nlp: A pipeline with an encoder.
        docs: The Docs; each window in which one is read counts as a text of its own.
        component: Name of the component whose encoder is meant, if there are several.
        punctuation: The pieces that count as punctuation; full stop and comma, as in the paper.
        progress: Called with 1 after each Doc.

    Raises:
        ValueError: If there are no Docs, or the pipeline has no encoder of spacy_bert's.
    """
    kept = kept_heads(nlp, component)
    sums = _Sums(kept.shape, frozenset(punctuation))
    for maps in window_maps(trace_docs(nlp, docs, component), progress):
        sums.add(maps)
    return sums.result(kept)


class _Sums:
    """Sums over rows of attention, (layers, heads) each."""

    def __init__(self, shape: tuple[int, ...], punctuation: frozenset[str]) -> None:
        self.punctuation = punctuation
        self.targets = {name: np.zeros(shape) for name in _TARGETS}
        self.sep_to_sep, self.entropy, self.cls_entropy = (np.zeros(shape) for _ in range(3))
        self.uniform = 0.0
        self.windows = self.rows = self.sep_rows = 0

    def add(self, maps: WindowMaps) -> None:
        weights, length = maps.weights, len(maps.pieces)
        is_cls, is_sep = maps.is_special(CLS), maps.is_special(SEP)
        is_punctuation = np.array([piece in self.punctuation for piece in maps.pieces])
        to_column = weights.sum(axis=-2, dtype=np.float64)  # (layers, heads, pieces)
        for name, offset in (("self", 0), ("next", 1), ("previous", -1)):
            self.targets[name] += np.trace(weights, offset, axis1=-2, axis2=-1)
        for name, members in ((CLS, is_cls), (SEP, is_sep), ("punctuation", is_punctuation)):
            self.targets[name] += to_column[..., members].sum(axis=-1)
        self.sep_to_sep += weights[:, :, is_sep][..., is_sep].sum(axis=(-2, -1))
        entropy = entr(weights).sum(axis=-1)  # (layers, heads, pieces)
        self.entropy += entropy.sum(axis=-1)
        self.cls_entropy += entropy[..., is_cls].sum(axis=-1)
        self.uniform += length * math.log(length)
        self.windows += 1
        self.rows += length
        self.sep_rows += int(is_sep.sum())

    def result(self, kept: np.ndarray) -> AttentionPatterns:
        def mean(sums: np.ndarray, rows: int) -> np.ndarray:
            return without_pruned(sums / rows, kept)

        shares = [mean(self.targets[name], self.rows) for name in _TARGETS]
        to_self, to_next, to_previous, to_cls, to_sep, to_punctuation = shares
        others = self.targets[SEP] - self.sep_to_sep
        return AttentionPatterns(
            to_self=to_self,
            to_next=to_next,
            to_previous=to_previous,
            to_cls=to_cls,
            to_sep=to_sep,
            to_punctuation=to_punctuation,
            sep_to_sep=mean(self.sep_to_sep, self.sep_rows),
            other_to_sep=mean(others, self.rows - self.sep_rows),
            entropy=mean(self.entropy, self.rows),
            cls_entropy=mean(self.cls_entropy, self.windows),
            uniform_entropy=self.uniform / self.rows,
            windows=self.windows,
            pieces=self.rows,
        )
