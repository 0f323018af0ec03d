"""What a model is scored on: a fixed dev set, and the unigram model that it has to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from spacy_bert.bert import BertForPreTraining
from spacy_bert.pretraining.batches import BatchMaker, PreTrainingBatch
from spacy_bert.pretraining.segment_pairs import BoolArray, Pairs
from spacy_bert.pretraining.shards import Split

_DEV_SEED = 0  # the same for every run, so that runs can be compared
_PIECES_AT_A_TIME = 1 << 24


@dataclass(frozen=True, kw_only=True)
class DevScores:
    """Scores on the dev set.

    Attributes:
        mlm_loss: Mean cross-entropy of the masked pieces, in nats.
        perplexity: Its exponential.
        nsp_accuracy: Share of right next-sentence decisions on the balanced, uncut pairs; None for
            objectives without next sentence prediction.
    """

    mlm_loss: float
    perplexity: float
    nsp_accuracy: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class DevSet:
    """Pairs of all dev documents with masks drawn once.

    Masked pieces are scored in all pairs. Next sentence is scored on `nsp_pairs` alone: whole
    sentences, nothing cut off, as many random ones as true ones.

    Attributes:
        batches: All pairs in packed batches.
        nsp_pairs: The pairs on which next sentence is scored.
        nsp_scored: Which sequences these are in the batches, (sequences,) bool.
    """

    batches: tuple[PreTrainingBatch, ...]
    nsp_pairs: Pairs
    nsp_scored: BoolArray

    @classmethod
    def build(
        cls,
        maker: BatchMaker,
        split: Split,
        *,
        max_pieces: int,
        next_sentence: bool = True,
    ) -> DevSet:
        """Draw the dev set of a split, always the same one.

        Args:
            maker: Draws pairs and lays out batches.
            split: Of the documents.
            max_pieces: Documents are taken, from the first on, until they have so many pieces.
            next_sentence: Whether next sentence is scored.

        Raises:
            ValueError: If next sentence is to be scored but no document has two sentences short
                enough to be used uncut.
        """
        rng = np.random.default_rng(_DEV_SEED)
        ends = split.sentences[split.documents[1:]]
        count = max(int(np.searchsorted(ends, max_pieces)), min(2, split.document_count))
        pairs = maker.pairs(np.arange(count), rng)
        # Equal lengths side by side make the batches cheap for the network.
        pairs = pairs.take(np.argsort(pairs.lengths, kind="stable"))
        scored = _balanced(pairs, rng)
        if next_sentence and not scored.any():
            raise ValueError(
                "the dev split has no uncut sentence pairs: raise [data] sequence_length, or give "
                "`prepare` a larger --dev-share"
            )
        return cls(
            batches=tuple(maker.whole_pairs(pairs, rng)),
            nsp_pairs=pairs.take(scored),
            nsp_scored=scored,
        )

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Ids of all masked pieces, (masked,) int64."""
        return np.concatenate([batch.targets.numpy() for batch in self.batches])

    @torch.inference_mode()
    def score(self, model: BertForPreTraining, device: torch.device) -> DevScores:
        """Score a model, without dropout; it is left in training mode if it was."""
        was_training = model.training
        model.eval()
        loss = torch.zeros((), dtype=torch.float64, device=device)
        right: list[torch.Tensor] = []
        for batch in self.batches:
            batch = batch.to(device)
            wanted = batch.is_random is not None
            output = model(batch.packed, batch.masked, next_sentence=wanted)
            loss += F.cross_entropy(output.mlm_logits.float(), batch.targets, reduction="sum")
            if output.nsp_logits is not None and batch.is_random is not None:
                right.append(output.nsp_logits.argmax(1) == batch.is_random)
        model.train(was_training)
        mean = loss.item() / sum(len(batch.targets) for batch in self.batches)
        return DevScores(
            mlm_loss=mean,
            perplexity=math.exp(min(mean, 700.0)),
            nsp_accuracy=(
                float(torch.cat(right).cpu().numpy()[self.nsp_scored].mean()) if right else None
            ),
        )


def unigram_log_probabilities(train: Split, *, vocab_size: int) -> npt.NDArray[np.float64]:
    """The unigram model of the training split, (vocab_size,), in nats.

    It counts every piece of the split, plus one for each piece of the vocabulary.
    """
    counts = np.ones(vocab_size)
    for start in range(0, len(train.pieces), _PIECES_AT_A_TIME):
        counts += np.bincount(train.pieces[start : start + _PIECES_AT_A_TIME], minlength=vocab_size)
    logs: npt.NDArray[np.float64] = np.log(counts / counts.sum())
    return logs


def unigram_cross_entropy(train: Split, pieces: npt.NDArray[Any], *, vocab_size: int) -> float:
    """Mean cross-entropy, in nats, of pieces under the training split's unigram model."""
    logs = unigram_log_probabilities(train, vocab_size=vocab_size)
    seen = np.bincount(pieces, minlength=vocab_size)
    return float(-(seen @ logs) / seen.sum())


def _balanced(pairs: Pairs, rng: np.random.Generator) -> BoolArray:
    """Which pairs of whole sentences to keep so that both labels are equally frequent."""
    labels = [np.flatnonzero(pairs.whole & (pairs.is_random == label)) for label in (False, True)]
    size = min(map(len, labels))
    kept = np.zeros(len(pairs), dtype=bool)
    for members in labels:
        kept[rng.permutation(members)[:size]] = True
    return kept
