"""All scores of a pipeline on a `.spacy` file, beside what could be had without it, and its speed.

`spacy evaluate` prints a fixed list of scores, without exact match, Matthews' correlation and other
ones of ours, and 0.0 where the data have no gold standard.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.pipeline.textcat import TextCategorizer
from spacy.pipeline.textcat_multilabel import MultiLabel_TextCategorizer
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Corpus, Example

from spacy_bert.pipeline.choice import BertChoice
from spacy_bert.pipeline.chosen import count_choices
from spacy_bert.pipeline.span_qa import BertSpanQA
from spacy_bert.pipeline.textcat import BertTextCategorizer

Scores = dict[str, Any]

# What scores are compared with, by the beginning of their names.
GOLD = {
    "token_": "words (the Docs' white space is unknown)",
    "tag_": "tags (token.tag_)",
    "pos_": "parts of speech (token.pos_)",
    "morph_": "morphology (token.morph)",
    "lemma_": "lemmas (token.lemma_)",
    "dep_": "trees (token.head, token.dep_)",
    "sents_": "sentences (token.is_sent_start)",
    "ents_": "entities (doc.ents)",
    "spans_": "spans (doc.spans)",
    "cats_": "classes or values of its labels (doc.cats)",
    "answers_": "answers (doc.spans)",
    "choice_": "choices (doc.cats)",
}


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What is reached without reading a text.

    Attributes:
        name: How.
        value: The score.
    """

    name: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Component:
    """The scores of one component.

    Attributes:
        name: Its name in the pipeline.
        scores: What its scorer gave; empty if it was not scored.
        baselines: Some of the scores, of a system that reads no text.
        not_scored: Why there are no scores; None if there are.
    """

    name: str
    scores: Scores
    baselines: Mapping[str, Baseline]
    not_scored: str | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All about a pipeline on a data set.

    Attributes:
        docs: Number of Docs.
        words: Number of the tokens of the pipeline's tokenizer.
        seconds: What tokenizer and pipeline took.
        components: Those that can be scored, in the order of the pipeline.
    """

    docs: int
    words: int
    seconds: float
    components: Sequence[Component]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data, for JSON."""
        parts = self.components
        return {
            "docs": self.docs,
            "words": self.words,
            "seconds": self.seconds,
            "docs_per_second": self.docs / self.seconds,
            "words_per_second": self.words / self.seconds,
            "scores": {part.name: part.scores for part in parts if not part.not_scored},
            "not_scored": {part.name: part.not_scored for part in parts if part.not_scored},
            "baselines": {
                part.name: {key: vars(baseline) for key, baseline in part.baselines.items()}
                for part in parts
                if part.baselines
            },
        }


def evaluate(
    nlp: Language,
    data: Path,
    *,
    batch_size: int | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Run a pipeline on a data set, and score each component by its own scorer.

    Args:
        nlp: The pipeline.
        data: A `.spacy` file, or a directory of them.
        batch_size: Docs that the pipeline takes at once; by default, what its config says.
        progress: Called after each Doc.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no `.spacy` file, holds no Docs, or nothing to score a component with.
    """
    examples = read_examples(nlp, data)
    start = perf_counter()
    for example in examples:
        nlp.make_doc(example.reference.text)  # for the time alone: `predicted` has its tokens
    docs = nlp.pipe((example.predicted for example in examples), batch_size=batch_size)
    for example, doc in zip(examples, docs, strict=True):
        example.predicted = doc
        progress()
    seconds = perf_counter() - start
    scores = Scorer(nlp).score(examples, per_component=True)
    components = _components(nlp, scores, [example.reference for example in examples])
    _require_scores(nlp, data, components)
    return Evaluation(
        docs=len(examples),
        words=sum(len(example.predicted) for example in examples),
        seconds=seconds,
        components=components,
    )


def read_examples(nlp: Language, data: Path) -> list[Example]:
    """Gold Docs beside Docs of the same texts, as `spacy.Corpus` makes them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no `.spacy` file, or holds no Docs with words.
    """
    if not data.exists():
        raise FileNotFoundError(f"{data}: no such file; give a .spacy file")
    if data.is_file() and data.suffix != ".spacy":
        raise ValueError(f"{data}: expected a .spacy file, or a directory of them")
    try:
        examples = list(Corpus(data)(nlp))
    except Exception as error:  # whatever zlib and msgpack raise on other bytes
        raise ValueError(f"{data}: not a .spacy file ({error}); make it with DocBin") from error
    if not examples:
        raise ValueError(f"{data}: holds no Docs with words; give a file with annotated Docs")
    return examples


def _components(
    nlp: Language, scores: Mapping[str, Scores], references: Sequence[Doc]
) -> list[Component]:
    found = []
    for name, own in _plain(scores).items():
        component = nlp.tokenizer if name == "tokenizer" else nlp.get_pipe(name)
        if not own and hasattr(component, "add_listener"):
            continue  # an encoder: what it says shows in the others
        reason = _why_not(component, own, references)
        if name == "tokenizer" and reason:
            continue
        found.append(
            Component(
                name=name,
                scores={} if reason else own,
                baselines={} if reason else _baselines(component, own, references),
                not_scored=reason,
            )
        )
    return found


def _why_not(component: Any, scores: Scores, references: Iterable[Doc]) -> str | None:
    """Why scores mean nothing; None if they do."""
    if not scores:
        return "it has no scorer"
    if "ents_f" in scores:
        annotated = any(doc.ents for doc in references)
    elif "cats_score" in scores:
        annotated = any(label in doc.cats for doc in references for label in component.labels)
    else:
        annotated = any(isinstance(value, (int, float, dict)) for value in scores.values())
    if annotated:
        return None
    kinds = [gold for start, gold in GOLD.items() if any(key.startswith(start) for key in scores)]
    return f"no gold {' or '.join(kinds) or 'standard'}"


def _require_scores(nlp: Language, data: Path, components: Sequence[Component]) -> None:
    """Refuse data that say nothing of any component.

    Raises:
        ValueError: Says what is missing for each.
    """
    judged = [component for component in components if component.name != "tokenizer"]
    if not judged:
        names = ", ".join(nlp.pipe_names) or "none"
        raise ValueError(f"the pipeline has no component that can be scored (it has {names})")
    if all(component.not_scored for component in judged):
        reasons = "; ".join(f"{part.name}: {part.not_scored}" for part in judged)
        raise ValueError(f"{data}: nothing to score the pipeline with ({reasons})")


# Baselines


def _baselines(component: Any, scores: Scores, references: Sequence[Doc]) -> dict[str, Baseline]:
    """What the same data give to one who reads none of them, by the name of the score."""
    if isinstance(component, BertChoice):
        chances = [1.0 / count_choices(doc) for doc in references if doc.cats]
        return {"choice_acc": Baseline(name="chance", value=float(np.mean(chances)))}
    if isinstance(component, BertSpanQA):
        return _no_answer(component, references)
    if not isinstance(component, TextCategorizer):
        return {}
    mode = getattr(component, "mode", "exclusive")
    if mode == "regression":
        return _mean_value(component, references)
    if mode == "multilabel" or isinstance(component, MultiLabel_TextCategorizer):
        return {}
    counts = Counter(
        label for doc in references for label in component.labels if doc.cats.get(label) == 1.0
    )
    if not counts:
        return {}
    label, count = counts.most_common(1)[0]
    # Of exclusive classes, spaCy's own component has the accuracy as micro-F alone.
    key = "cats_acc" if isinstance(component, BertTextCategorizer) else "cats_micro_f"
    return {key: Baseline(name=f"always {label}", value=count / counts.total())}


def _no_answer(component: BertSpanQA, references: Iterable[Doc]) -> dict[str, Baseline]:
    groups = [
        doc.spans[component.spans_key] for doc in references if component.spans_key in doc.spans
    ]
    share = sum(not len(group) for group in groups) / len(groups)
    if not share:
        return {}
    baseline = Baseline(name="never an answer", value=share)
    return {"answers_em": baseline, "answers_f1": baseline}


def _mean_value(component: TextCategorizer, references: Sequence[Doc]) -> dict[str, Baseline]:
    golds = [
        [doc.cats[label] for doc in references if label in doc.cats] for label in component.labels
    ]
    value = float(np.mean([np.var(values) for values in golds if values]))
    return {"cats_mse": Baseline(name="always the mean", value=value)}


def _plain(value: Any) -> Any:
    """The same with Python's own numbers; None for those that JSON does not know."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
