"""Phrases in the layers: do vectors of spans cluster by the kind of phrase? (Jawahar et al. 2019)

"What does BERT learn about the structure of language?", section 3.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from spacy.language import Language
from spacy.tokens import Doc, Span

from spacy_bert.analysis.tracing import trace

PHRASES, OTHERS = 3000, 500  # as in the paper
OUTSIDE = "O"


@dataclass(frozen=True, kw_only=True, eq=False)
class PhraseClusters:
    """How well the vectors of phrases cluster by their kinds.

    Attributes:
        nmi: Normalized mutual information of clusters and kinds, for each layer, (layers,); 0 is
            the embeddings. 1: the clusters are the kinds; 0: they have nothing to do with them.
        kinds: The kind of each phrase, (phrases,); "O" of words outside of all phrases.
        texts: The phrases.
        vectors: Of each layer, (layers, phrases, 4 * hidden size), for pictures.
    """

    nmi: np.ndarray
    kinds: np.ndarray
    texts: list[str]
    vectors: np.ndarray

    @property
    def best_layer(self) -> int:
        """The layer with the greatest mutual information."""
        return int(self.nmi.argmax())


def span_vector(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """[s; e; s * e; s - e] of the first and the last token of a span, (..., 4 * width)."""
    return np.concatenate([first, last, first * last, first - last], axis=-1)


def phrase_clusters(
    nlp: Language,
    docs: Sequence[Doc],
    *,
    find: Callable[[Doc], Iterable[Span]] = lambda doc: doc.ents,
    phrases: int = PHRASES,
    others: int = OTHERS,
    seed: int = 0,
    component: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> PhraseClusters:
    """Cluster vectors of phrases by k-means, with as many clusters as there are kinds.

    Args:
        nlp: A pipeline with an encoder.
        docs: Docs with phrases, such as the chunks of CoNLL-2000.
        find: Gives the phrases of a Doc, whose labels are the kinds.
        phrases: How many are drawn at random.
        others: How many words outside of all phrases are drawn, as a kind of their own.
        seed: Of the draws and the clusters.
        component: Name of the component whose encoder is meant, if there are several.
        progress: Called with 1 for each Doc that was read.

    Raises:
        ValueError: If there are phrases of fewer than two kinds.
    """
    inside = [(i, s.start, s.end, s.label_) for i, doc in enumerate(docs) for s in find(doc)]
    taken = {(i, token) for i, start, end, _ in inside for token in range(start, end)}
    outside = [
        (i, token.i, token.i + 1, OUTSIDE)
        for i, doc in enumerate(docs)
        for token in doc
        if (i, token.i) not in taken and not token.is_space
    ]
    generator = random.Random(seed)
    drawn = generator.sample(inside, min(phrases, len(inside)))
    drawn += generator.sample(outside, min(others, len(outside)))
    kinds = np.array([kind for *_, kind in drawn])
    if len(set(kinds.tolist())) < 2:
        raise ValueError(
            f"there are {len(inside)} phrases of {len({k for *_, k in inside})} kinds: clusters of "
            "two kinds or more can be told apart"
        )
    by_doc: dict[int, list[int]] = {}
    for place, (number, *_) in enumerate(drawn):
        by_doc.setdefault(number, []).append(place)
    numbers = sorted(by_doc)
    vectors: np.ndarray | None = None
    for number, own in zip(
        numbers, trace(nlp, [docs[i] for i in numbers], component=component), strict=True
    ):
        hidden = own.tokens().hidden
        if vectors is None:
            shape = len(hidden), len(drawn), 4 * hidden.shape[-1]
            vectors = np.zeros(shape, dtype=np.float32)
        for place in by_doc[number]:
            _, start, end, _ = drawn[place]
            vectors[:, place] = span_vector(hidden[:, start], hidden[:, end - 1])
        progress(1)
    assert vectors is not None
    return PhraseClusters(
        nmi=np.array([cluster_nmi(layer, kinds, seed=seed) for layer in vectors]),
        kinds=kinds,
        texts=[docs[i][start:end].text for i, start, end, _ in drawn],
        vectors=vectors,
    )


def cluster_nmi(vectors: np.ndarray, kinds: np.ndarray, *, seed: int = 0) -> float:
    """The normalized mutual information of k-means clusters and kinds.

    Args:
        vectors: (phrases, width).
        kinds: (phrases,); there are as many clusters as different kinds.
        seed: Of the clusters.
    """
    clusters = KMeans(len(np.unique(kinds)), n_init=10, random_state=seed).fit_predict(vectors)
    return float(normalized_mutual_info_score(kinds, clusters))
