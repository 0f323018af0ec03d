"""Token vectors of all layers on disk, so that probes cost one pass and little memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.analysis.tracing import trace


class TokenVectors:
    """The vectors of all tokens of some Docs in all layers, memory-mapped.

    A token has the mean of its pieces, in half precision: 2 * layers * hidden size bytes. Used in a
    `with` statement; the file is gone afterwards.

    Args:
        nlp: A pipeline with an encoder.
        docs: The Docs.
        component: Name of the component whose encoder is meant, if there are several.
        directory: Where the file goes; by default a temporary directory.
        progress: Called with how many Docs more are done.
    """

    def __init__(
        self,
        nlp: Language,
        docs: Sequence[Doc],
        *,
        component: str | None = None,
        directory: Path | None = None,
        progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.docs = docs
        self._starts = np.cumsum([0, *(len(doc) for doc in docs)])
        self._folder = tempfile.TemporaryDirectory(dir=directory, prefix="vectors-")
        self._rows: np.memmap | None = None
        for number, own in enumerate(trace(nlp, docs, component=component)):
            states = own.tokens().hidden.transpose(1, 0, 2)
            if self._rows is None:
                self._rows = np.memmap(
                    Path(self._folder.name) / "vectors.f16",
                    dtype=np.float16,
                    mode="w+",
                    shape=(int(self._starts[-1]), *states.shape[1:]),
                )
            self._rows[self._starts[number] : self._starts[number + 1]] = states
            progress(1)

    @property
    def layers(self) -> int:
        """How many there are, the embeddings among them."""
        return int(self.rows.shape[1])

    @property
    def width(self) -> int:
        """The hidden size."""
        return int(self.rows.shape[2])

    @property
    def rows(self) -> np.ndarray:
        """(tokens of all Docs, layers, width) float16.

        Raises:
            ValueError: If there are no Docs, or the file is gone.
        """
        if self._rows is None:
            raise ValueError("there are no Docs to take vectors of")
        return self._rows

    def spans(self, places: Sequence[tuple[int, int, int]]) -> tuple[np.ndarray, list[int]]:
        """The vectors of spans, one behind the other.

        Args:
            places: Number of the Doc, first token, token behind the last.

        Returns:
            (tokens, layers, width) float32, and the tokens of each span.
        """
        starts = self._starts
        index = [np.arange(starts[doc] + first, starts[doc] + end) for doc, first, end in places]
        lengths = [len(each) for each in index]
        return self.rows[np.concatenate(index)].astype(np.float32), lengths

    def __enter__(self) -> TokenVectors:
        """The vectors."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the file."""
        self._rows = None
        self._folder.cleanup()
