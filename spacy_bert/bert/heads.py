"""The pre-training heads: masked language model and next sentence prediction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spacy_bert.bert.config import BertConfig
from spacy_bert.bert.encoder import BertModel, activation, initialize
from spacy_bert.bert.packed import PackedBatch

_NEVER = -1e4  # a logit whose probability is 0, in half precision too


@dataclass(frozen=True, kw_only=True, eq=False)
class PreTrainingOutput:
    """Logits of the two pre-training tasks.

    Attributes:
        mlm_logits: (masked pieces, vocabulary).
        nsp_logits: (sequences, 2), if asked for; label 0 = B follows A.
    """

    mlm_logits: Tensor
    nsp_logits: Tensor | None


class MaskedLMHead(nn.Module):
    """Dense, activation, LayerNorm, then the piece embeddings as decoder (tied) plus a bias.

    Attributes:
        vocabulary_multiple: The decoder works on the vocabulary rounded up to a multiple of this,
            with pieces that cannot be predicted: GPUs multiply such matrices faster. The logits
            then have that width.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.vocabulary_multiple = 1
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.activation = activation(config.hidden_act)
        initialize(self, std=config.initializer_range)

    def forward(self, hidden: Tensor, piece_embeddings: Tensor) -> Tensor:
        """(masked, hidden size) and (vocabulary, hidden size) -> (masked, vocabulary)."""
        transformed = self.norm(self.activation(self.dense(hidden)))
        bias: Tensor = self.bias
        if missing := -len(bias) % self.vocabulary_multiple:
            piece_embeddings = F.pad(piece_embeddings, (0, 0, 0, missing))
            bias = F.pad(bias, (0, missing), value=_NEVER)
        return F.linear(transformed, piece_embeddings, bias)


class NextSentenceHead(nn.Module):
    """A linear layer on the pooled [CLS] vector."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, 2)
        initialize(self, std=config.initializer_range)

    def forward(self, pooled: Tensor) -> Tensor:
        """(sequences, hidden size) -> (sequences, 2)."""
        logits: Tensor = self.linear(pooled)
        return logits


class BertForPreTraining(nn.Module):
    """BERT with both pre-training heads (Devlin et al. 2018, section 3.1).

    Args:
        config: its shape.
        bert: an encoder that stands already, to be shared; by default it is drawn.
        mlm: likewise the head for masked pieces.
        nsp: likewise the head for next sentences.
    """

    def __init__(
        self,
        config: BertConfig,
        *,
        bert: BertModel | None = None,
        mlm: MaskedLMHead | None = None,
        nsp: NextSentenceHead | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.bert = BertModel(config) if bert is None else bert
        self.mlm = MaskedLMHead(config) if mlm is None else mlm
        self.nsp = NextSentenceHead(config) if nsp is None else nsp

    def forward(
        self, batch: PackedBatch, masked: Tensor, *, next_sentence: bool = True
    ) -> PreTrainingOutput:
        """Logits at the masked positions and for every sequence.

        Args:
            batch: the sequences.
            masked: flat indices into `batch.pieces` of the pieces to predict, (masked,) int64.
            next_sentence: whether the logits of next sentence prediction are wanted.
        """
        rows = masked
        if next_sentence:
            starts = torch.from_numpy(batch.starts).to(masked.device, non_blocking=True)
            rows = torch.cat([masked, starts])
        hidden = self.bert(batch, rows=rows).last_hidden_state
        nsp_logits = None
        if next_sentence:
            assert self.bert.pooler is not None
            nsp_logits = self.nsp(self.bert.pooler(hidden[len(masked) :]))
        return PreTrainingOutput(
            mlm_logits=self.mlm(hidden[: len(masked)], self.bert.embeddings.piece.weight),
            nsp_logits=nsp_logits,
        )
