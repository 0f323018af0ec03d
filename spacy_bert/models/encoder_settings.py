"""Where an encoder comes from, and how it is to read Docs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch

from spacy_bert.bert import BertConfig, BertModel, load_config, load_encoder
from spacy_bert.models.budget import pieces_at_once
from spacy_bert.models.hub import find_checkpoint
from spacy_bert.models.layout import LayoutOptions, Slide
from spacy_bert.wordpiece import WordPiece

PredictionPrecision: TypeAlias = Literal["fp32", "bf16", "int8", "auto"]


@dataclass(frozen=True, kw_only=True)
class EncoderSource:
    """Where a new encoder comes from: a checkpoint, or a configuration and a vocabulary.

    Attributes:
        name: a directory or a hub id.
        config: fields of `BertConfig` (or `{"preset": "tiny"}`) for fresh weights.
        vocab: where the vocabulary is, if not with `name`.
        pretrained: False takes only configuration and vocabulary from `name`.
    """

    name: str | None
    config: dict[str, Any] | None
    vocab: str | None
    pretrained: bool

    def load(self) -> tuple[BertModel, WordPiece]:
        """Read the checkpoint or draw the weights.

        Raises:
            ValueError: says which setting is missing, or which file is wrong.
        """
        if self.config is not None:
            wordpiece = WordPiece.load(self._vocabulary(self.vocab))
            fields = {"vocab_size": len(wordpiece), **self.config}
            model = BertModel(BertConfig.from_dict(fields))
        elif self.name is not None:
            path = find_checkpoint(self.name)
            wordpiece = WordPiece.load(path if self.vocab is None else Path(self.vocab))
            model = load_encoder(path) if self.pretrained else BertModel(load_config(path))
        else:
            raise ValueError(
                "[components.bert.model] names no encoder: set `name` to a directory or hub id, "
                "or `config` and `vocab` for fresh weights"
            )
        if len(wordpiece) > model.config.vocab_size:
            raise ValueError(
                f"The vocabulary has {len(wordpiece)} pieces, the network embeds only "
                f"{model.config.vocab_size} (vocab_size): they do not belong together"
            )
        return model, wordpiece

    def width(self) -> int | None:
        """The hidden size, if it can be told without loading weights or asking a hub."""
        try:
            if self.config is not None:
                return BertConfig.from_dict(self.config).hidden_size
            if self.name is not None and Path(self.name).is_dir():
                return load_config(self.name).hidden_size
        except ValueError:
            pass  # said in full when the weights are loaded
        return None

    @staticmethod
    def _vocabulary(vocab: str | None) -> Path:
        if vocab is None:
            raise ValueError(
                "[components.bert.model] has a `config` for fresh weights but no `vocab`: set it "
                "to a vocab.txt, a tokenizer.json or a directory that holds one"
            )
        return Path(vocab)


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """How Docs are read; from the config of the day, never from the saved weights.

    Attributes:
        window: pieces in a window, None for as many as the network has positions.
        stride: pieces between the starts of two windows, None for 3/4 of the window.
        slide: which of two paired segments is cut into windows.
        max_batch_pieces: pieces that the network takes at once; None for what suits the device.
        frozen_layers: layers from the bottom that are not trained, embeddings below them included;
            None trains all.
        mixed_precision: train in bf16 where the device computes in it.
        precision: of predictions; "auto" for what suits the device.
    """

    window: int | None
    stride: int | None
    slide: Slide
    max_batch_pieces: int | None
    frozen_layers: int | None = None
    mixed_precision: bool = False
    precision: PredictionPrecision = "fp32"

    def __post_init__(self) -> None:
        """Refuse what cannot work with any network.

        Raises:
            ValueError: names the setting.
        """
        if self.max_batch_pieces is not None and self.max_batch_pieces < 1:
            raise ValueError(f"max_batch_pieces must be at least 1, got {self.max_batch_pieces}")
        if self.precision not in get_args(PredictionPrecision):
            known = ", ".join(f'"{name}"' for name in get_args(PredictionPrecision))
            raise ValueError(f'precision must be one of {known}, got "{self.precision}"')
        if self.frozen_layers is not None and self.frozen_layers < 0:
            raise ValueError(
                f"frozen_layers must be at least 0 (the embeddings alone), or null for none, "
                f"got {self.frozen_layers}"
            )
        # Without a window the network decides: it is asked when it is there.
        self.layout(positions=self.window or max(512, (self.stride or 0) + 2))

    def pieces_at_once(self, device: torch.device) -> int:
        """How many pieces the network takes at once on a device, in prediction."""
        return pieces_at_once(device, self.max_batch_pieces)

    def layout(self, *, positions: int) -> LayoutOptions:
        """The layout options for a network with so many positions.

        Raises:
            ValueError: if the window is wider than the network, or the stride than the window.
        """
        window = positions if self.window is None else self.window
        if window > positions:
            raise ValueError(
                f"window is {window} pieces, the network has positions for {positions}"
            )
        return LayoutOptions(window=window, stride=self.stride, slide=self.slide)
