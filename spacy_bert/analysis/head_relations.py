"""Single heads as parsers and as pickers of antecedents (Clark et al. 2019, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Span

from spacy_bert.analysis.head_maps import (
    Progress,
    best_head,
    halves,
    kept_heads,
    trace_docs,
    without_pruned,
)
from spacy_bert.analysis.trees import Tree, check_trees, trees
from spacy_bert.datasets.coreference import CLUSTERS

ALL = "all"
# Where the head stands, in words from the dependent: 1 is the next word. Clark et al.'s code tries
# -3 to 2; 0 is never right.
OFFSETS = (-3, -2, -1, 1, 2)
DIRECTIONS = ("dependent to head", "head to dependent")

_CHOOSE, _SCORE = 0, -1  # parts of the Docs; without a split they are one
_MORE = "give more of them, or held_out=False if each half is too small"

Annotation = Literal["gold", "spaCy"]
ClustersOf = Callable[[Doc], Sequence[Sequence[Span]]]


@dataclass(frozen=True, kw_only=True)
class RelationScore:
    """The best head for a relation, beside the best fixed offset.

    Attributes:
        relation: Its label, or "all".
        count: How many dependents were scored.
        layer: Of the best head, from 0.
        head: Its number in the layer, from 0.
        direction: One of `DIRECTIONS`: whether the dependent's row or its column is read.
        accuracy: Share of the dependents for which the greatest weight is their head's.
        offset: The best offset, in words from the dependent; 1 is the next word.
        offset_accuracy: Share of the dependents whose head stands there.
    """

    relation: str
    count: int
    layer: int
    head: int
    direction: str
    accuracy: float
    offset: int
    offset_accuracy: float


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadRelations:
    """How well each head finds the heads of dependents, relation by relation.

    Attributes:
        scores: A row for each relation, "all" first, then the most frequent ones first.
        accuracy: On the same Docs, of all heads, (relations, layers, heads, directions) float64, in
            the order of `scores` and `DIRECTIONS`; NaN for pruned heads.
        annotation: "gold", or "spaCy" if the trees are a parser's: the figures then say how far
            heads agree with it.
        held_out: Whether heads and offsets were chosen on other Docs than they were scored on.
        docs: How many Docs there were, those to choose on among them.
        left_out: Dependents of each relation that was too rare for a row.
    """

    scores: Sequence[RelationScore]
    accuracy: np.ndarray
    annotation: Annotation
    held_out: bool
    docs: int
    left_out: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Coreference:
    """How well each head finds an antecedent among the earlier mentions.

    Attributes:
        accuracy: Of all heads, (layers, heads) float64; NaN for pruned ones.
        layer: Of the best head, from 0.
        head: Its number in the layer, from 0.
        best: Its accuracy.
        nearest: Accuracy of the nearest mention.
        first: Accuracy of the first mention of the Doc.
        mentions: How many mentions with an antecedent were scored.
        held_out: Whether the head was chosen on other Docs than it was scored on.
    """

    accuracy: np.ndarray
    layer: int
    head: int
    best: float
    nearest: float
    first: float
    mentions: int
    held_out: bool


def head_relations(
    nlp: Language,
    docs: Iterable[Doc],
    *,
    component: str | None = None,
    annotation: Annotation = "gold",
    held_out: bool = True,
    minimum: int = 50,
    progress: Progress | None = None,
) -> HeadRelations:
    """Read each head as a parser: the word of most attention is the head (Clark et al., 4.2).

    Attention is between words ([CLS] and [SEP] left out, the diagonal zero), of a word to those of
    its own sentence. Roots and punctuation are not scored as dependents. The best of many heads
    looks better than it is on the Docs on which it was chosen: every other Doc is for choosing, and
    the rest for scoring, unless `held_out` is false, as in the paper.

    Args:
        nlp: A pipeline with an encoder.
        docs: Docs with dependency trees.
        component: Name of the component whose encoder is meant, if there are several.
        annotation: "gold" if people made the trees, "spaCy" if a parser did.
        held_out: Whether to choose on one half of the Docs and score on the other.
        minimum: Relations of fewer dependents are left out; "all" counts them still.
        progress: Called with 1 after each Doc.

    Raises:
        ValueError: If a Doc has no tree, none has a dependent to score, there are too few Docs, or
            the pipeline has no encoder of spacy_bert's.
    """
    docs = list(docs)
    check_trees(docs)
    part = _parts(docs, held_out)
    kept = kept_heads(nlp, component)
    labels = sorted({token.dep_ for doc in docs for token in doc})
    hits = _Hits([ALL, *labels], kept, parts=2 if held_out else 1)
    for number, found in enumerate(trace_docs(nlp, docs, component)):
        attention = found.tokens().attention
        for tree in trees(found.doc, found.reading.align_lengths > 0):
            if len(tree.dependents):
                hits.add(int(part[number]), tree, attention)
        if progress is not None:
            progress(1)
    rows = hits.rows(minimum)
    if not rows:
        raise ValueError(f"{len(docs)} Docs have no dependents to score: {_MORE}")
    return HeadRelations(
        scores=[_best(hits, row) for row in rows],
        accuracy=np.stack([hits.of_heads(_SCORE, row) for row in rows]),
        annotation=annotation,
        held_out=held_out,
        docs=len(docs),
        left_out=hits.left_out(rows),
    )


def _parts(docs: Sequence[Doc], held_out: bool) -> np.ndarray:
    """The part that each Doc is of: the first is for choosing, the last one for scoring."""
    return halves(docs) if held_out else np.zeros(len(docs), dtype=np.int64)


class _Hits:
    """How often each head and each offset was right, relation by relation, in each part."""

    def __init__(self, relations: Sequence[str], kept: np.ndarray, *, parts: int) -> None:
        self.relations = list(relations)
        self.counts = np.zeros((parts, len(relations)), dtype=np.int64)  # what was scored
        self._rows = {relation: row for row, relation in enumerate(relations)}
        self._kept = kept
        self._of_offsets = np.zeros((parts, len(relations), len(OFFSETS)), dtype=np.int64)
        self._of_heads = np.zeros((parts, *kept.shape, len(DIRECTIONS), len(relations)))

    def rows(self, minimum: int) -> list[int]:
        """The relations to report: "all" first, then the most frequent, none that a part lacks."""
        total = self.counts.sum(axis=0)
        total[0] = max(total.max() + 1, minimum)
        order = np.argsort(-total, kind="stable").tolist()
        return [row for row in order if total[row] >= minimum and self.counts[:, row].all()]

    def left_out(self, rows: Sequence[int]) -> dict[str, int]:
        """How often each relation came that is in none of the rows; the most frequent first."""
        total = self.counts.sum(axis=0)
        rare = [row for row in np.argsort(-total, kind="stable").tolist() if row not in rows]
        return {self.relations[row]: int(total[row]) for row in rare if total[row]}

    def of_heads(self, part: int, row: int) -> np.ndarray:
        """Accuracy of each head, (layers, heads, directions), NaN for pruned ones."""
        return without_pruned(self._of_heads[part, ..., row] / self.counts[part, row], self._kept)

    def of_offsets(self, part: int, row: int) -> np.ndarray:
        """Accuracy of each offset, (offsets,)."""
        return np.asarray(self._of_offsets[part, row] / self.counts[part, row])

    def add(self, part: int, tree: Tree, attention: np.ndarray) -> None:
        """Score a sentence.

        Args:
            part: Of which part it is.
            tree: Its tree.
            attention: Of the tokens of the Doc, (layers, heads, tokens, tokens).
        """
        places = tree.dependents
        heads = tree.heads[places]
        members = np.zeros((len(places), len(self.relations)), dtype=np.float32)
        members[:, self._rows[ALL]] = 1.0
        rows = [self._rows[tree.relations[place]] for place in places.tolist()]
        members[np.arange(len(places)), rows] = 1.0
        right = np.take(predicted_heads(attention, tree.words), places, axis=-1) == heads
        self._of_heads[part] += right.astype(np.float32) @ members
        hit = (heads - places)[:, None] == np.array(OFFSETS)
        self._of_offsets[part] += (members.T @ hit).astype(np.int64)
        self.counts[part] += members.sum(axis=0).astype(np.int64)


def predicted_heads(attention: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The head of each word that each head of the network suggests.

    Args:
        attention: Of the tokens of a Doc, (layers, heads, tokens, tokens).
        words: Those of a sentence, (words,).

    Returns:
        Places in `words`, (layers, heads, directions, words), by `DIRECTIONS`: the word to which a
        word attends most, and the word that attends most to it.
    """
    maps = attention[:, :, words[:, None], words]  # a copy
    maps[..., np.arange(len(words)), np.arange(len(words))] = 0.0
    return np.stack([maps.argmax(axis=-1), maps.argmax(axis=-2)], axis=2)


def _best(hits: _Hits, row: int) -> RelationScore:
    layer, head, direction = best_head(hits.of_heads(_CHOOSE, row))
    offset = int(hits.of_offsets(_CHOOSE, row).argmax())
    return RelationScore(
        relation=hits.relations[row],
        count=int(hits.counts[_SCORE, row]),
        layer=layer,
        head=head,
        direction=DIRECTIONS[direction],
        accuracy=float(hits.of_heads(_SCORE, row)[layer, head, direction]),
        offset=OFFSETS[offset],
        offset_accuracy=float(hits.of_offsets(_SCORE, row)[offset]),
    )


def span_clusters(doc: Doc) -> list[list[Span]]:
    """The groups of `doc.spans` whose keys begin with "coref_clusters_"."""
    return [list(group) for key, group in doc.spans.items() if key.startswith(CLUSTERS)]


def coreference(
    nlp: Language,
    docs: Iterable[Doc],
    *,
    component: str | None = None,
    clusters: ClustersOf = span_clusters,
    held_out: bool = True,
    progress: Progress | None = None,
) -> Coreference:
    """Read each head as a picker of antecedents (Clark et al. 2019, section 4.3).

    Of the words that head the earlier mentions, that is picked to which the word that heads a
    mention attends most; it is right if it heads a mention of the same cluster. Scored are mentions
    with an antecedent. The word that heads a mention is its root, or without a tree its last word.
    Attention does not reach from one window of a long Doc to another.

    Args:
        nlp: A pipeline with an encoder.
        docs: Docs with clusters of mentions.
        component: Name of the component whose encoder is meant, if there are several.
        clusters: Gives the clusters of a Doc, mentions of nothing else as clusters of one.
        held_out: Whether to choose the best head on one half of the Docs and score on the other.
        progress: Called with 1 after each Doc.

    Raises:
        ValueError: If no mention has an antecedent, there are too few Docs, or the pipeline has no
            encoder of spacy_bert's.
    """
    docs = list(docs)
    part = _parts(docs, held_out)
    kept = kept_heads(nlp, component)
    parts = 2 if held_out else 1
    hits, counts = np.zeros((parts, *kept.shape)), np.zeros(parts, dtype=np.int64)
    baselines = np.zeros((parts, 2))
    for number, found in enumerate(trace_docs(nlp, docs, component)):
        where, attention = int(part[number]), found.tokens().attention
        for word, candidates, right in _choices(clusters(found.doc)):
            weights = attention[:, :, word, candidates]
            hits[where] += right[weights.argmax(axis=-1)]
            baselines[where] += right[-1], right[0]
            counts[where] += 1
        if progress is not None:
            progress(1)
    if not counts.all():
        raise ValueError(
            f"{len(docs)} Docs have no mentions with an antecedent to score (clusters are wanted, "
            f'by custom in doc.spans["{CLUSTERS}1"] and so on): {_MORE}'
        )
    layer, head = best_head(without_pruned(hits[_CHOOSE], kept))
    accuracy = without_pruned(hits[_SCORE] / counts[_SCORE], kept)
    nearest, first = (baselines[_SCORE] / counts[_SCORE]).tolist()
    return Coreference(
        accuracy=accuracy,
        layer=layer,
        head=head,
        best=float(accuracy[layer, head]),
        nearest=nearest,
        first=first,
        mentions=int(counts[_SCORE]),
        held_out=held_out,
    )


def _choices(
    clusters: Sequence[Sequence[Span]],
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Of each mention with an antecedent: its word, the earlier ones, and which of them are right.

    Words stand in the order of the text; one may head mentions of several clusters.
    """
    heads = sorted(
        (_head_word(mention), number)
        for number, cluster in enumerate(clusters)
        for mention in cluster
    )
    found = []
    for word, number in dict.fromkeys(heads):
        earlier = sorted({other for other, _ in heads if other < word})
        same = {other for other, cluster in heads if cluster == number}
        right = np.array([other in same for other in earlier], dtype=bool)
        if right.any():
            found.append((word, np.array(earlier), right))
    return found


def _head_word(mention: Span) -> int:
    return mention.root.i if mention.doc.has_annotation("DEP") else mention.end - 1
