"""The pre-training loop."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from spacy_bert.bert import BertForPreTraining, save_pretrained
from spacy_bert.files import replacing
from spacy_bert.pretraining.batches import BatchMaker
from spacy_bert.pretraining.config import PretrainConfig
from spacy_bert.pretraining.evaluation import DevScores, DevSet, unigram_cross_entropy
from spacy_bert.pretraining.log import Meter, TrainingLog
from spacy_bert.pretraining.nsp_baselines import TextPairs, score_baselines
from spacy_bert.pretraining.objective import pretraining_losses
from spacy_bert.pretraining.optimization import build_optimizer, learning_rate
from spacy_bert.pretraining.shards import Shards
from spacy_bert.wordpiece import WordPiece

CONFIG_FILE = "config.cfg"
LOG_FILE = "log.jsonl"
METRICS_FILE = "metrics.json"
LAST, BEST = "model-last", "model-best"

_BASELINE_DOCUMENTS = 20_000  # training documents that the NSP baselines learn from, at most


def pretrain(
    config: PretrainConfig, output: str | Path, *, overwrite: bool = False
) -> dict[str, Any]:
    """Pre-train a network from scratch.

    Args:
        config: What to do.
        output: Directory for `config.cfg`, `log.jsonl`, `metrics.json` and two checkpoints,
            `model-last` and `model-best` (by dev MLM loss): Hugging Face directories with the
            tokenizer in them.
        overwrite: Delete what an earlier run left in `output`.

    Returns:
        The content of `metrics.json`: scores of the last model, beside the unigram model and the
        NSP baselines on the same dev set.

    Raises:
        ValueError: If shards, tokenizer or device are not as the config says, or `output` holds a
            run already.
        KeyboardInterrupt: On Ctrl-C, after the weights have been saved in `model-last`.
        FloatingPointError: If the loss is no longer finite; names the step.
    """
    output = Path(output)
    settings = config.training
    device = select_device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    wordpiece = WordPiece.load(config.data.tokenizer)
    shards = Shards.open(config.data.shards, wordpiece)
    train, dev = (
        BatchMaker(
            split, wordpiece, settings=config.data, masking=config.masking, seed=settings.seed
        )
        for split in (shards.train, shards.dev)
    )
    dev_set = DevSet.build(dev, shards.dev)
    torch.manual_seed(settings.seed)
    model = BertForPreTraining(replace(config.model, vocab_size=len(wordpiece))).to(device)
    optimizer = build_optimizer(model, settings)
    _clear(output, overwrite=overwrite)
    with replacing(output / CONFIG_FILE) as temporary:
        temporary.write_text(config.text, encoding="utf8")

    lowest = float("inf")
    with TrainingLog(output / LOG_FILE, steps=settings.steps) as log:
        meter = Meter()
        step = 0
        try:
            for step, batch in enumerate(islice(train.epochs(), settings.steps), start=1):
                rate = learning_rate(step, settings)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    losses = pretraining_losses(model, batch.to(device))
                losses.total.backward()  # type: ignore[no-untyped-call]
                norm = clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
                optimizer.step()
                optimizer.zero_grad()
                meter.add(losses, norm, pieces=len(batch.packed.pieces))
                log.advance()

                is_evaluation = step % settings.evaluate_every == 0 or step == settings.steps
                if not is_evaluation and step % settings.log_every != 0:
                    continue
                figures = {"learning_rate": rate, **meter.read(step)._asdict()}
                if is_evaluation:
                    scores = dev_set.score(model, device)
                    figures |= {
                        "dev_mlm": scores.mlm_loss,
                        "dev_perplexity": scores.perplexity,
                        "dev_nsp_accuracy": scores.nsp_accuracy,
                    }
                    log.say(describe(step, scores))
                    save_checkpoint(model, wordpiece, output / LAST)
                    if scores.mlm_loss < lowest:
                        lowest = scores.mlm_loss
                        save_checkpoint(model, wordpiece, output / BEST)
                    meter.restart()
                log.write(step, figures)
        except KeyboardInterrupt:
            save_checkpoint(model, wordpiece, output / LAST)
            log.say(f"interrupted at step {step:,}; the weights are in {output / LAST}")
            raise

    metrics: dict[str, Any] = {
        "steps": settings.steps,
        "seed": settings.seed,
        "device": str(device),
        "pieces_per_second": meter.pieces_per_second,
        "corpus": shards.manifest["counts"],
        "dev_mlm_loss": scores.mlm_loss,
        "dev_perplexity": scores.perplexity,
        **unigram_figures(shards, dev_set, vocab_size=len(wordpiece)),
        "nsp_pairs": len(dev_set.nsp_pairs),
        "nsp_accuracy": scores.nsp_accuracy,
        "nsp_baselines": nsp_baselines(train, dev_set, shards, wordpiece),
    }
    with replacing(output / METRICS_FILE) as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf8")
    return metrics


def _clear(output: Path, *, overwrite: bool) -> None:
    """Make sure that old results never stand beside new ones."""
    old = [output / name for name in (LOG_FILE, METRICS_FILE, LAST, BEST)]
    old = [path for path in old if path.exists()]
    if old and not overwrite:
        names = ", ".join(path.name for path in old)
        raise ValueError(
            f"{output}: holds an earlier run ({names}); name another directory, or pass --overwrite"
        )
    for path in old:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def select_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA if there is one, else the CPU.

    Raises:
        ValueError: If torch knows no such device or it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"[training] device {name!r} is unknown; use auto, cpu or cuda") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"[training] device {name!r}: there is no such device; use auto or cpu")
    return device


def save_checkpoint(model: BertForPreTraining, wordpiece: WordPiece, directory: Path) -> None:
    """Write a Hugging Face directory: network with both heads, and tokenizer."""
    wordpiece.save(directory, model_max_length=model.config.max_position_embeddings)
    save_pretrained(model, directory)


def unigram_figures(shards: Shards, dev_set: DevSet, *, vocab_size: int) -> dict[str, float]:
    """Cross-entropy of the unigram model over the pieces of the dev split.

    Over all of them, and over those alone that are masked in the dev set, i.e. the very targets
    of the dev MLM loss.
    """
    return {
        "unigram_cross_entropy": unigram_cross_entropy(
            shards.train, shards.dev.pieces, vocab_size=vocab_size
        ),
        "unigram_cross_entropy_masked": unigram_cross_entropy(
            shards.train, dev_set.targets, vocab_size=vocab_size
        ),
    }


def nsp_baselines(
    train: BatchMaker, dev_set: DevSet, shards: Shards, wordpiece: WordPiece
) -> dict[str, float]:
    """Accuracy of the NSP baselines on BERT's dev pairs, learned from the training split.

    Empty where scikit-learn is not installed: training does without it.
    """
    if importlib.util.find_spec("sklearn") is None:
        return {}
    documents = np.arange(min(shards.train.document_count, _BASELINE_DOCUMENTS))
    pairs = train.pairs(documents, np.random.default_rng(0))
    baselines = score_baselines(
        TextPairs.read(shards.train, pairs.take(pairs.whole), wordpiece.tokens),
        TextPairs.read(shards.dev, dev_set.nsp_pairs, wordpiece.tokens),
    )
    return asdict(baselines)


def describe(step: int, scores: DevScores) -> str:
    """One line on an evaluation."""
    return (
        f"step {step:>7,}  dev MLM loss {scores.mlm_loss:.3f} (perplexity "
        f"{scores.perplexity:,.1f}), NSP accuracy {scores.nsp_accuracy:.3f}"
    )
