"""Probes of whole sentences, on every layer (Jawahar et al. 2019, section 4).

The recipe of SentEval (Conneau & Kiela 2018): an MLP with 50 hidden units on the sentence's vector,
Adam, batches of 64, L2 chosen on the development set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from spacy.language import Language
from spacy.tokens import Doc
from torch import Tensor, nn

from spacy_bert.analysis.probes import Stacked
from spacy_bert.analysis.sentence_tasks import SentenceTarget
from spacy_bert.analysis.tracing import trace

HIDDEN, BATCH, RATE = 50, 64, 1e-3
DECAYS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)  # L2 that is tried


@dataclass(frozen=True, kw_only=True, eq=False)
class SentenceScores:
    """What each layer knows about whole sentences.

    Attributes:
        right: Whether each layer's answer about each sentence of the test set was right,
            (layers, sentences); 0 is the embeddings.
        majority: Of who always says the most frequent label of the training set.
        targets: Sentences of training, development and test set.
        labels: How many labels there are.
    """

    right: np.ndarray
    majority: float
    targets: tuple[int, int, int]
    labels: int

    @property
    def accuracy(self) -> np.ndarray:
        """Of each layer on the test set, (layers,), 0 to 1."""
        return np.asarray(self.right.mean(axis=1))

    @property
    def best_layer(self) -> int:
        """The layer with the greatest accuracy."""
        return int(self.accuracy.argmax())


def sentence_vectors(
    nlp: Language,
    docs: Sequence[Doc],
    *,
    component: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """The vector of [CLS] in each layer, (sentences, layers, width); of the first window.

    Args:
        nlp: A pipeline with an encoder.
        docs: The sentences.
        component: Name of the component whose encoder is meant, if there are several.
        progress: Called with 1 for each sentence.
    """
    rows = []
    for own in trace(nlp, docs, component=component):
        rows.append(own.hidden[:, 0].copy())
        progress(1)
    return np.stack(rows)


def probe_sentences(
    vectors: np.ndarray,
    labels: Sequence[str],
    splits: tuple[Sequence[int], Sequence[int], Sequence[int]],
    *,
    epochs: int = 20,
    seed: int = 0,
) -> SentenceScores:
    """Train an MLP on every layer, and score it.

    The probes of all layers and of all strengths of L2 train together; of each layer, the strength
    and the epoch that do best on the development set are scored on the test set.

    Args:
        vectors: (sentences, layers, width).
        labels: Of each sentence.
        splits: The sentences to train on, to choose by, and to score on.
        epochs: Passes over the training set.
        seed: Of weights and batches.

    Raises:
        ValueError: If a set is empty.
    """
    train, dev, test = (np.asarray(part, dtype=np.int64) for part in splits)
    if not (len(train) and len(dev) and len(test)):
        raise ValueError(
            f"{len(train)} sentences to train on, {len(dev)} to choose by and {len(test)} to score "
            "on: none may be missing"
        )
    names = sorted(set(labels))
    gold = torch.tensor([names.index(label) for label in labels])
    inputs = torch.from_numpy(vectors).float()
    mean, deviation = inputs[train].mean(dim=0), inputs[train].std(dim=0).clamp_min(1e-6)
    inputs = ((inputs - mean) / deviation).transpose(0, 1)  # (layers, sentences, width)
    layers = len(inputs)
    # One probe for each layer and strength, layer after layer.
    decays = torch.tensor(DECAYS).repeat(layers)
    rows = inputs.repeat_interleave(len(DECAYS), dim=0)
    best, chosen = np.full(len(rows), -1.0), np.zeros((len(rows), len(test)), dtype=bool)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _Perceptrons(len(rows), rows.shape[-1], len(names))
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        for _ in range(epochs):
            order = torch.from_numpy(train)[torch.randperm(len(train))]
            for index in order.split(BATCH):
                logits = model(rows[:, index])
                target = gold[index].repeat(len(rows))
                losses = F.cross_entropy(logits.flatten(0, 1), target, reduction="none")
                loss = losses.view(len(rows), -1).mean(dim=1).sum()
                loss = loss + (decays * model.squares()).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            now = _right(model, rows, gold, dev).mean(axis=1)
            better = now > best
            best[better] = now[better]
            chosen[better] = _right(model, rows, gold, test)[better]
    strength = best.reshape(layers, -1).argmax(axis=1)
    label, _ = Counter(gold[train].tolist()).most_common(1)[0]
    return SentenceScores(
        right=chosen.reshape(layers, -1, len(test))[np.arange(layers), strength],
        majority=float((gold[test] == label).float().mean()),
        targets=(len(train), len(dev), len(test)),
        labels=len(names),
    )


class _Perceptrons(nn.Module):
    """MLPs of one hidden layer side by side."""

    def __init__(self, probes: int, inputs: int, labels: int) -> None:
        super().__init__()
        self.hidden = Stacked(probes, inputs, HIDDEN)
        self.output = Stacked(probes, HIDDEN, labels)

    def forward(self, rows: Tensor) -> Tensor:
        """(probes, rows, inputs) -> (probes, rows, labels)."""
        logits: Tensor = self.output(torch.sigmoid(self.hidden(rows)))
        return logits

    def squares(self) -> Tensor:
        """The sum of the squared weights of each probe, (probes,)."""
        weights = (self.hidden.weight, self.output.weight)
        return torch.stack([weight.square().sum(dim=(1, 2)) for weight in weights]).sum(dim=0)


@torch.inference_mode()
def _right(model: nn.Module, rows: Tensor, gold: Tensor, index: np.ndarray) -> np.ndarray:
    chosen = torch.from_numpy(index)
    return np.asarray(model(rows[:, chosen]).argmax(dim=-1) == gold[chosen])


def split_targets(
    targets: Sequence[SentenceTarget], *, seed: int = 0
) -> tuple[list[int], list[int], list[int]]:
    """Eight tenths to train on, a tenth to choose by, a tenth to score on, at random."""
    order = np.random.default_rng(seed).permutation(len(targets))
    first, second = int(0.8 * len(order)), int(0.9 * len(order))
    return order[:first].tolist(), order[first:second].tolist(), order[second:].tolist()
