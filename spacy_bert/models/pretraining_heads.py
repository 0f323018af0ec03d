"""What pre-training has on top of the encoder of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from spacy_bert.bert import BertConfig, Pooler, load_pretraining
from spacy_bert.bert.encoder import initialize
from spacy_bert.bert.heads import MaskedLMHead, NextSentenceHead
from spacy_bert.models.encoder import EncoderShim
from spacy_bert.models.hub import find_checkpoint
from spacy_bert.models.shim import Config


class Heads(nn.Module):
    """The heads for masked pieces and for next sentences."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.mlm = MaskedLMHead(config)
        self.nsp = NextSentenceHead(config)


def build_heads(config: Config) -> Heads:
    """The heads for a network's configuration."""
    return Heads(BertConfig.from_dict(config))


def start_heads(encoder: EncoderShim, *, seed: int) -> Heads:
    """The heads of the checkpoint that the encoder is configured with, or fresh ones."""
    config, source = encoder.network.config, encoder.source
    with drawing_from(seed):
        heads = Heads(config)
        if source.name is None or source.config is not None or not source.pretrained:
            return heads
        try:
            path = find_checkpoint(source.name)
        except ValueError:  # the encoder is from a pipeline, and its first checkpoint is gone
            return heads
        saved = load_pretraining(path)
    if saved.config == config:
        heads.mlm, heads.nsp = saved.mlm, saved.nsp
    return heads


def add_pooler(encoder: EncoderShim, *, seed: int) -> None:
    """Give an encoder a fresh pooler, which is saved with it."""
    network = encoder.network
    with drawing_from(seed):
        network.pooler = Pooler(network.config.hidden_size)
        initialize(network.pooler, std=network.config.initializer_range)
    encoder.place(network, {**encoder.cfg, "pooler": True})


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Weights drawn in the block depend on the seed alone, and later ones not on the block."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # not torch.manual_seed: it reaches GPUs too
    try:
        yield
    finally:
        torch.set_rng_state(state)
