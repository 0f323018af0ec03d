"""The pre-training loss: masked language model plus next sentence prediction."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from spacy_bert.bert import BertForPreTraining
from spacy_bert.pretraining.batches import PreTrainingBatch


class Losses(NamedTuple):
    """Mean losses of a batch in nats, scalars with their graph.

    Attributes:
        mlm: Cross-entropy of the masked pieces.
        nsp: Cross-entropy of "is next" against "is random".
    """

    mlm: Tensor
    nsp: Tensor

    @property
    def total(self) -> Tensor:
        """The sum of both, which training minimises (Devlin et al. 2018, appendix A.2)."""
        return self.mlm + self.nsp


def pretraining_losses(model: BertForPreTraining, batch: PreTrainingBatch) -> Losses:
    """Both losses of a batch."""
    output = model(batch.packed, batch.masked)
    return Losses(
        mlm=F.cross_entropy(output.mlm_logits, batch.targets),
        nsp=F.cross_entropy(output.nsp_logits, batch.is_random),
    )
