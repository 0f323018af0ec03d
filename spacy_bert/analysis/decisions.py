"""What components decide about Docs, how likely they hold a decision, and how well they decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch

from spacy_bert.analysis.task_head import Output, TaskHead, bare
from spacy_bert.models.intervention import Intervention
from spacy_bert.models.windows import Windows
from spacy_bert.pipeline import bio
from spacy_bert.pipeline.answer_gold import MISSING, find_targets, gold_characters
from spacy_bert.pipeline.choice import BertChoice
from spacy_bert.pipeline.chosen import count_choices, gold_choice
from spacy_bert.pipeline.ner import BertEntityRecognizer
from spacy_bert.pipeline.span_qa import BertSpanQA
from spacy_bert.pipeline.textcat import BertTextCategorizer

BATCH = 32  # Docs that are run at once

# Numbers or tuples of them, so that two decisions can be compared.
Decision: TypeAlias = Any


class Decisions(Protocol):
    """How a component decides."""

    def own(self, doc: Doc, output: Output) -> Decision:
        """What it decides."""

    def gold(self, example: Example) -> Decision | None:
        """What is right; None if nothing is annotated."""

    def log_likelihood(self, output: Output, decision: Decision) -> float:
        """How likely it holds a decision; NaN if it cannot be told."""

    def say(self, doc: Doc, decision: Decision) -> str:
        """A decision in words."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well a component decides.

    Attributes:
        metric: Name of the score.
        score: The component's main score, or the one asked for.
        log_likelihood: Mean log-likelihood of the gold decisions, in nats.
    """

    metric: str
    score: float
    log_likelihood: float


def decisions_of(head: TaskHead) -> Decisions:
    """How a component decides."""
    pipe = head.pipe
    if isinstance(pipe, BertEntityRecognizer):
        return Tags(pipe)
    if isinstance(pipe, BertSpanQA):
        return Answers(pipe)
    if isinstance(pipe, BertChoice):
        return Choices()
    if pipe.mode == "exclusive":
        return Classes(pipe)
    return Labels(pipe) if pipe.mode == "multilabel" else Values(pipe)


def evaluate(
    head: TaskHead,
    examples: Iterable[Example],
    *,
    metric: str | None = None,
    intervention: Intervention | None = None,
    progress: Callable[[int], object] = lambda more: None,
) -> Quality:
    """Score a component by its own scorer; only it and its encoder are run.

    Args:
        head: The component.
        examples: Gold standard; they stay as they are.
        metric: Name of a score; by default the component's main one (`cats_score`, `ents_f`,
            `answers_f1`, `choice_acc`).
        intervention: What is changed in the encoder.
        progress: Called with the number of Docs that were done.

    Raises:
        ValueError: If there is no such score, or nothing is annotated.
    """
    decisions = decisions_of(head)
    scored: list[Example] = []
    found: list[float] = []
    for batch in minibatch(examples, BATCH):
        fresh = [Example(bare(example.predicted), example.reference) for example in batch]
        docs = [example.predicted for example in fresh]
        data = head.encode(docs, intervention)
        for example, output in zip(fresh, head.outputs(docs, data), strict=True):
            decision = decisions.gold(example) if output is not None else None
            if decision is not None:
                found.append(decisions.log_likelihood(output, decision))
        head.annotate(docs, data)
        scored += fresh
        progress(len(fresh))
    name = main_metric(head) if metric is None else metric
    scores = head.pipe.score(scored)
    value = scores.get(name)
    if name not in scores:
        numbers = [key for key, each in scores.items() if isinstance(each, (int, float))]
        raise ValueError(f"{head.name!r} has no score {name!r}: it has {', '.join(numbers)}")
    if value is None or not found:
        raise ValueError(f"{no_gold(head)} (score {name})")
    return Quality(metric=name, score=float(value), log_likelihood=float(np.nanmean(found)))


def score(
    nlp: Language,
    examples: Iterable[Example],
    component: str | None = None,
    *,
    metric: str | None = None,
) -> float:
    """A component's main score, or the one named; only it and its encoder are run.

    Raises:
        ValueError: If there is no such component or score, or nothing is annotated.
    """
    return evaluate(TaskHead.find(nlp, component), examples, metric=metric).score


def main_metric(head: TaskHead) -> str:
    """The score of a component that counts most in training."""
    kinds = {
        BertEntityRecognizer: "ents_f",
        BertSpanQA: "answers_f1",
        BertChoice: "choice_acc",
        BertTextCategorizer: "cats_score",
    }
    return kinds[type(head.pipe)]


def no_gold(head: TaskHead) -> str:
    """What is said of data without the annotation that a component learns from."""
    pipe = head.pipe
    if isinstance(pipe, BertEntityRecognizer):
        field = "doc.ents"
    else:
        field = f"doc.spans[{pipe.spans_key!r}]" if isinstance(pipe, BertSpanQA) else "doc.cats"
    return f"no gold standard for {head.name!r} in any Doc: annotate {field}"


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities over the last axis, in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def _log_sigmoid(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = -np.logaddexp(0.0, -logits.astype(np.float64))
    return found


@dataclass(frozen=True)
class Classes:
    """Of exclusive classes: the number of one; log p."""

    pipe: BertTextCategorizer

    def own(self, doc: Doc, output: Output) -> int:
        """The most likely class."""
        return int(output.argmax())

    def gold(self, example: Example) -> int | None:
        """The class that holds."""
        cats = example.reference.cats
        holds = [cats.get(label) == 1.0 for label in self.pipe.labels]
        return holds.index(True) if any(holds) else None

    def log_likelihood(self, output: Output, decision: Decision) -> float:
        """Log-probability of the class."""
        return float(log_softmax(output)[decision])

    def say(self, doc: Doc, decision: Decision) -> str:
        """The label."""
        return self.pipe.labels[decision]


@dataclass(frozen=True)
class Labels:
    """Of several labels that may hold: label and whether it does; the sum of their log p."""

    pipe: BertTextCategorizer

    def own(self, doc: Doc, output: Output) -> tuple[tuple[int, bool], ...]:
        """Each label holds if it reaches the component's threshold."""
        holds = np.exp(_log_sigmoid(output)) >= self.pipe.cfg["threshold"]
        return tuple(enumerate(holds.tolist()))

    def gold(self, example: Example) -> tuple[tuple[int, bool], ...] | None:
        """The labels that are annotated."""
        cats = example.reference.cats
        names = enumerate(self.pipe.labels)
        return tuple((i, cats[name] == 1.0) for i, name in names if name in cats) or None

    def log_likelihood(self, output: Output, decision: Decision) -> float:
        """Sum of the labels' log-probabilities, each by itself."""
        columns, holds = map(np.array, zip(*decision, strict=True))
        return float(_log_sigmoid(np.where(holds, output[columns], -output[columns])).sum())

    def say(self, doc: Doc, decision: Decision) -> str:
        """The labels that hold."""
        return ", ".join(self.pipe.labels[i] for i, holds in decision if holds) or "no label"


@dataclass(frozen=True)
class Values:
    """Of real values: target and value; minus the squared error.

    That is the log-likelihood under a normal distribution of variance 1/2, but for a constant.
    """

    pipe: BertTextCategorizer

    def own(self, doc: Doc, output: Output) -> tuple[tuple[int, float], ...]:
        """The values themselves."""
        return tuple(enumerate(output.tolist()))

    def gold(self, example: Example) -> tuple[tuple[int, float], ...] | None:
        """The values that are annotated."""
        cats = example.reference.cats
        names = enumerate(self.pipe.labels)
        return tuple((i, float(cats[name])) for i, name in names if name in cats) or None

    def log_likelihood(self, output: Output, decision: Decision) -> float:
        """Minus the sum of the squared errors."""
        columns, values = map(np.array, zip(*decision, strict=True))
        return -float(((output[columns] - values) ** 2).sum())

    def say(self, doc: Doc, decision: Decision) -> str:
        """The values."""
        return ", ".join(f"{self.pipe.labels[i]} {value:.3g}" for i, value in decision)


@dataclass(frozen=True)
class Tags:
    """Of entities: token and number of its tag, white space left out; the mean of their log p."""

    pipe: BertEntityRecognizer

    def own(self, doc: Doc, output: Output) -> tuple[tuple[int, int], ...]:
        """The most likely tag of each token."""
        best = output.argmax(axis=1).tolist()
        return tuple((token.i, best[token.i]) for token in doc if not token.is_space)

    def gold(self, example: Example) -> tuple[tuple[int, int], ...] | None:
        """The tags that are known."""
        tags = bio.encode(example.get_aligned_ner(), self.pipe.labels).tolist()
        tokens = [token.i for token in example.predicted if not token.is_space]
        return tuple((i, tags[i]) for i in tokens if tags[i] != bio.MISSING) or None

    def log_likelihood(self, output: Output, decision: Decision) -> float:
        """Mean log-probability of the tags."""
        if not decision:
            return np.nan
        tokens, tags = map(np.array, zip(*decision, strict=True))
        return float(log_softmax(output)[tokens, tags].mean())

    def say(self, doc: Doc, decision: Decision) -> str:
        """The entities."""
        tags = np.zeros(len(doc), np.int64)
        for token, tag in decision:
            tags[token] = tag
        first, last, kinds = bio.decode(tags, np.arange(len(doc)) == 0)
        rows = zip(first.tolist(), last.tolist(), kinds.tolist(), strict=True)
        named = [f"{doc[i : j + 1].text} {self.pipe.labels[kind]}" for i, j, kind in rows]
        return ", ".join(named) or "no entity"


@dataclass(frozen=True)
class Answers:
    """Of questions: an answer's first character and the one behind it, or (): no answer.

    The log-likelihood is log p(start) + log p(end) in one window, by softmaxes over its pieces: of
    an answer, the window that shows all of it with the greatest logits; of no answer, where [CLS]
    has the least, as decoding does it.
    """

    pipe: BertSpanQA

    def own(self, doc: Doc, output: Output) -> tuple[int, ...]:
        """The best answer."""
        best = self.pipe.decoder.decode(doc.text, output, output.rows)[0]
        return () if best.is_null else (best.start_char, best.end_char)

    def gold(self, example: Example) -> tuple[int, ...] | None:
        """The first gold answer."""
        key = self.pipe.spans_key
        if key not in example.reference.spans:
            return None
        return gold_characters(example, key) or ()

    def log_likelihood(self, output: Output, decision: Decision) -> float:
        """Log-probabilities of start and end; NaN if no window shows the whole answer."""
        windows: Windows = output
        targets = find_targets(windows, (decision[0], decision[1]) if decision else None)
        if (targets == MISSING).any():
            return np.nan
        rows = targets + windows.starts[:, None]
        logits = windows.rows[rows, [0, 1]].sum(axis=1)
        if decision:
            shown = np.flatnonzero(targets[:, 0] > 0)
            if not len(shown):
                return np.nan
            window = int(shown[logits[shown].argmax()])
        else:
            window = int(logits.argmin())
        start = windows.starts[window]
        own = log_softmax(windows.rows[start : start + windows.lengths[window]].T)
        return float(own[[0, 1], targets[window]].sum())

    def say(self, doc: Doc, decision: Decision) -> str:
        """The answer."""
        return doc.text[decision[0] : decision[1]] if decision else "no answer"


@dataclass(frozen=True)
class Choices:
    """Of choices: the number of one; log p."""

    def own(self, doc: Doc, output: Output) -> int:
        """The best choice."""
        return int(output.argmax())

    def gold(self, example: Example) -> int | None:
        """The right choice."""
        return gold_choice(example.reference, count_choices(example.predicted))

    def log_likelihood(self, output: Output, decision: Decision) -> float:
        """Log-probability of the choice."""
        return float(log_softmax(output)[decision])

    def say(self, doc: Doc, decision: Decision) -> str:
        """The number of the choice, from 0, as in `doc._.choice`."""
        return f"choice {decision}"


def annotated(
    head: TaskHead, examples: Iterable[Example]
) -> tuple[list[Example], Sequence[Decision]]:
    """The examples that have tokens and a gold decision, and these.

    Raises:
        ValueError: If there is none.
    """
    decisions = decisions_of(head)
    found = [(eg, decisions.gold(eg)) for eg in examples if len(eg.predicted)]
    known = [(example, decision) for example, decision in found if decision is not None]
    if not known:
        raise ValueError(no_gold(head))
    return [example for example, _ in known], [decision for _, decision in known]
