"""Probing tasks: what a probe is asked of a Doc.

Every task has one shape, that of edge probing (Tenney et al. 2019, arXiv 1905.06316): a span, or
two, and what holds of them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from spacy.tokens import Doc, Span, Token

from spacy_bert.datasets.coreference import CLUSTERS, PRONOUNS_KEY
from spacy_bert.datasets.edges import FIRST_KEY, LABELS, SECOND_KEY
from spacy_bert.datasets.semeval2010 import FIRST_KEY as FIRST_NOMINAL
from spacy_bert.datasets.semeval2010 import RELATIONS
from spacy_bert.datasets.semeval2010 import SECOND_KEY as SECOND_NOMINAL
from spacy_bert.models.segments import SEPARATOR

# Semantic roles of OntoNotes, core and not; what refers to one or goes on with it (R-, C-) is none.
CORE_ROLES = (*(f"ARG{number}" for number in range(6)), "ARGA")
OTHER_ROLES = "ADJ ADV CAU COM DIR DIS DSP EXT GOL LOC LVB MNR MOD NEG PNC PRD PRP PRR PRX REC TMP"
ROLES = frozenset((*CORE_ROLES, *(f"ARGM-{role}" for role in OTHER_ROLES.split())))


class Target(NamedTuple):
    """One question.

    Attributes:
        first: Tokens of the first span: the first one, and the one behind the last.
        second: Likewise of the second span; None if the task is about one.
        labels: What holds of them; several of some tasks, none of some targets.
    """

    first: tuple[int, int]
    second: tuple[int, int] | None
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """A task of probing.

    Attributes:
        name: What it is called in tables.
        targets: The questions about a Doc.
        pairs: Whether each is about two spans.
        symmetric: Whether the two spans are alike, and are read by the same projection.
        scored: The labels that count in the score; None for all.
    """

    name: str
    targets: Callable[[Doc], list[Target]]
    pairs: bool = False
    symmetric: bool = False
    scored: frozenset[str] | None = None


def _tokens(name: str, label: Callable[[Token], str]) -> ProbeTask:
    def targets(doc: Doc) -> list[Target]:
        found = ((token.i, label(token)) for token in doc if not token.is_space)
        return [Target((i, i + 1), None, (value,)) for i, value in found if value]

    return ProbeTask(name=name, targets=targets)


def part_of_speech() -> ProbeTask:
    """The coarse part of speech of each token (`token.pos_`)."""
    return _tokens("part of speech", lambda token: token.pos_)


def tag() -> ProbeTask:
    """The fine-grained tag of each token (`token.tag_`)."""
    return _tokens("tag", lambda token: token.tag_)


def morphology(feature: str) -> ProbeTask:
    """A feature of the tokens that have it, such as "Number" (`token.morph`)."""

    def label(token: Token) -> str:
        values: list[str] = token.morph.get(feature, [])
        return ",".join(values)

    return _tokens(feature, label)


def dependency() -> ProbeTask:
    """The relation of each token to its head (`token.dep_`, `token.head`), the root left out."""

    def targets(doc: Doc) -> list[Target]:
        return [
            Target((token.i, token.i + 1), (token.head.i, token.head.i + 1), (token.dep_,))
            for token in doc
            if token.dep_ and token.head.i != token.i and not token.is_space
        ]

    return ProbeTask(name="dependency", targets=targets, pairs=True)


def entity() -> ProbeTask:
    """The type of each entity (`doc.ents`)."""
    return spans("entity", lambda doc: doc.ents)


def chunk(key: str = "chunks") -> ProbeTask:
    """The type of each phrase (`doc.spans[key]`)."""
    return spans("chunk", lambda doc: doc.spans.get(key, ()))


def spans(name: str, find: Callable[[Doc], Iterable[Span]]) -> ProbeTask:
    """The label of spans.

    Args:
        name: Of the task.
        find: Gives the spans of a Doc.
    """

    def targets(doc: Doc) -> list[Target]:
        return [Target((s.start, s.end), None, (s.label_,)) for s in find(doc) if len(s)]

    return ProbeTask(name=name, targets=targets)


def category() -> ProbeTask:
    """The class of the whole Doc (`doc.cats`), without borders of segments at its ends."""

    def targets(doc: Doc) -> list[Target]:
        labels = tuple(label for label, value in doc.cats.items() if value == 1.0)
        return [Target((0, len(doc)), None, labels)] if len(doc) and doc.cats else []

    return ProbeTask(name="category", targets=targets)


def supporting_fact(key: str = "supporting_facts") -> ProbeTask:
    """Whether a sentence of the context supports the answer (van Aken et al. 2019, section 4.2).

    The question is the first segment, the first span; each sentence of the others is a second one.
    Contexts of one sentence say nothing and are left out. A Doc needs sentences, and the facts in
    `doc.spans[key]`; where there are none, the sentence of the answer is the fact (SQuAD).
    """

    def targets(doc: Doc) -> list[Target]:
        borders = [token.i for token in doc if SEPARATOR in token.text]
        if not borders or not doc.has_annotation("SENT_START"):
            return []
        question = (0, borders[0])
        sentences = [
            (start, end)
            for sent in doc.sents
            if (start := max(sent.start, borders[0] + 1)) < (end := sent.end)
        ]
        facts = doc.spans.get(key) or doc.spans.get("answers") or ()
        if len(sentences) < 2 or not facts or not borders[0]:
            return []
        return [
            Target(
                question,
                (start, end),
                ("yes" if any(start <= fact.start < end for fact in facts) else "no",),
            )
            for start, end in sentences
        ]

    return ProbeTask(name="supporting fact", targets=targets, pairs=True, scored=frozenset({"yes"}))


def question_type() -> ProbeTask:
    """The type of the answer that a question wants, its Doc's class (TREC)."""
    return replace(category(), name="question type")


def coreference() -> ProbeTask:
    """Whether a mention and a pronoun, or two mentions, mean the same; "yes" alone is scored.

    The mentions of a Doc stand in the groups of `doc.spans` that begin with "coref_clusters_". If
    `doc.spans["pronouns"]` says which were asked about (GAP, DPR), each is paired with all mentions
    but the pronouns; else, each mention with all before it.
    """

    def targets(doc: Doc) -> list[Target]:
        clusters = [group for key, group in doc.spans.items() if key.startswith(CLUSTERS)]
        own = sorted(
            {(span.start, span.end, number) for number, g in enumerate(clusters) for span in g}
        )
        asked = {(span.start, span.end) for span in doc.spans.get(PRONOUNS_KEY, ())}
        return [
            Target((start, end), (other_start, other_end), ("yes" if one == other else "no",))
            for place, (other_start, other_end, other) in enumerate(own)
            if not asked or (other_start, other_end) in asked
            for start, end, one in (own if asked else own[:place])
            if (start, end) not in asked
        ]

    return ProbeTask(name="coreference", targets=targets, pairs=True, scored=frozenset({"yes"}))


def relation() -> ProbeTask:
    """The relation of two nominals and its direction (SemEval-2010 task 8); "Other" is not scored.

    The nominals stand in `doc.spans["e1"]` and `doc.spans["e2"]`, the relation in `doc.cats`.
    """

    def targets(doc: Doc) -> list[Target]:
        labels = tuple(label for label, value in doc.cats.items() if value == 1.0)
        pairs = zip(
            doc.spans.get(FIRST_NOMINAL, ()), doc.spans.get(SECOND_NOMINAL, ()), strict=True
        )
        return [Target((a.start, a.end), (b.start, b.end), labels) for a, b in pairs if labels]

    return ProbeTask(name="relation", targets=targets, pairs=True, scored=frozenset(RELATIONS))


def edges() -> ProbeTask:
    """Labels of pairs of spans, as `data edges` reads them from JSON."""

    def targets(doc: Doc) -> list[Target]:
        first, second = doc.spans.get(FIRST_KEY, ()), doc.spans.get(SECOND_KEY, ())
        if not second:
            return []
        return [
            Target((a.start, a.end), (b.start, b.end), tuple(labels))
            for a, b, labels in zip(first, second, first.attrs[LABELS], strict=True)
        ]

    return ProbeTask(name="edges", targets=targets, pairs=True)


def labelled_spans() -> ProbeTask:
    """Labels of single spans, as `data edges` reads them from JSON."""

    def targets(doc: Doc) -> list[Target]:
        spans = doc.spans.get(FIRST_KEY, ())
        if not spans or doc.spans.get(SECOND_KEY, ()):
            return []
        labels = spans.attrs[LABELS]
        return [
            Target((s.start, s.end), None, tuple(own)) for s, own in zip(spans, labels, strict=True)
        ]

    return ProbeTask(name="labelled spans", targets=targets)


def semantic_role() -> ProbeTask:
    """As `edges`, of which core and other roles alone are scored (Tenney et al. 2019).

    OntoNotes also has labels for what refers to an argument, or goes on with it: R-ARG0, C-ARG1.
    """
    return replace(edges(), name="semantic role", scored=ROLES)


TASKS: dict[str, Callable[[], ProbeTask]] = {
    "pos": part_of_speech,
    "tag": tag,
    "dependency": dependency,
    "entity": entity,
    "chunk": chunk,
    "category": category,
    "supporting-fact": supporting_fact,
    "question-type": question_type,
    "coreference": coreference,
    "relation": relation,
    "edges": edges,
    "labelled-spans": labelled_spans,
    "semantic-role": semantic_role,
}


def find_task(name: str) -> ProbeTask:
    """A task by its name, or "morph:Number" for a feature of morphology.

    Raises:
        ValueError: If it is unknown.
    """
    if name.startswith("morph:") and name.partition(":")[2]:
        return morphology(name.partition(":")[2])
    if name not in TASKS:
        raise ValueError(
            f"unknown task {name!r}: there are {', '.join(TASKS)}, and morph:FEATURE, such as "
            "morph:Number"
        )
    return TASKS[name]()


def control_labels(
    docs: Sequence[Doc], targets: Sequence[Sequence[Target]], *, seed: int = 0
) -> list[list[Target]]:
    """The control task: the same spans, with labels that only remembering words can give.

    Hewitt & Liang 2019 (arXiv 1909.03368), section 2: each word type has a label drawn at random,
    by the frequencies of the task's own; of a longer span, all its words together count as one
    type. Of two spans, the first decides.

    Args:
        docs: The Docs, of training and test set together: a type has one label in both.
        targets: The task's own, for each Doc.
        seed: Of the draws.
    """
    counts = Counter(target.labels for own in targets for target in own)
    kinds, weights = list(counts), list(counts.values())
    generator = random.Random(seed)
    drawn: dict[str, tuple[str, ...]] = {}

    def label(doc: Doc, target: Target) -> tuple[str, ...]:
        word = doc[slice(*target.first)].text.lower()
        if word not in drawn:
            (drawn[word],) = generator.choices(kinds, weights)
        return drawn[word]

    return [
        [target._replace(labels=label(doc, target)) for target in own]
        for doc, own in zip(docs, targets, strict=True)
    ]
