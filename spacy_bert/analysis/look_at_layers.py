"""The analyses of layers one by one, from pipelines and Docs to the sections of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Token
from spacy.training import Example

from spacy_bert.analysis.agreement import AgreementTarget, find_agreement, probe_agreement
from spacy_bert.analysis.description_length import RECIPE, online_code
from spacy_bert.analysis.inside import find_shim
from spacy_bert.analysis.layer_choice import token_geometry
from spacy_bert.analysis.layer_similarity import layer_similarity
from spacy_bert.analysis.look_inside import Look
from spacy_bert.analysis.minimal_pairs import MaskedScorer, MinimalPair, minimal_pairs
from spacy_bert.analysis.phrases import phrase_clusters
from spacy_bert.analysis.probe_tasks import ProbeTask
from spacy_bert.analysis.probe_training import ProbeRecipe
from spacy_bert.analysis.probing import probe
from spacy_bert.analysis.regression import Quantity, regress
from spacy_bert.analysis.sections.geometry import add_geometry
from spacy_bert.analysis.sections.probing import (
    add_classical_pipeline,
    add_online_codes,
    add_probing,
    add_regressions,
)
from spacy_bert.analysis.sections.similarity import add_similarity, add_stitching
from spacy_bert.analysis.sections.structure import (
    add_agreement,
    add_decompositions,
    add_minimal_pairs,
    add_phrases,
    add_sentences,
    add_spanning_trees,
)
from spacy_bert.analysis.sentence_probes import (
    SentenceScores,
    probe_sentences,
    sentence_vectors,
    split_targets,
)
from spacy_bert.analysis.sentence_tasks import SENTENCE_TASKS, SentenceTarget, derive
from spacy_bert.analysis.spanning_trees import spanning_trees
from spacy_bert.analysis.stitching import StitchRecipe, stitch_models
from spacy_bert.analysis.tensor_products import SCHEMES, Decomposition, decompose

OWN = "This encoder"
PARSED = 200  # Docs whose trees are read off all heads, among many


def look_at_probes(
    look: Look,
    train: Sequence[Doc],
    dev: Sequence[Doc],
    task: ProbeTask,
    *,
    others: Mapping[str, Language] | None = None,
    recipe: ProbeRecipe | None = None,
) -> None:
    """What probes find in each layer, of this encoder and of others beside it."""
    found = {
        name: probe(
            nlp,
            train,
            dev,
            task,
            component=look.component if nlp is look.nlp else None,
            cumulative=False,
            recipe=recipe,
            progress=look.progress,
        )
        for name, nlp in {OWN: look.nlp, **(others or {})}.items()
    }
    add_probing(look.report, found, source=look.at(train, scored=dev))


def look_at_codes(
    look: Look,
    train: Sequence[Doc],
    dev: Sequence[Doc],
    task: ProbeTask,
    *,
    others: Mapping[str, Language] | None = None,
    recipe: ProbeRecipe = RECIPE,
) -> None:
    """How few bits the labels of a task cost, given each layer (Voita & Titov 2020)."""
    found = {
        name: online_code(
            nlp,
            train,
            dev,
            task,
            component=look.component if nlp is look.nlp else None,
            recipe=recipe,
            progress=look.progress,
        )
        for name, nlp in {OWN: look.nlp, **(others or {})}.items()
    }
    add_online_codes(look.report, found, source=look.at(train, scored=dev))


def look_at_numbers(
    look: Look,
    train: Sequence[Doc],
    dev: Sequence[Doc],
    quantity: Quantity,
    *,
    others: Mapping[str, Language] | None = None,
) -> None:
    """How well a number of tokens is predicted from each layer."""
    found = {
        name: regress(
            nlp,
            train,
            dev,
            quantity,
            component=look.component if nlp is look.nlp else None,
            progress=look.progress,
        )
        for name, nlp in {OWN: look.nlp, **(others or {})}.items()
    }
    add_regressions(look.report, found, source=look.at(train, scored=dev))


def look_at_pipeline(
    look: Look,
    train: Sequence[Doc],
    dev: Sequence[Doc],
    tasks: Sequence[ProbeTask],
    *,
    recipe: ProbeRecipe | None = None,
) -> None:
    """Where in the stack each of several tasks is solved (Tenney et al. 2019)."""
    found = [
        probe(
            look.nlp,
            train,
            dev,
            task,
            component=look.component,
            recipe=recipe,
            progress=look.progress,
        )
        for task in tasks
    ]
    add_classical_pipeline(look.report, found, source=look.at(train, scored=dev))


def look_at_structure(
    look: Look, docs: Sequence[Doc], *, test: Sequence[AgreementTarget] | None = None
) -> None:
    """Phrases, sentences, agreement, roles and trees: all that the annotation of the Docs allows.

    Args:
        look: Where to look.
        docs: With phrases in `doc.ents`, or trees, tags and morphology.
        test: Verbs whose agreement is scored; by default those of every fifth of `docs`.

    Raises:
        ValueError: If there is neither.
    """
    has_trees = all(doc.has_annotation("DEP") for doc in docs)
    if any(doc.ents for doc in docs):
        look_at_phrases(look, docs)
    elif not has_trees:
        raise ValueError("the Docs have neither phrases in doc.ents nor trees: give annotated ones")
    if has_trees:
        look_at_sentences(look, docs)
        train = docs if test is not None else [doc for i, doc in enumerate(docs) if i % 5]
        asked = list(find_agreement(docs[::5])) if test is None else test
        look_at_agreement(look, list(find_agreement(train)), asked)
        depth = find_shim(look.nlp, look.component).network.config.num_hidden_layers
        look_at_roles(look, docs, sorted({1, (depth + 1) // 2, depth}))
        look_at_spanning_trees(look, docs[:PARSED])


def look_at_phrases(look: Look, docs: Sequence[Doc]) -> None:
    """Whether phrases, as they stand in `doc.ents`, cluster by their kinds."""
    found = phrase_clusters(look.nlp, docs, component=look.component, progress=look.progress)
    add_phrases(look.report, found, source=look.at(docs))


def look_at_sentences(look: Look, docs: Sequence[Doc]) -> None:
    """What each layer knows about whole sentences, asked ten ways, from a treebank."""
    found = {}
    for name in SENTENCE_TASKS:
        try:
            targets = derive(name, docs)
        except ValueError:  # this treebank has nothing to ask
            continue
        found[name] = _probe_targets(look, targets, split_targets(targets))
    if not found:
        raise ValueError("the sentences give none of the ten tasks: give a treebank (.conllu)")
    add_sentences(look.report, found, source=look.at(docs))


def look_at_task(
    look: Look, name: str, sets: Mapping[str, Sequence[SentenceTarget]], *, limit: int | None = None
) -> None:
    """What each layer knows about whole sentences, of a task of SentEval's form.

    Args:
        look: Where to look.
        name: Of the task.
        sets: As `read_senteval` gives them.
        limit: Sentences of each set at most.
    """
    parts = [list(sets[part])[:limit] for part in ("train", "dev", "test")]
    ends = np.cumsum([len(part) for part in parts]).tolist()
    first, second, last = (
        list(range(end - len(part), end)) for part, end in zip(parts, ends, strict=True)
    )
    targets = [target for part in parts for target in part]
    found = {name: _probe_targets(look, targets, (first, second, last))}
    add_sentences(look.report, found, source=look.at(parts[0], scored=parts[2]))


def _probe_targets(
    look: Look,
    targets: Sequence[SentenceTarget],
    splits: tuple[Sequence[int], Sequence[int], Sequence[int]],
) -> SentenceScores:
    vectors = sentence_vectors(
        look.nlp,
        [target.doc for target in targets],
        component=look.component,
        progress=look.progress,
    )
    return probe_sentences(vectors, [target.label for target in targets], splits)


def look_at_agreement(
    look: Look, train: Sequence[AgreementTarget], test: Sequence[AgreementTarget]
) -> None:
    """Whether the vector of a verb tells the number of its subject, across attractors."""
    found = probe_agreement(look.nlp, train, test, component=look.component, progress=look.progress)
    add_agreement(look.report, found, source=look.source)  # it says itself how many verbs


def look_at_roles(look: Look, docs: Sequence[Doc], layers: Sequence[int]) -> None:
    """Which roles of words explain the vectors of sentences in some layers."""
    vectors = sentence_vectors(look.nlp, docs, component=look.component, progress=look.progress)
    found: dict[str, dict[int, Decomposition]] = {
        name: {layer: decompose(docs, vectors[:, layer], roles) for layer in layers}
        for name, roles in SCHEMES.items()
    }
    add_decompositions(look.report, found, source=look.at(docs))


def look_at_spanning_trees(look: Look, docs: Sequence[Doc]) -> None:
    """Whether the attention of a single head gives dependency trees."""
    found = spanning_trees(look.nlp, docs, component=look.component, progress=look.progress)
    add_spanning_trees(look.report, found, source=look.at(docs))


def look_at_pairs_of_sentences(
    look: Look,
    checkpoint: str | Path,
    pairs: Iterable[MinimalPair],
    *,
    limit: int | None = None,
) -> None:
    """Whether a masked language model holds the right sentence for the likelier one.

    Args:
        look: Where what is found goes.
        checkpoint: With the head for masked pieces.
        pairs: The pairs.
        limit: Pairs of each kind at most.
    """
    seen: Counter[str] = Counter()
    chosen = []
    for pair in pairs:
        seen[pair.kind] += 1
        if limit is None or seen[pair.kind] <= limit:
            chosen.append(pair)
    found = minimal_pairs(MaskedScorer.load(checkpoint), chosen, progress=look.progress)
    add_minimal_pairs(look.report, found, source=look.source)


def look_at_similarity(
    look: Look, docs: Sequence[Doc], *, name: str, others: Mapping[str, Language] | None = None
) -> None:
    """How alike the layers are, with each other and with those of other pipelines."""
    found = layer_similarity(look.nlp, docs, component=look.component, progress=look.progress)
    add_similarity(look.report, found, one=name, other=name, source=look.at(docs))
    for number, (other, nlp) in enumerate((others or {}).items(), start=1):
        found = layer_similarity(
            look.nlp, docs, nlp, component=look.component, progress=look.progress
        )
        add_similarity(
            look.report,
            found,
            one=name,
            other=other,
            source=look.at(docs),
            name=f"cka-other-{number}",
        )


def look_at_stitching(
    look: Look,
    front: Language,
    train: Sequence[Example],
    dev: Sequence[Example],
    layers: Sequence[int] | None,
    *,
    one: str,
    other: str,
    recipe: StitchRecipe | None = None,
) -> None:
    """Whether the pipeline can go on from the layers of another one, by default from all."""
    shims = find_shim(front), find_shim(look.nlp, look.component)
    depth = min(shim.network.config.num_hidden_layers for shim in shims)
    found = [
        stitch_models(
            front,
            look.nlp,
            train,
            dev,
            layer,
            component=look.component,
            recipe=recipe,
            progress=look.progress,
        )
        for layer in (range(depth + 1) if layers is None else layers)
    ]
    source = look.at(train, scored=dev)
    add_stitching(look.report, found, one=one, other=other, source=source)


def look_at_geometry(
    look: Look, docs: Sequence[Doc], *, label: Callable[[Token], str] | None = None, points: int
) -> None:
    """Intrinsic dimension and neighbourhoods of tokens in each layer."""
    found = token_geometry(
        look.nlp,
        docs,
        label=label,
        points=points,
        component=look.component,
        progress=look.progress,
    )
    add_geometry(look.report, found, source=look.at(docs))
