"""What encoders read, pass by pass, whichever copy of the network it is that predicts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from spacy_bert.bert import BertModel, PackedBatch


@contextmanager
def watched() -> Iterator[list[PackedBatch]]:
    """The batches of all passes in the meantime."""
    batches: list[PackedBatch] = []
    forward = BertModel.forward

    def watch(self: BertModel, batch: PackedBatch, **options: Any) -> Any:
        batches.append(batch)
        return forward(self, batch, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BertModel, "forward", watch)
        yield batches
