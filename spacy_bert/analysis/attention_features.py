"""The attention between the words of parsed sentences, in a temporary file of bounded memory."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from spacy.language import Language

from spacy_bert.analysis.alignment import average_rows
from spacy_bert.analysis.inside import find_shim
from spacy_bert.analysis.trace import NONE, Trace, UnitTrace
from spacy_bert.analysis.trees import UNREAD, trees

SPECIAL_ROWS = 4  # attention to [CLS], from [CLS], to [SEP], from [SEP]


@dataclass(frozen=True, kw_only=True, eq=False)
class ParsedSentence:
    """A sentence as a parser by attention sees it.

    Attributes:
        attention: Between its words, (heads, words, words) float32, row attends to column.
        special: To [CLS], from [CLS], to [SEP] and from [SEP], (heads, 4, words) float32.
        vectors: A vector for each word, (words, width) float32; of width 0 if none are wanted.
        heads: Where the head of each word stands, (words,) int64; `ROOT` of the root.
        scored: Which words count: no punctuation, and the head is read, (words,) bool.
    """

    attention: np.ndarray
    special: np.ndarray
    vectors: np.ndarray
    heads: np.ndarray
    scored: np.ndarray


class WordVectors:
    """Vectors of words apart from their context: the mean of their pieces' embeddings, of norm 1.

    Args:
        nlp: A pipeline with an encoder.
        component: Name of the component whose encoder is meant, if there are several.
    """

    def __init__(self, nlp: Language, component: str | None) -> None:
        shim = find_shim(nlp, component)
        self._ids = {piece: number for number, piece in enumerate(shim.wordpiece.tokens)}
        table = shim.network.embeddings.piece.weight
        self._table = table.detach().float().cpu().numpy()
        self.width = self._table.shape[1]

    def of_tokens(self, trace: Trace) -> np.ndarray:
        """The vectors of all tokens of a Doc, (tokens, width); zeros of those without pieces."""
        rows = self._table[[self._ids[piece] for piece in trace.pieces]]
        means = average_rows(rows, trace.token_members)
        return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12))


class ParsedSentences:
    """Parsed sentences of any number; their attention waits on disk, as float16.

    Args:
        kept: Which heads there are, (layers, heads) bool: pruned ones are left out.
        vectors: The words' vectors, if they are wanted.
    """

    def __init__(self, kept: np.ndarray, vectors: WordVectors | None = None) -> None:
        self._kept, self._vectors = kept, vectors
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._starts: list[int] = []  # in the file
        self._width = 0 if vectors is None else vectors.width
        self.heads: list[np.ndarray] = []
        self.scored: list[np.ndarray] = []

    def __enter__(self) -> ParsedSentences:
        """Itself; the file is gone when the block ends."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Delete the file."""
        self._file.close()

    def __len__(self) -> int:
        """How many sentences there are."""
        return len(self._starts)

    def add(self, trace: Trace) -> None:
        """Add the sentences of a Doc that have a word to score."""
        units = trace.tokens(special=True)
        weights = units.attention[self._kept]  # (kept heads, units, units)
        cls, sep = (_special(units, name) for name in ("[CLS]", "[SEP]"))
        place = np.zeros(len(trace.doc), dtype=np.int64)
        is_token = units.token_of_unit != NONE
        place[units.token_of_unit[is_token]] = np.flatnonzero(is_token)
        vectors = np.zeros((len(trace.doc), 0))
        if self._vectors is not None:
            vectors = self._vectors.of_tokens(trace)
        for tree in trees(trace.doc, trace.reading.align_lengths > 0):
            scored = (tree.heads != UNREAD) & ~tree.punctuation
            if not scored.any():
                continue
            words = place[tree.words]
            between = weights[:, words[:, None], words]
            # Of several windows' [CLS] or [SEP], that counts which looks at the word most.
            special = [
                part
                for members in (cls, sep)
                for part in (
                    weights[:, words][:, :, members].sum(axis=2),
                    weights[:, members][:, :, words].max(axis=1),
                )
            ]
            maps = np.concatenate([between, np.stack(special, axis=1)], axis=1)
            self._starts.append(self._file.seek(0, os.SEEK_END))
            for part in (maps, vectors[tree.words]):
                self._file.write(part.astype(np.float16).tobytes())
            self.heads.append(tree.heads)
            self.scored.append(scored)

    def __getitem__(self, number: int) -> ParsedSentence:
        """A sentence, read from the file."""
        words, heads = len(self.heads[number]), int(self._kept.sum())
        maps = heads * (words + SPECIAL_ROWS) * words
        self._file.seek(self._starts[number])
        data = self._file.read(2 * (maps + words * self._width))
        values = np.frombuffer(data, dtype=np.float16).astype(np.float32)
        attention = values[:maps].reshape(heads, words + SPECIAL_ROWS, words)
        return ParsedSentence(
            attention=attention[:, :words],
            special=attention[:, words:],
            vectors=values[maps:].reshape(words, self._width),
            heads=self.heads[number],
            scored=self.scored[number],
        )


def _special(units: UnitTrace, name: str) -> np.ndarray:
    """The units that are this special piece; a word of the same letters is none."""
    named = np.array([label == name for label in units.labels])
    return np.flatnonzero(named & (units.token_of_unit == NONE))
