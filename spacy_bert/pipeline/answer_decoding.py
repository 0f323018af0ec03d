"""From logits of pieces to the best answers of a Doc, as in the paper's code for SQuAD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spacy_bert.models.windows import Windows
from spacy_bert.pipeline.answers import NOWHERE, Answer

Candidate = tuple[int, int, float]  # first character, character behind the last, score


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """How answers are found (Devlin et al. 2018, sections 4.2 and 4.3).

    Attributes:
        n_best: starts and ends to combine in each window, and answers to keep.
        max_answer_pieces: pieces of an answer at most.
        null_answers: whether the context may hold no answer.
        null_threshold: there is none if its score is above that of the best by more than this.
    """

    n_best: int
    max_answer_pieces: int
    null_answers: bool
    null_threshold: float

    def decode(self, text: str, windows: Windows, logits: np.ndarray) -> list[Answer]:
        """The answers, best first; if nothing can be an answer, the null answer alone.

        Args:
            text: of the Doc.
            windows: of the Doc.
            logits: of start and end, (pieces, 2).
        """
        found: dict[tuple[int, int], float] = {}
        for start, end, score in self.candidates(windows, logits):
            found.setdefault((start, end), score)  # contexts share no characters, windows do
            if len(found) == self.n_best:
                break
        answers = [(start, end, score) for (start, end), score in found.items()]
        if self.null_answers or not answers:
            null = float(logits[windows.starts].sum(axis=1).min())
            rank = sum(null - score <= self.null_threshold for *_, score in answers)
            answers.insert(rank, (NOWHERE, NOWHERE, null))
        scores = np.array([score for *_, score in answers])
        probabilities = np.exp(scores - scores.max())
        probabilities /= probabilities.sum()
        return [
            Answer(text[start:end] if start != NOWHERE else "", start, end, score, probability)
            for (start, end, score), probability in zip(
                answers, probabilities.tolist(), strict=True
            )
        ]

    def candidates(self, windows: Windows, logits: np.ndarray) -> Iterator[Candidate]:
        """The `n_best` best starts of each window with its `n_best` best ends, best first.

        An answer lies in the context, and begins in the window that gives its first token most
        context.
        """
        starts = self._best(windows, logits[:, 0], windows.is_second & windows.is_best)
        ends = self._best(windows, logits[:, 1], windows.is_second)
        first, last = starts[:, :, None], ends[:, None, :]
        fits = (first >= 0) & (last >= first) & (last < first + self.max_answer_pieces)
        window, i, j = np.nonzero(fits)
        first, last = starts[window, i], ends[window, j]
        scores = logits[first, 0] + logits[last, 1]
        for k in np.argsort(-scores, kind="stable").tolist():
            start, end = windows.offsets[first[k], 0], windows.offsets[last[k], 1]
            yield int(start), int(end), float(scores[k])

    def _best(self, windows: Windows, logits: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """The `n_best` allowed pieces of each window, best first, (windows, n_best); -1: none."""
        shape = len(windows.lengths), int(windows.lengths.max(initial=0))
        grid = np.full(shape, -np.inf, dtype="f")
        grid[windows.window_of, windows.position_of] = np.where(allowed, logits, -np.inf)
        columns = np.argsort(-grid, axis=1, kind="stable")[:, : self.n_best]
        usable = np.take_along_axis(grid, columns, axis=1) > -np.inf
        return np.where(usable, columns + windows.starts[:, None], -1)
