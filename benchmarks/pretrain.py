"""Steps of pre-training: ours beside Hugging Face's `BertForPreTraining`, on the same sequences.

    python benchmarks/pretrain.py --preset mini --length 128 --threads 2 --output result.json
    python benchmarks/pretrain.py --preset base --length 512 --batch-pieces 65536 --device cuda

Both train the same network with the same optimizer on the same batches of real sentences' lengths.
Theirs is padded to the longest sequence of the batch, with `sdpa` and the same precision. Counted
are real pieces, never padding. Rounds of the two alternate; the figures are medians over rounds.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import transformers
import typer
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from spacy_bert.bert import BertConfig, BertForPreTraining
from spacy_bert.pretraining.batches import BatchMaker, BatchSettings, PreTrainingBatch
from spacy_bert.pretraining.config import TrainingSettings
from spacy_bert.pretraining.loading import load_batches
from spacy_bert.pretraining.masking import Masking
from spacy_bert.pretraining.memory import keep_freed_memory
from spacy_bert.pretraining.objective import pretraining_losses
from spacy_bert.pretraining.optimization import build_optimizer
from spacy_bert.pretraining.shards import Split
from spacy_bert.pretraining.throughput import flops_per_piece, peak_flops
from spacy_bert.wordpiece import SPECIAL_TOKENS, WordPiece

Step = Callable[[PreTrainingBatch], Tensor]


def main(
    preset: Annotated[str, typer.Option(help="Size of the network.")] = "mini",
    length: Annotated[int, typer.Option(help="Most pieces of a sequence.")] = 128,
    batch_pieces: Annotated[int, typer.Option(help="Pieces of a batch.")] = 4096,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32 or bf16 (autocast).")] = "fp32",
    dropout: Annotated[float, typer.Option(help="Everywhere, in both networks.")] = 0.0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    rounds: Annotated[int, typer.Option(help="Rounds of each.")] = 5,
    steps: Annotated[int, typer.Option(help="Steps a round.")] = 4,
    compile_theirs: Annotated[bool, typer.Option(help="torch.compile for the peer too.")] = False,
    peer: Annotated[bool, typer.Option(help="Measure the peer at all.")] = True,
    vocab_size: Annotated[int, typer.Option()] = 30_522,
    output: Annotated[Path | None, typer.Option(help="JSON file for the result.")] = None,
) -> None:
    """Measure both and print real pieces a second, their ratio and the use of the device."""
    torch.set_num_threads(threads)
    if device == "cpu":
        keep_freed_memory()  # for both
    where = torch.device(device)
    config = BertConfig.preset(
        preset,
        vocab_size=vocab_size,
        max_position_embeddings=max(512, length),
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    maker = synthetic_maker(vocab_size, length, batch_pieces)
    batches = list(islice(maker.stream(), rounds * steps + 2))
    half = precision == "bf16"
    systems: dict[str, Step] = {"spacy_bert": our_step(config, where, half)}
    if peer:
        systems["transformers"] = their_step(config, where, half, compile_theirs)
    speeds: dict[str, list[float]] = {name: [] for name in systems}
    for step in systems.values():  # warm-up, compilation
        for batch in batches[:2]:
            step(batch).item()
    for number in range(rounds):
        part = batches[2 + number * steps : 2 + (number + 1) * steps]
        pieces = sum(len(batch.packed.pieces) for batch in part)
        for name, step in systems.items():
            started = time.perf_counter()
            for batch in part:
                loss = step(batch)
            loss.item()  # waits for the device
            speeds[name].append(pieces / (time.perf_counter() - started))
    flops = flops_per_piece(
        config,
        length=batch_pieces / statistics.mean(len(batch.packed.lengths) for batch in batches),
        predicted=len(batches[0].targets) / batch_pieces,
    )
    result: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "preset": preset,
        "length": length,
        "batch_pieces": batch_pieces,
        "precision": precision,
        "dropout": dropout,
        "threads": threads,
        "data_pieces_per_second": data_speed(maker, workers=2),
        "pieces_per_second": {name: statistics.median(all_) for name, all_ in speeds.items()},
        "rounds": speeds,
    }
    for name, median in result["pieces_per_second"].items():
        line = f"{name:<13} {median:>10,.0f} real pieces/s  {median * flops / 1e12:8.2f} TFLOP/s"
        if peak := peak_flops(where, 0.0):
            line += f"  MFU {median * flops / peak:.1%}"
        typer.echo(line)
    if peer:
        pairs = zip(speeds["spacy_bert"], speeds["transformers"], strict=True)
        result["ratio"] = statistics.median(ours / theirs for ours, theirs in pairs)
        typer.echo(f"ratio (median of {rounds} rounds) {result['ratio']:.2f}")
    typer.echo(f"batches, two workers {result['data_pieces_per_second']:,.0f} pieces/s")
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")


def synthetic_maker(vocab_size: int, length: int, batch_pieces: int) -> BatchMaker:
    """Batches of random pieces in sentences and documents of natural lengths."""
    rng = np.random.default_rng(0)
    sentences = np.maximum(1, rng.lognormal(3.1, 0.6, 200_000)).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(sentences)])
    documents = np.unique(np.concatenate([[0], np.cumsum(rng.integers(5, 60, 20_000)), [200_000]]))
    split = Split(
        pieces=rng.integers(len(SPECIAL_TOKENS), vocab_size, ends[-1]).astype(np.uint16),
        sentences=ends,
        documents=documents[documents <= 200_000],
    )
    tokens = [*SPECIAL_TOKENS, *(f"w{number}" for number in range(len(SPECIAL_TOKENS), vocab_size))]
    vocabulary = WordPiece.from_vocabulary({token: number for number, token in enumerate(tokens)})
    settings = BatchSettings(sequence_length=length, batch_pieces=batch_pieces)
    return BatchMaker(split, vocabulary, settings=settings, masking=Masking(), seed=0)


def our_step(config: BertConfig, device: torch.device, half: bool) -> Step:
    """One update as `spacy_bert.pretraining.engine` makes it."""
    torch.manual_seed(0)
    model = BertForPreTraining(config).to(device).train()
    if device.type == "cuda":
        model.mlm.vocabulary_multiple = 64
        for layer in model.bert.layers:
            layer.compile()
    optimizer = build_optimizer(model, TrainingSettings(steps=1))

    def step(batch: PreTrainingBatch) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            losses = pretraining_losses(model, batch.to(device))
        losses.total.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return losses.total.detach()

    return step


def their_step(config: BertConfig, device: torch.device, half: bool, compiled: bool) -> Step:
    """One update of a plain loop around transformers' network."""
    torch.manual_seed(0)
    theirs = transformers.BertConfig(**replace(config).to_dict(), attn_implementation="sdpa")
    model = transformers.BertForPreTraining(theirs).to(device).train()
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, eps=1e-6, fused=True)

    def step(batch: PreTrainingBatch) -> Tensor:
        inputs = {name: tensor.to(device) for name, tensor in padded(batch).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss: Tensor = forward(**inputs).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def padded(batch: PreTrainingBatch) -> dict[str, Tensor]:
    """The batch as transformers takes it: rows of equal length, labels on every position."""
    lengths = torch.tensor(batch.packed.lengths)
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    labels = torch.full_like(batch.packed.pieces, -100)
    labels[batch.masked] = batch.targets

    def rows(flat: Tensor, fill: int) -> Tensor:
        table = torch.full(mask.shape, fill)
        table[mask] = flat
        return table

    assert batch.is_random is not None
    return {
        "input_ids": rows(batch.packed.pieces, 0),
        "token_type_ids": rows(batch.packed.segments, 0),
        "attention_mask": mask.long(),
        "labels": rows(labels, -100),
        "next_sentence_label": batch.is_random,
    }


def data_speed(maker: BatchMaker, *, workers: int) -> float:
    """Pieces a second that workers make, once they run."""
    from spacy_bert.pretraining.batches import START

    batches = load_batches(maker, START, workers=workers)
    for _ in range(20):
        next(batches)
    started, pieces = time.perf_counter(), 0
    while time.perf_counter() - started < 5.0:
        pieces += len(next(batches).packed.pieces)
    return pieces / (time.perf_counter() - started)


if __name__ == "__main__":
    typer.run(main)
