"""The pre-training loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from spacy_bert.bert import BertForPreTraining
from spacy_bert.files import replacing
from spacy_bert.pretraining.batches import START, BatchMaker, PreTrainingBatch
from spacy_bert.pretraining.checkpoints import (
    Progress,
    find_checkpoints,
    restore,
    save_checkpoint,
    write_model,
)
from spacy_bert.pretraining.config import SEEDS, PretrainConfig
from spacy_bert.pretraining.distributed import Process, joined
from spacy_bert.pretraining.evaluation import DevScores, DevSet, unigram_log_probabilities
from spacy_bert.pretraining.loading import load_batches
from spacy_bert.pretraining.log import Meter, TrainingLog
from spacy_bert.pretraining.memory import keep_freed_memory
from spacy_bert.pretraining.objective import pretraining_losses
from spacy_bert.pretraining.optimization import build_optimizer, set_rate
from spacy_bert.pretraining.phases import Phase
from spacy_bert.pretraining.report import describe, final_metrics
from spacy_bert.pretraining.run_directory import (
    BEST,
    CONFIG_FILE,
    LAST,
    LOG_FILE,
    METRICS_FILE,
    clear_earlier_run,
)
from spacy_bert.pretraining.shards import Shards
from spacy_bert.pretraining.signals import Stop, stop_signals
from spacy_bert.pretraining.start import repeat_positions, start_model
from spacy_bert.pretraining.throughput import flops_per_piece, peak_flops
from spacy_bert.pretraining.tracking import start_trackers
from spacy_bert.wordpiece import WordPiece


def pretrain(
    config: PretrainConfig,
    output: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> dict[str, Any]:
    """Pre-train a network.

    Under `torchrun` the batches of each step are shared out among the processes; the result is the
    same, but for rounding, whatever their number.

    Args:
        config: What to do.
        output: Directory for `config.cfg`, `log.jsonl`, `metrics.json`, `checkpoints` to go on
            from, and two models, `model-last` and `model-best` (by dev MLM loss): Hugging Face
            directories with the tokenizer in them.
        overwrite: Delete what an earlier run left in `output`.
        resume: Go on from the newest checkpoint in `output`, if there is one. On a CPU with the
            same number of threads and processes, the weights become the very same as if the run
            had never stopped.

    Returns:
        The content of `metrics.json`: scores of the last model, beside the unigram model and the
        NSP baselines on the same dev set.

    Raises:
        ValueError: If shards, tokenizer or device are not as the config says, or `output` holds
            another run already.
        OSError: If a checkpoint cannot be written; earlier ones are left as they were.
        KeyboardInterrupt: On Ctrl-C, after a checkpoint has been written.
        SystemExit: On SIGTERM, after a checkpoint has been written.
        FloatingPointError: If the loss is no longer finite; names the step and the batch.
    """
    with joined(config.training.device) as process:
        return _pretrain(config, Path(output), process, overwrite=overwrite, resume=resume)


def _pretrain(
    config: PretrainConfig, output: Path, process: Process, *, overwrite: bool, resume: bool
) -> dict[str, Any]:
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    if process.device.type == "cpu":
        keep_freed_memory()
    run = Run(config, output, process)
    checkpoints = find_checkpoints(output) if resume else []
    if checkpoints:
        run.progress = restore(checkpoints[-1], run.model, run.optimizer, run.decisive)
        run.notes = [f"going on from step {run.progress.step:,}"]
    elif process.is_main:
        clear_earlier_run(output, config, overwrite=overwrite, resume=resume)
    process.wait()
    steps, first_step = config.training.steps, run.progress.step
    trackers = []
    if process.is_main:
        # First: where a tracker cannot start, no config must stand that is of no run.
        output.mkdir(parents=True, exist_ok=True)
        trackers = start_trackers(config.tracking, output, first_step=first_step)
        with replacing(output / CONFIG_FILE) as temporary:
            temporary.write_text(config.text, encoding="utf8")
    log = TrainingLog(
        output / LOG_FILE, first_step=first_step, steps=steps, process=process, trackers=trackers
    )
    with log, stop_signals() as stop:
        for note in (run.describe(), *run.notes):
            log.say(note)
        for phase in config.phases:
            run.train(phase, log, stop)
    if not process.is_main:
        return {}
    metrics = run.metrics()
    with replacing(output / METRICS_FILE) as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf8")
    return metrics


class Run:
    """A run in one process: its network, its data and where it stands."""

    def __init__(self, config: PretrainConfig, output: Path, process: Process) -> None:
        self.config, self.settings = config, config.training
        self.output, self.process, self.device = output, process, process.device
        for phase in config.phases:
            if phase.batches_per_step % process.world_size:
                raise ValueError(
                    f"[training] batches_per_step is {phase.batches_per_step}, which "
                    f"{process.world_size} processes cannot share: take a multiple"
                )
        self.wordpiece = WordPiece.load(config.data.tokenizer)
        self.shards = Shards.open(config.data.shards, self.wordpiece)
        self.decisive = {**config.decisive(), "[data] shards": self.shards.fingerprint}
        self.notes: list[str] = []
        self.model = start_model(
            config.model,
            self.wordpiece,
            checkpoint=config.checkpoint,
            seed=self.settings.seed,
            unigrams=self._unigrams() if config.checkpoint is None else None,
            say=self.notes.append,
        ).to(self.device)
        self.trained = _prepare(self.model, config, process)
        self.optimizer = build_optimizer(self.model, self.settings)
        self.progress = Progress()
        self.meter = Meter(process)

    def describe(self) -> str:
        """One line on what is about to be done."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        text = len(self.shards.train.pieces)
        return (
            f"{parameters / 1e6:.1f} M parameters, {text:,} pieces of text, "
            f"{self.settings.steps:,} steps ({self.process.world_size} x {self.device})"
        )

    def train(self, phase: Phase, log: TrainingLog, stop: Stop) -> None:
        """Do the steps of a phase that are not yet done."""
        self.dev_set = self._dev_set(phase)
        if self.progress.step >= phase.last_step:
            return
        if phase.known_positions and self.progress.step == phase.steps_before:
            length = phase.data.sequence_length
            repeat_positions(self.model, known=phase.known_positions, length=length)
            log.say(f"positions {phase.known_positions} to {length - 1} begin as those before")
        if self.config.checkpoint is not None and not self.progress.step and self.process.is_main:
            log.write(0, self._evaluate(0, log))  # what the steps make of it is seen beside this
        is_cuda = self.device.type == "cuda"
        batches = load_batches(
            self._batch_maker("train", phase),
            self.progress.place,
            workers=self.settings.workers if self.settings.workers >= 0 else 2 * is_cuda,
            rank=self.process.rank,
            world_size=self.process.world_size,
            pin_memory=is_cuda,
        )
        share = phase.batches_per_step // self.process.world_size
        self.meter.restart()
        while self.progress.step < phase.last_step:
            step = self.progress.step + 1
            rate = set_rate(self.optimizer, step, self.settings)
            batch = self._step(step, batches, share)
            log.advance()
            self.progress.step = step
            last = batch.place.batch - self.process.rank + self.process.world_size
            self.progress.place = batch.place._replace(batch=last)

            is_end = step == phase.last_step
            is_evaluation = is_end or step % self.settings.evaluate_every == 0
            is_save = is_evaluation or self._is_save(step)
            is_line = is_save or step % self.settings.log_every == 0
            if self.process.world_size > 1:
                # Several processes can agree on stopping only where they meet anyhow.
                is_stop = is_line and self.process.any(stop.asked)
            else:
                is_stop = stop.asked
            if not (is_line or is_stop):
                continue
            # This refuses losses that are not finite: such weights are never saved.
            figures = {"learning_rate": rate, **self._throughput(batch)}
            if is_evaluation and self.process.is_main:
                figures |= self._evaluate(step, log)
            log.write(step, figures)
            if is_end:
                # The next phase has batches of its own; its losses are not to be compared.
                self.progress.place, self.progress.lowest = START, float("inf")
            if is_save or is_stop:
                self._save()
                self.meter.restart()
            if is_stop:
                log.say(f"stopped at step {step:,}; --resume goes on from there")
                stop.leave()

    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`, for the network as it is now."""
        return {
            "device": str(self.device),
            "processes": self.process.world_size,
            **final_metrics(
                self.config,
                self.progress,
                self._scores(),
                self.shards,
                self.dev_set,
                self._batch_maker("train", self.config.phases[-1]),
                self.wordpiece,
            ),
        }

    def _step(self, step: int, batches: Iterator[PreTrainingBatch], share: int) -> PreTrainingBatch:
        """One update from `share` batches, and the last of them."""
        for number in range(share):
            batch = next(batches)
            # Dropout is a function of step and batch, whichever process has it.
            index = number * self.process.world_size + self.process.rank
            torch.manual_seed(((self.settings.seed * 1_000_003 + step) * 1_000_003 + index) % SEEDS)
            if isinstance(self.trained, DistributedDataParallel):
                # Gradients are exchanged after the last batch alone.
                self.trained.require_backward_grad_sync = number == share - 1
            with self._autocast():
                losses = pretraining_losses(self.trained, batch.to(self.device))
            (losses.total / share).backward()  # type: ignore[no-untyped-call]
            self.meter.add_batch(losses, step, batch)
        norm = clip_grad_norm_(self.model.parameters(), self.settings.max_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.meter.add_step(norm)
        return batch

    def _throughput(self, batch: PreTrainingBatch) -> dict[str, float]:
        means = self.meter.read(self.progress)
        pieces = len(batch.packed.pieces)
        flops = means.pieces_per_second * flops_per_piece(
            self.model.config,
            length=pieces / len(batch.packed.lengths),
            predicted=len(batch.targets) / pieces,
        )
        figures = {**means._asdict(), "tflops": flops / 1e12}
        peak = peak_flops(self.device, self.settings.peak_tflops)
        if peak is not None:
            figures["mfu"] = flops / peak / self.process.world_size
        return figures

    def _evaluate(self, step: int, log: TrainingLog) -> dict[str, float]:
        """Score the network and write it as `model-last`, and as `model-best` if it is that."""
        scores = self._scores()
        log.say(describe(step, scores))
        write_model(self.model, self.wordpiece, self.output / LAST)
        if scores.mlm_loss < self.progress.lowest:
            self.progress.lowest = scores.mlm_loss
            write_model(self.model, self.wordpiece, self.output / BEST)
        figures = {"dev_mlm": scores.mlm_loss, "dev_perplexity": scores.perplexity}
        if scores.nsp_accuracy is not None:
            figures["dev_nsp_accuracy"] = scores.nsp_accuracy
        return figures

    def _scores(self) -> DevScores:
        with self._autocast():
            return self.dev_set.score(self.model, self.device)

    def _save(self) -> None:
        if self.process.is_main:
            write_model(self.model, self.wordpiece, self.output / LAST)
            save_checkpoint(
                self.output,
                self.model,
                self.optimizer,
                self.wordpiece,
                self.progress,
                self.decisive,
                keep=self.settings.keep_checkpoints,
            )
        self.process.wait()

    def _is_save(self, step: int) -> bool:
        every = self.settings.save_every
        return every > 0 and step % every == 0

    def _autocast(self) -> torch.autocast:
        precision = self.settings.precision
        half = precision == "bf16" or (precision == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def _batch_maker(self, split: str, phase: Phase) -> BatchMaker:
        return BatchMaker(
            getattr(self.shards, split),
            self.wordpiece,
            settings=phase.data,
            masking=self.config.masking,
            seed=self.settings.seed,
            objective=self.config.objective,
        )

    def _unigrams(self) -> npt.NDArray[Any]:
        return unigram_log_probabilities(self.shards.train, vocab_size=len(self.wordpiece))

    def _dev_set(self, phase: Phase) -> DevSet:
        return DevSet.build(
            self._batch_maker("dev", phase),
            self.shards.dev,
            max_pieces=self.settings.evaluate_pieces,
            next_sentence=self.config.objective == "mlm+nsp",
        )


def _prepare(model: BertForPreTraining, config: PretrainConfig, process: Process) -> nn.Module:
    """Make the network ready for training on its device, wrapped for several processes."""
    model.train()
    if config.objective != "mlm+nsp":
        assert model.bert.pooler is not None
        model.bert.pooler.requires_grad_(False)
        model.nsp.requires_grad_(False)
    if process.device.type == "cuda":
        model.mlm.vocabulary_multiple = 64
        if config.training.compile:
            for layer in model.bert.layers:
                layer.compile()
    if process.world_size > 1:
        return DistributedDataParallel(model)
    return model
