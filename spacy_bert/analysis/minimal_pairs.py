"""Minimal pairs: does the masked language model hold the right sentence for the likelier one?

BLiMP: Warstadt et al. 2020; agreement: Marvin & Linzen 2018; pseudo-log-likelihood: Salazar et al.
2020 (arXiv 1910.14659), equation 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from spacy_bert.bert import BertForPreTraining, PackedBatch, load_pretraining, positions_of
from spacy_bert.models.hub import find_checkpoint
from spacy_bert.pretraining.corpus import open_text
from spacy_bert.wordpiece import WordPiece

PIECES = 4096  # that are read at once


class MinimalPair(NamedTuple):
    """Two sentences, one right and one wrong.

    Attributes:
        good: The right one.
        bad: The wrong one.
        kind: What the pair is about.
    """

    good: str
    bad: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class PairScore:
    """How often the right sentence of a kind of pairs was the likelier one.

    Attributes:
        kind: What the pairs are about.
        accuracy: 0 to 1; .5 is chance.
        pairs: How many there were.
    """

    kind: str
    accuracy: float
    pairs: int


def read_pairs(file: Path) -> Iterator[MinimalPair]:
    """Pairs of a file of JSON lines, packed or not.

    A line has `sentence_good`, `sentence_bad` and `UID` (BLiMP), or `sentences` with the right one
    first, `construction` and `case` (Marvin & Linzen); of several wrong ones, each makes a pair.

    Raises:
        ValueError: If a line has neither form; names file and line.
    """
    with open_text(file) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if "sentence_good" in row:
                    sentences, kind = [row["sentence_good"], row["sentence_bad"]], row["UID"]
                else:
                    sentences, kind = row["sentences"], row["construction"]
                if not all(isinstance(text, str) for text in (*sentences, kind)):
                    raise TypeError("each must be a text")
                good, *wrong = sentences
                for bad in wrong:
                    yield MinimalPair(good, bad, kind)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{file}, line {number}: expected sentence_good, sentence_bad and UID, or "
                    f"sentences and construction ({type(error).__name__}: {error})"
                ) from None


class MaskedScorer:
    """The pseudo-log-likelihood of sentences: each piece is masked in turn.

    Args:
        model: BERT with its head for masked pieces.
        wordpiece: Its vocabulary.
    """

    def __init__(self, model: BertForPreTraining, wordpiece: WordPiece) -> None:
        self._model, self._wordpiece = model.eval(), wordpiece

    @classmethod
    def load(cls, checkpoint: str | Path) -> MaskedScorer:
        """Read a checkpoint that has the head.

        Raises:
            ValueError: If it cannot be read.
        """
        path = find_checkpoint(checkpoint)
        return cls(load_pretraining(path), WordPiece.load(path))

    def score(
        self, sentences: Sequence[str], *, progress: Callable[[int], object] = lambda _: None
    ) -> np.ndarray:
        """The sum over the pieces of log p(piece | all others), (sentences,) in nats.

        Args:
            sentences: The texts; one longer than the network's positions is an error.
            progress: Called with how many sentences more are done.

        Raises:
            ValueError: If a sentence is too long.
        """
        encoded = [ids for ids, _ in self._wordpiece.encode(list(sentences))]
        scores = np.zeros(len(sentences))
        some: list[int] = []
        total = 0
        for number, ids in enumerate(encoded):
            size = len(ids) * (len(ids) + 2)
            if some and total + size > PIECES:
                scores[some] = self._score([encoded[i] for i in some])
                progress(len(some))
                some, total = [], 0
            some.append(number)
            total += size
        if some:
            scores[some] = self._score([encoded[i] for i in some])
            progress(len(some))
        return scores

    @torch.inference_mode()
    def _score(self, sentences: Sequence[np.ndarray]) -> np.ndarray:
        mask, cls, sep = self._wordpiece.mask_id, self._wordpiece.cls_id, self._wordpiece.sep_id
        rows: list[np.ndarray] = []
        masked: list[int] = []
        start = 0
        for ids in sentences:
            whole = np.concatenate([[cls], ids, [sep]])
            for place in range(1, len(ids) + 1):
                row = whole.copy()
                row[place] = mask
                rows.append(row)
                masked.append(start + place)
                start += len(row)
        counts = [len(ids) for ids in sentences]
        if not rows:
            return np.zeros(len(sentences))
        pieces = torch.from_numpy(np.concatenate(rows))
        lengths = tuple(len(row) for row in rows)
        batch = PackedBatch(
            pieces=pieces,
            positions=torch.from_numpy(positions_of(lengths)),
            segments=torch.zeros_like(pieces),
            lengths=lengths,
        )
        output = self._model(batch, torch.tensor(masked), next_sentence=False)
        right = torch.from_numpy(np.concatenate(sentences).astype(np.int64))
        logs = output.mlm_logits.log_softmax(dim=-1)[torch.arange(len(right)), right]
        return np.array([float(part.sum()) for part in logs.split(counts)])


def minimal_pairs(
    scorer: MaskedScorer,
    pairs: Iterable[MinimalPair],
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> list[PairScore]:
    """How often the right sentence is the likelier one, by kind, the kinds in their order.

    Args:
        scorer: Scores sentences.
        pairs: The pairs.
        progress: Called with how many sentences more are done, two for each pair.

    Raises:
        ValueError: If there are no pairs, or a sentence is too long.
    """
    known = list(pairs)
    if not known:
        raise ValueError("there are no minimal pairs")
    scores = scorer.score([text for pair in known for text in pair[:2]], progress=progress)
    right: dict[str, list[bool]] = {}
    for pair, (good, bad) in zip(known, scores.reshape(-1, 2), strict=True):
        right.setdefault(pair.kind, []).append(bool(good > bad))
    return [
        PairScore(kind=kind, accuracy=sum(found) / len(found), pairs=len(found))
        for kind, found in right.items()
    ]
