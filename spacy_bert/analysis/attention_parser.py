"""A parser that sees attention alone: how much of syntax all heads hold together.

Clark et al. 2019, section 5: the head of a word is sought by a linear model of the attention of all
heads in both directions, with the network frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from torch import Tensor, nn

from spacy_bert.analysis.attention_features import (
    SPECIAL_ROWS,
    ParsedSentence,
    ParsedSentences,
    WordVectors,
)
from spacy_bert.analysis.head_maps import Progress, kept_heads, trace_docs
from spacy_bert.analysis.head_relations import OFFSETS, Annotation
from spacy_bert.analysis.trees import ROOT, check_trees

_UNSCORED = -100
HELD_OUT = 5  # every so many Docs one is held out, if no others are given


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionParsing:
    """How well the probe parses, beside parsers that look at nothing.

    All figures but `losses` are unlabelled attachment scores on the held-out sentences: the share
    of words, punctuation left out, whose head (or that they are the root) is found. Each word's
    head is chosen by itself: the result need not be a tree.

    Attributes:
        uas: Of the probe.
        next_word: If the next word is always the head, and the last one the root.
        previous_word: If the word before is always the head, and the first one the root.
        offset: The offset that is best on the Docs learned from; 1 is the next word.
        offset_uas: Of this offset; where it leaves the sentence, the word is the root.
        weights: What a head's attention from the dependent to a word, and from a word to the
            dependent, adds to the score of the word as head, (layers, heads, 2) float64; NaN for
            pruned heads. With words, what it adds apart from them.
        losses: Cross-entropy in each epoch, in nats a word.
        with_words: Whether the probe knew the words as well.
        annotation: "gold", or "spaCy" if the trees are a parser's.
        learned: How many sentences it learned from.
        sentences: How many were held out.
        words: How many of their words were scored.
    """

    uas: float
    next_word: float
    previous_word: float
    offset: int
    offset_uas: float
    weights: np.ndarray
    losses: Sequence[float]
    with_words: bool
    annotation: Annotation
    learned: int
    sentences: int
    words: int


def attention_parser(
    nlp: Language,
    docs: Iterable[Doc],
    *,
    test: Iterable[Doc] | None = None,
    component: str | None = None,
    annotation: Annotation = "gold",
    words: bool = False,
    epochs: int = 10,
    batch_size: int = 8,
    learning_rate: float = 0.002,
    seed: int = 0,
    progress: Progress | None = None,
) -> AttentionParsing:
    """Train a probe to parse by attention, and score it (Clark et al. 2019, section 5).

    The probability that word i is the head of word j is the softmax over i of
    sum_k w_k a_k(j, i) + u_k a_k(i, j), for the attention a_k of every head k. The score of j as
    the root is learned likewise, of the attention to and from [CLS] and [SEP]. With `words`, w and
    u depend on both words, as in the paper's attention-and-words probe; but their vectors are those
    of the encoder's own embedding table, in the place of GloVe's: this probe is ours.

    The attention of all sentences waits in a temporary file, 2 bytes x heads for each pair of
    words of a sentence.

    Args:
        nlp: A pipeline with an encoder, which is not changed.
        docs: Docs with dependency trees to learn from.
        test: Docs to score on; by default, every fifth of `docs`, which is then not learned from.
        component: Name of the component whose encoder is meant, if there are several.
        annotation: "gold" if people made the trees, "spaCy" if a parser did.
        words: Whether the probe knows the words as well.
        epochs: How often it sees the sentences.
        batch_size: Sentences of one step of Adam.
        learning_rate: Of Adam.
        seed: Of the order of the sentences.
        progress: Called with 1 after each Doc that was read, and after each epoch.

    Raises:
        ValueError: If a Doc has no tree, there is nothing to learn from or to score on, or the
            pipeline has no encoder of spacy_bert's.
    """
    docs = list(docs)
    if test is None:
        held_out, docs = docs[::HELD_OUT], [doc for i, doc in enumerate(docs) if i % HELD_OUT]
    else:
        held_out = list(test)
    check_trees([*docs, *held_out])
    kept = kept_heads(nlp, component)
    vectors = WordVectors(nlp, component) if words else None
    with ParsedSentences(kept, vectors) as learned, ParsedSentences(kept, vectors) as scored:
        for task, sentences, wanted in (
            ("learn from", learned, docs),
            ("score on", scored, held_out),
        ):
            for found in trace_docs(nlp, wanted, component) if wanted else ():
                sentences.add(found)
                if progress is not None:
                    progress(1)
            if not len(sentences):
                raise ValueError(f"{len(wanted)} Docs have no words to {task}: give more")
        probe = Probe(int(kept.sum()), 0 if vectors is None else vectors.width)
        losses = train_probe(
            probe,
            learned,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            progress=progress,
        )
        guesses = [predict(probe, scored[i]) for i in range(len(scored))]
        offset = max(OFFSETS, key=lambda offset: _score_offset(learned, offset))
        return AttentionParsing(
            uas=_score(guesses, scored),
            next_word=_score_offset(scored, 1),
            previous_word=_score_offset(scored, -1),
            offset=offset,
            offset_uas=_score_offset(scored, offset),
            weights=_weights(probe, kept),
            losses=losses,
            with_words=words,
            annotation=annotation,
            learned=len(learned),
            sentences=len(scored),
            words=int(sum(counted.sum() for counted in scored.scored)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Sentences as tensors, padded with zeros to the longest.

    Attributes:
        attention: (sentences, heads, words, words).
        special: (sentences, heads, 4, words).
        vectors: (sentences, words, width).
        lengths: Words of each sentence, (sentences,).
    """

    attention: Tensor
    special: Tensor
    vectors: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, sentences: Sequence[ParsedSentence]) -> Batch:
        """Pad sentences."""
        lengths = [len(sentence.heads) for sentence in sentences]
        count, longest = len(sentences), max(lengths)
        heads, width = len(sentences[0].attention), sentences[0].vectors.shape[1]
        attention = np.zeros((count, heads, longest, longest), dtype=np.float32)
        special = np.zeros((count, heads, SPECIAL_ROWS, longest), dtype=np.float32)
        vectors = np.zeros((count, longest, width), dtype=np.float32)
        for row, (sentence, length) in enumerate(zip(sentences, lengths, strict=True)):
            attention[row, :, :length, :length] = sentence.attention
            special[row, :, :, :length] = sentence.special
            vectors[row, :length] = sentence.vectors
        return cls(
            attention=torch.from_numpy(attention),
            special=torch.from_numpy(special),
            vectors=torch.from_numpy(vectors),
            lengths=torch.tensor(lengths),
        )


class Probe(nn.Module):
    """Scores every word, and the root, as head of every word, linearly in attention.

    Args:
        heads: How many heads of the network there are.
        width: Of the words' vectors; 0 without them.
    """

    def __init__(self, heads: int, width: int = 0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(2, heads))  # from the dependent, to the dependent
        self.root = nn.Parameter(torch.zeros(heads, SPECIAL_ROWS))
        self.bias = nn.Parameter(torch.zeros(()))
        # Of the dependent's vector and of the other word's, for each of the two above.
        self.of_words = nn.Parameter(torch.zeros(2, 2, width, heads))

    def forward(self, batch: Batch) -> Tensor:
        """Scores of words as heads, and behind them of the root.

        Returns:
            (sentences, words, words + 1), a row for each dependent; minus infinity for the word
            itself and behind the end of the sentence.
        """
        attention = batch.attention
        looking, looked_at = torch.einsum("ck,bkij->cbij", self.weights, attention)
        scores = looking + looked_at.mT
        if batch.vectors.shape[-1]:
            # What each word adds to a head's weight: as dependent, and as the other word.
            own = torch.einsum("bjd,cedk->cebjk", batch.vectors, self.of_words)
            for direction, maps in enumerate((attention, attention.mT)):
                scores = scores + torch.einsum("bjk,bkji->bji", own[direction, 0], maps)
                scores = scores + torch.einsum("bik,bkji->bji", own[direction, 1], maps)
        longest = scores.shape[-1]
        itself = torch.eye(longest, dtype=torch.bool)
        behind = torch.arange(longest) >= batch.lengths[:, None, None]
        scores = scores.masked_fill(itself | behind, -torch.inf)
        root = torch.einsum("ks,bksj->bj", self.root, batch.special) + self.bias
        return torch.cat([scores, root[..., None]], dim=-1)


def train_probe(
    probe: Probe,
    sentences: ParsedSentences,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    progress: Progress | None = None,
) -> list[float]:
    """Fit a probe to the trees of sentences.

    Returns:
        The cross-entropy in each epoch, in nats a word.
    """
    optimizer = torch.optim.Adam(probe.parameters(), lr=learning_rate)
    rng = np.random.default_rng(seed)
    losses = []
    for _ in range(epochs):
        order = rng.permutation(len(sentences))
        total, words = 0.0, 0
        for start in range(0, len(order), batch_size):
            batch = [sentences[i] for i in order[start : start + batch_size].tolist()]
            loss = _loss(probe, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count = int(sum(sentence.scored.sum() for sentence in batch))
            total, words = total + count * loss.item(), words + count
        losses.append(total / words)
        if progress is not None:
            progress(1)
    return losses


def predict(probe: Probe, sentence: ParsedSentence) -> np.ndarray:
    """The head of each word that the probe finds likeliest, (words,); `ROOT` for the root."""
    with torch.inference_mode():
        found = probe(Batch.of([sentence]))[0].argmax(dim=-1).numpy()
    return np.where(found == len(found), ROOT, found)


def _loss(probe: Probe, sentences: Sequence[ParsedSentence]) -> Tensor:
    """Mean cross-entropy of the words that count."""
    scores = probe(Batch.of(sentences))
    longest = scores.shape[1]
    targets = torch.full((len(sentences), longest), _UNSCORED)
    for row, sentence in zip(targets, sentences, strict=True):
        heads = np.where(sentence.heads == ROOT, longest, sentence.heads)
        row[: len(heads)] = torch.from_numpy(np.where(sentence.scored, heads, _UNSCORED))
    return nn.functional.cross_entropy(
        scores.flatten(0, 1), targets.flatten(), ignore_index=_UNSCORED
    )


def _score(guesses: Sequence[np.ndarray], sentences: ParsedSentences) -> float:
    """Unlabelled attachment score."""
    right = [
        (guess == heads)[counted]
        for guess, heads, counted in zip(guesses, sentences.heads, sentences.scored, strict=True)
    ]
    return float(np.concatenate(right).mean())


def _score_offset(sentences: ParsedSentences, offset: int) -> float:
    guesses = []
    for heads in sentences.heads:
        found = np.arange(len(heads)) + offset
        guesses.append(np.where((found < 0) | (found >= len(heads)), ROOT, found))
    return _score(guesses, sentences)


def _weights(probe: Probe, kept: np.ndarray) -> np.ndarray:
    found = np.full((*kept.shape, 2), np.nan)
    found[kept] = probe.weights.detach().numpy().T
    return found
