"""What a run was worth: its scores beside cheap ways to get some."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from typing import Any

import numpy as np

from spacy_bert.pretraining.batches import BatchMaker
from spacy_bert.pretraining.checkpoints import Progress
from spacy_bert.pretraining.config import PretrainConfig
from spacy_bert.pretraining.evaluation import DevScores, DevSet, unigram_cross_entropy
from spacy_bert.pretraining.nsp_baselines import TextPairs, score_baselines
from spacy_bert.pretraining.shards import Shards
from spacy_bert.wordpiece import WordPiece

_BASELINE_DOCUMENTS = 20_000  # training documents that the NSP baselines learn from, at most


def final_metrics(
    config: PretrainConfig,
    progress: Progress,
    scores: DevScores,
    shards: Shards,
    dev_set: DevSet,
    train: BatchMaker,
    wordpiece: WordPiece,
) -> dict[str, Any]:
    """The content of `metrics.json`."""
    metrics: dict[str, Any] = {
        "steps": config.training.steps,
        "seed": config.training.seed,
        "objective": config.objective,
        "pieces": progress.pieces,
        "pieces_per_second": progress.pieces / progress.seconds if progress.seconds else None,
        "corpus": shards.manifest["counts"],
        "dev_mlm_loss": scores.mlm_loss,
        "dev_perplexity": scores.perplexity,
        **unigram_figures(shards, dev_set, vocab_size=len(wordpiece)),
    }
    if scores.nsp_accuracy is not None:
        metrics |= {
            "nsp_pairs": len(dev_set.nsp_pairs),
            "nsp_accuracy": scores.nsp_accuracy,
            "nsp_baselines": nsp_baselines(train, dev_set, shards, wordpiece),
        }
    return metrics


def unigram_figures(shards: Shards, dev_set: DevSet, *, vocab_size: int) -> dict[str, float]:
    """Cross-entropy of the unigram model over the pieces of the dev split.

    Over all of them, and over those alone that are to be predicted in the dev set, i.e. the very
    targets of the dev MLM loss.
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
    line = (
        f"step {step:>7,}  dev MLM loss {scores.mlm_loss:.3f} (perplexity {scores.perplexity:,.1f})"
    )
    if scores.nsp_accuracy is not None:
        line += f", NSP accuracy {scores.nsp_accuracy:.3f}"
    return line
