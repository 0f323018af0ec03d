"""What a frozen encoder has said of a text, kept for the next epochs."""

from __future__ import annotations

import warnings
from typing import TypeAlias

import numpy as np
from spacy.attrs import ORTH, SPACY
from spacy.tokens import Doc
from torch import nn

from spacy_bert.models.changes import Changes

Key: TypeAlias = bytes

MEGABYTE = 1_000_000
OVERHEAD = 200  # bytes of the objects around an entry's arrays, about


class FeatureCache:
    """Features by the content of Docs, in memory, up to a bound.

    Docs of the same text and tokens share an entry, whichever objects they are: `spacy train` makes
    new ones in each epoch. The cache opens with the first training pass: a pipeline that only
    predicts keeps nothing. It is emptied, and closed, when the network is another, or its weights
    have changed. Copies of it, and what is pickled of it, are empty.

    What came first stays: were the oldest thrown out, a set that is larger than the bound would
    never be found in the next epoch.

    Args:
        max_mb: the bound in megabytes; 0 keeps nothing.

    Attributes:
        is_open: whether anything is kept.

    Raises:
        ValueError: if the bound is below 0.
    """

    def __init__(self, max_mb: int) -> None:
        if max_mb < 0:
            raise ValueError(f"cache_mb must be at least 0 (no cache), got {max_mb}")
        self.max_mb = max_mb
        self._changes = Changes()
        self.clear()

    def __reduce__(self) -> tuple[type[FeatureCache], tuple[int]]:
        """For pickle and copies: the bound alone."""
        return FeatureCache, (self.max_mb,)

    def __len__(self) -> int:
        """How many texts are kept."""
        return len(self._features)

    def clear(self) -> None:
        """Forget everything, until the next training pass."""
        self._features: dict[Key, np.ndarray] = {}
        self._bytes = 0
        self.is_open = False
        self._is_full = False

    def attend(self, network: nn.Module, *, is_train: bool) -> None:
        """Take note of the network that is about to be used, and of whether it is for training."""
        if self._changes.seen(network):
            self.clear()
        self.is_open |= is_train and self.max_mb > 0

    def get(self, key: Key) -> np.ndarray | None:
        """The features of a text, not to be changed; None if they are not kept."""
        return self._features.get(key)

    def put(self, key: Key, features: np.ndarray) -> None:
        """Keep a copy of the features of a text, if there is room."""
        if not self.is_open or key in self._features:
            return
        size = features.nbytes + len(key) + OVERHEAD
        if self._bytes + size > self.max_mb * MEGABYTE:
            if not self._is_full:
                self._is_full = True
                warnings.warn(
                    f"LayerFeatures has kept the features of {len(self)} texts, cache_mb = "
                    f"{self.max_mb} megabytes: those of others are computed in each epoch. "
                    "Set cache_mb higher if there is memory",
                    stacklevel=2,
                )
            return
        self._features[key] = np.array(features)
        self._bytes += size


def content_key(doc: Doc) -> Key:
    """What an encoder sees of a Doc: its tokens and the spaces between, and so its segments."""
    key: bytes = doc.to_array([ORTH, SPACY]).tobytes()
    return key
