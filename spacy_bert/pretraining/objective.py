"""The pre-training loss: masked (or left-to-right) language model, next sentence prediction."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from spacy_bert.bert import PreTrainingOutput
from spacy_bert.pretraining.batches import PreTrainingBatch


class Losses(NamedTuple):
    """Mean losses of a batch in nats, scalars with their graph.

    Attributes:
        mlm: Cross-entropy of the masked pieces, or of the following ones (`ltr`).
        nsp: Cross-entropy of "is next" against "is random"; None for objectives without it.
    """

    mlm: Tensor
    nsp: Tensor | None

    @property
    def total(self) -> Tensor:
        """The sum of both, which training minimises (Devlin et al. 2018, appendix A.2)."""
        return self.mlm if self.nsp is None else self.mlm + self.nsp


def pretraining_losses(model: nn.Module, batch: PreTrainingBatch) -> Losses:
    """The losses of a batch: next sentence prediction if the batch has labels for it.

    `model` is a `BertForPreTraining`, or what wraps one.
    """
    wanted = batch.is_random is not None
    output: PreTrainingOutput = model(batch.packed, batch.masked, next_sentence=wanted)
    nsp = None
    if output.nsp_logits is not None and batch.is_random is not None:
        nsp = F.cross_entropy(output.nsp_logits.float(), batch.is_random)
    return Losses(mlm=F.cross_entropy(output.mlm_logits.float(), batch.targets), nsp=nsp)
