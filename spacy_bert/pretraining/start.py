"""Where a run starts: fresh weights, or those of a checkpoint, fitted to the tokenizer at hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from spacy_bert.bert import BertConfig, BertForPreTraining, load_pretraining
from spacy_bert.wordpiece import WordPiece


def start_model(
    config: BertConfig,
    wordpiece: WordPiece,
    *,
    checkpoint: Path | None,
    seed: int,
    unigrams: npt.NDArray[Any] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> BertForPreTraining:
    """The network at step 0.

    Args:
        config: Its shape; `vocab_size` is that of the tokenizer, whatever stands there.
        wordpiece: The tokenizer.
        checkpoint: Directory of the weights to go on from. If its vocabulary is another one, each
            piece takes the vector it had there, and a new piece the mean of the vectors of the
            pieces into which the old vocabulary cuts it.
        seed: Of fresh weights.
        unigrams: Log-probabilities of the pieces, (pieces of the vocabulary,): what a fresh masked
            LM says wherever it is asked. From equal chances (zeros, as in the reference code) the
            first thing that the network learns is to make all its vectors alike, in the direction
            of the frequent pieces.
        say: Takes a line on what of the checkpoint could not be taken over.

    Raises:
        ValueError: If the checkpoint cannot be read.
    """
    torch.manual_seed(seed)
    config = replace(config, vocab_size=len(wordpiece))
    if checkpoint is None:
        model = BertForPreTraining(config)
        if unigrams is not None:
            with torch.no_grad():
                model.mlm.bias.copy_(torch.from_numpy(unigrams))
        return model
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        old = load_pretraining(checkpoint)
    for warning in caught:
        say(str(warning.message))
    known = WordPiece.load(checkpoint)
    sources = piece_sources(known, wordpiece)
    fresh = len(set(wordpiece.tokens).difference(known.tokens))
    if fresh:
        say(
            f"{fresh:,} of {len(wordpiece):,} pieces are not in the vocabulary of {checkpoint}: "
            "each starts as the mean of those it was cut into"
        )
    model = BertForPreTraining(config)
    weights = old.state_dict()
    for name in ("bert.embeddings.piece.weight", "mlm.bias"):
        weights[name] = _mean_rows(weights[name], sources)
    model.load_state_dict(weights)
    return model


def repeat_positions(model: BertForPreTraining, *, known: int, length: int) -> None:
    """Let positions that no sequence has had begin with the embeddings of the known ones.

    They repeat those of 1 to `known` - 1, whose neighbours then are neighbours too; the first one
    is that of [CLS] alone.

    Args:
        model: The network.
        known: Positions that were trained, from 0 on.
        length: Positions that will be needed.
    """
    table = model.bert.embeddings.position.weight
    new = torch.arange(known, length, device=table.device)
    with torch.no_grad():
        table[new] = table[1 + (new - 1) % (known - 1)]


def piece_sources(old: WordPiece, new: WordPiece) -> list[list[int]]:
    """For each piece of the new vocabulary the old ids that say the same."""
    ids = {token: number for number, token in enumerate(old.tokens)}
    sources = []
    for token in new.tokens:
        if token in ids:
            sources.append([ids[token]])
        elif token.startswith("##"):
            # Cut as if it began a word; its first piece then stands inside one, if there is such.
            first, *rest = old.encode_ids([token[2:]])[0].tolist()
            sources.append([ids.get(f"##{old.tokens[first]}", first), *rest])
        else:
            sources.append(old.encode_ids([token])[0].tolist() or [old.unk_id])
    return sources


def _mean_rows(rows: Tensor, sources: list[list[int]]) -> Tensor:
    return torch.stack([rows[source].mean(0) for source in sources])
