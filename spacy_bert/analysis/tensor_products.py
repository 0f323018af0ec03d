"""Tensor product decomposition networks: which structure do sentence vectors have?

McCoy et al. 2019 (arXiv 1812.08718); on BERT: Jawahar et al. 2019, section 6. A sentence's vector
is approximated by a sum over its words of the outer product of a filler (the word) and a role (its
place in a structure), through one linear map.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from spacy.tokens import Doc
from torch import Tensor, nn

ROLE_WIDTH = 6
RATE, BATCH, PATIENCE = 1e-3, 32, 10

Roles = Callable[[Doc], list[str]]


def left_to_right(doc: Doc) -> list[str]:
    """The word's place from the left."""
    return [str(i) for i in range(len(doc))]


def right_to_left(doc: Doc) -> list[str]:
    """The word's place from the right."""
    return [str(len(doc) - 1 - i) for i in range(len(doc))]


def bag_of_words(doc: Doc) -> list[str]:
    """All words have one role."""
    return ["word"] * len(doc)


def bidirectional(doc: Doc) -> list[str]:
    """The word's place from the left and from the right."""
    return [f"{i} {len(doc) - 1 - i}" for i in range(len(doc))]


def tree(doc: Doc) -> list[str]:
    """The way from the root of the dependency tree to the word: left (L) or right (R) each time.

    The paper has constituency trees; ours are those of `token.head`.
    """
    ways: dict[int, str] = {}

    def way(place: int) -> str:
        if place not in ways:
            head = doc[place].head.i
            turn = "L" if place < head else "R"
            ways[place] = "" if head == place else way(head) + turn
        return ways[place]

    return [way(i) for i in range(len(doc))]


def random_tree(seed: int = 0) -> Roles:
    """The way in a binary tree that is drawn at random for each sentence: the control of `tree`."""

    def roles(doc: Doc) -> list[str]:
        generator = random.Random(f"{seed} {doc.text}")

        def split(places: Sequence[int], way: str) -> dict[int, str]:
            if len(places) <= 1:
                return dict.fromkeys(places, way)
            cut = generator.randrange(1, len(places))
            return {**split(places[:cut], way + "L"), **split(places[cut:], way + "R")}

        found = split(range(len(doc)), "")
        return [found[i] for i in range(len(doc))]

    return roles


SCHEMES: dict[str, Roles] = {
    "left to right": left_to_right,
    "right to left": right_to_left,
    "bag of words": bag_of_words,
    "bidirectional": bidirectional,
    "tree": tree,
    "random tree": random_tree(),
}


class TensorProducts(nn.Module):
    """Sum over the words of filler (x) role, then a linear map.

    Args:
        fillers: How many words there are, with 0 for those that are not known: they add nothing.
        roles: How many roles, likewise.
        filler_width: Of the vectors of fillers.
        outputs: Width of the vectors to be approximated.
    """

    def __init__(self, *, fillers: int, roles: int, filler_width: int, outputs: int) -> None:
        super().__init__()
        # A vector that is never trained would be noise in all that is measured.
        self.fillers = nn.Embedding(fillers, filler_width, padding_idx=0)
        self.roles = nn.Embedding(roles, ROLE_WIDTH, padding_idx=0)
        self.output = nn.Linear(filler_width * ROLE_WIDTH, outputs)

    def forward(self, fillers: Tensor, roles: Tensor, sentence: Tensor, count: int) -> Tensor:
        """Words and roles of several sentences end to end, (words,) -> (sentences, outputs)."""
        products = torch.einsum("wf,wr->wfr", self.fillers(fillers), self.roles(roles)).flatten(1)
        bound = products.new_zeros(count, products.shape[1]).index_add(0, sentence, products)
        approximated: Tensor = self.output(bound)
        return approximated


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """How well a scheme of roles explains sentence vectors.

    Attributes:
        error: Mean squared error on held-out sentences.
        relative: That error as a share of the vectors' variance: 1 for who knows nothing.
    """

    error: float
    relative: float


def decompose(
    docs: Sequence[Doc],
    vectors: np.ndarray,
    roles: Roles,
    *,
    held_out: float = 0.2,
    filler_width: int = 64,
    epochs: int = 200,
    seed: int = 0,
) -> Decomposition:
    """Fit a tensor product decomposition and say how well it explains what it has not seen.

    Adam with rate 1e-3, batches of 32, stopped when the error on a tenth of the training sentences
    has not fallen for ten epochs.

    Args:
        docs: The sentences.
        vectors: Their vectors, (sentences, width).
        roles: The role of each word of a sentence.
        held_out: Share of the sentences that the error is measured on.
        filler_width: Of the vectors of words.
        epochs: At most.
        seed: Of the split, weights and batches.

    Raises:
        ValueError: If there are fewer than ten sentences.
    """
    if len(docs) < 10:
        raise ValueError(f"{len(docs)} sentences are too few for a decomposition: take ten or more")
    order = np.random.default_rng(seed).permutation(len(docs))
    test, dev, train = np.split(
        order, [int(held_out * len(docs)), int((held_out + 0.1 * (1 - held_out)) * len(docs)) + 1]
    )
    words = [[token.text.lower() for token in doc] for doc in docs]
    places = [roles(doc) for doc in docs]
    # What training has not seen is one filler, and one role.
    filler_ids = _number(words[i] for i in train)
    role_ids = _number(places[i] for i in train)
    targets = torch.as_tensor(np.asarray(vectors), dtype=torch.float32)

    def batch(index: np.ndarray) -> tuple[Tensor, Tensor, Tensor, int]:
        lengths = torch.tensor([len(words[i]) for i in index])
        fillers = [filler_ids.get(word, 0) for i in index for word in words[i]]
        own = [role_ids.get(role, 0) for i in index for role in places[i]]
        sentence = torch.repeat_interleave(torch.arange(len(index)), lengths)
        return torch.tensor(fillers), torch.tensor(own), sentence, len(index)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TensorProducts(
            fillers=len(filler_ids) + 1,
            roles=len(role_ids) + 1,
            filler_width=filler_width,
            outputs=targets.shape[1],
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)

        def error(index: np.ndarray) -> float:
            with torch.inference_mode():
                return float(F.mse_loss(model(*batch(index)), targets[torch.from_numpy(index)]))

        best, waited, kept = float("inf"), 0, model.state_dict()
        for _ in range(epochs):
            shuffled = train[torch.randperm(len(train)).numpy()]
            for start in range(0, len(shuffled), BATCH):
                index = shuffled[start : start + BATCH]
                loss = F.mse_loss(model(*batch(index)), targets[torch.from_numpy(index)])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            now = error(dev)
            waited = 0 if now < best else waited + 1
            if now < best:
                best = now
                kept = {name: value.clone() for name, value in model.state_dict().items()}
            if waited == PATIENCE:
                break
        model.load_state_dict(kept)
        found = error(test)
    variance = float(targets[torch.from_numpy(test)].var(dim=0, correction=0).mean())
    return Decomposition(error=found, relative=found / max(variance, 1e-12))


def _number(sequences: Iterable[Iterable[str]]) -> dict[str, int]:
    """A number from 1 on for each name."""
    names = dict.fromkeys(name for sequence in sequences for name in sequence)
    return {name: number for number, name in enumerate(names, start=1)}
