"""Training on texts of all lengths, from a corpus of sentences.

A network that was fine-tuned on single sentences reads long texts badly: it has not met windows
full of them. Neighbours are joined here, so that it meets windows of every length.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

Reader = Callable[[Language], Iterable[Example]]


def build_joined_corpus(corpus: Reader, max_tokens: int = 400, seed: int = 0) -> Reader:
    """The reader `spacy_bert.JoinedCorpus.v1`: neighbours joined to texts of random length.

    Each text takes neighbours until it has at least so many tokens as were drawn, log-uniformly
    from 1 to `max_tokens`: about as many texts of 5 to 20 tokens as of 20 to 80. Every pass over
    the corpus cuts it anew (spaCy makes one, and keeps it, unless `max_epochs = -1`). Annotations
    of tokens and spans are kept; `doc.cats` is not, since a text of several has no class.

    Args:
        corpus: any reader of examples, such as `spacy.Corpus.v1`.
        max_tokens: the largest length drawn.
        seed: of the lengths.

    Raises:
        ValueError: if `max_tokens` is not positive.
    """
    if max_tokens < 1:
        raise ValueError(f"[corpora] max_tokens must be at least 1, got {max_tokens}")
    generator = random.Random(seed)

    def read(nlp: Language) -> Iterator[Example]:
        group: list[Example] = []
        tokens, wanted = 0, _draw(generator, max_tokens)
        for example in corpus(nlp):
            group.append(example)
            tokens += len(example.predicted)
            if tokens >= wanted:
                yield join_examples(group)
                group, tokens, wanted = [], 0, _draw(generator, max_tokens)
        if group:
            yield join_examples(group)

    return read


def join_examples(examples: list[Example]) -> Example:
    """One example of several, their texts separated by spaces."""
    if len(examples) == 1:
        return examples[0]
    predicted, reference = (
        Doc.from_docs([getattr(example, part) for example in examples])
        for part in ("predicted", "reference")
    )
    return Example(predicted, reference)


def _draw(generator: random.Random, max_tokens: int) -> int:
    return math.ceil(math.exp(generator.uniform(0.0, math.log(max_tokens))))
