"""Pruning: heads are cut out of the network for good (Michel et al. 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor

from spacy_bert.bert.encoder import BertLayer, BertModel, SelfAttention


def prune_heads(model: BertModel, heads: Mapping[int, Iterable[int]]) -> BertModel:
    """A network without these heads: it says what the whole one says with their gates at 0.

    Rows of the projections to queries, keys and values go, and columns of the output projection.
    Of a layer without heads the output projection's bias is left.

    Args:
        model: stays as it is.
        heads: layer, from 0, to numbers of heads as before any pruning; what was pruned already may
            be named again.

    Raises:
        ValueError: if there is no such layer or head.
    """
    before = model.config
    together = {
        layer: {*before.pruned_heads.get(layer, ()), *heads.get(layer, ())}
        for layer in {*before.pruned_heads, *heads}
    }
    config = dataclasses.replace(before, pruned_heads=together)
    pruned = BertModel(config, pooler=model.pooler is not None)
    state = model.state_dict()
    for number, module in enumerate(model.layers):
        attention = cast(BertLayer, module).attention
        kept = [before.kept_heads(number).index(head) for head in config.kept_heads(number)]
        if len(kept) < attention.heads:
            state.update(_cut(attention, kept, f"layers.{number}.attention"))
    pruned.load_state_dict(state)
    return pruned.to(next(model.parameters()).device).train(model.training)


def _cut(attention: SelfAttention, kept: list[int], prefix: str) -> dict[str, Tensor]:
    """The parameters of a layer's attention with these of its heads alone."""
    qkv, output, heads = attention.qkv, attention.output, attention.heads
    index = torch.tensor(kept, dtype=torch.int64, device=output.weight.device)
    rows = qkv.weight.unflatten(0, (3, heads, -1)).index_select(1, index)
    biases = qkv.bias.unflatten(0, (3, heads, -1)).index_select(1, index)
    columns = output.weight.unflatten(1, (heads, -1)).index_select(1, index)
    return {
        f"{prefix}.qkv.weight": rows.flatten(0, 2),
        f"{prefix}.qkv.bias": biases.flatten(),
        f"{prefix}.output.weight": columns.flatten(1),
    }
