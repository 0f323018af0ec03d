"""Each task as Hugging Face's examples do it: features, batches, and what is read off the outputs.

The Docs are those that `python -m spacy bert reproduce` makes. Nothing here uses our network or its
decoding; predictions are written where our components write theirs, so that one scorer serves both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import biluo_tags_to_spans, iob_to_biluo
from spacy.util import minibatch
from torch import Tensor

from spacy_bert.models.segments import SEPARATOR
from spacy_bert.pipeline.answers import Answer, set_answers
from spacy_bert.pipeline.bio import tag_names
from spacy_bert.pipeline.chosen import set_choice

Feature = dict[str, Any]
IGNORED = -100  # by torch's cross-entropy
# Nothing that a network of 512 positions can read is cut: ours cuts nothing either.
LENGTH, QA_LENGTH, QA_STRIDE = 512, 384, 128
N_BEST, ANSWER_PIECES = 20, 30


class Task(ABC):
    """One kind of head.

    Args:
        tokenizer: Of the checkpoint.
        docs: The training set, annotated.
    """

    component: ClassVar[str]
    head: ClassVar[str]

    def __init__(self, tokenizer: Any, docs: Sequence[Doc]) -> None:
        self.tokenizer = tokenizer
        self.labels = self.find_labels(docs)

    def find_labels(self, docs: Sequence[Doc]) -> list[str]:
        """Names of the head's outputs, if they have names."""
        return []

    def config(self) -> dict[str, Any]:
        """Fields of Hugging Face's config."""
        if not self.labels:
            return {}
        ids = dict(enumerate(self.labels))
        return {"id2label": ids, "label2id": {label: i for i, label in ids.items()}}

    @abstractmethod
    def encode(self, doc: Doc) -> list[Feature]:
        """The training examples of an annotated Doc."""

    @abstractmethod
    def annotate(self, model: Any, docs: Sequence[Doc]) -> Iterator[np.ndarray]:
        """Set the model's predictions on Docs, and give its numbers for each."""

    @abstractmethod
    def ours(self, nlp: Language, docs: Sequence[Doc]) -> Iterator[np.ndarray]:
        """The same numbers of a pipeline, from Docs that it has annotated."""

    @abstractmethod
    def decision(self, doc: Doc) -> object:
        """What was predicted, to be compared."""

    def collate(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        """A batch, padded to its longest example."""
        rows = [dict(feature) for feature in features]
        labels = {key: [row.pop(key) for row in rows] for key in _targets(rows[0])}
        batch = dict(self.tokenizer.pad(rows, return_tensors="pt"))
        return batch | {key: torch.tensor(values) for key, values in labels.items()}


def _targets(feature: Feature) -> list[str]:
    return [key for key in ("labels", "start_positions", "end_positions") if key in feature]


def parts(doc: Doc) -> list[str]:
    """The texts of the segments."""
    return doc.text.split(SEPARATOR)


class Classes(Task):
    """Texts or pairs to classes, or to one real value."""

    component, head = "bert_textcat", "AutoModelForSequenceClassification"

    def find_labels(self, docs: Sequence[Doc]) -> list[str]:
        return list(docs[0].cats)

    def config(self) -> dict[str, Any]:
        problem = "regression" if len(self.labels) == 1 else "single_label_classification"
        return {**super().config(), "problem_type": problem}

    def encode(self, doc: Doc) -> list[Feature]:
        values = [doc.cats[label] for label in self.labels]
        target = values[0] if len(values) == 1 else int(np.argmax(values))
        return [{**self._read(doc), "labels": target}]

    def _read(self, doc: Doc) -> Feature:
        return dict(self.tokenizer(*parts(doc), truncation="longest_first", max_length=LENGTH))

    def annotate(self, model: Any, docs: Sequence[Doc]) -> Iterator[np.ndarray]:
        for some in minibatch(docs, 32):
            logits = model(**self.collate([self._read(doc) for doc in some])).logits
            values = logits if len(self.labels) == 1 else logits.softmax(dim=-1)
            for doc, row in zip(some, values.numpy(), strict=True):
                doc.cats = dict(zip(self.labels, row.tolist(), strict=True))
                yield row

    def ours(self, nlp: Language, docs: Sequence[Doc]) -> Iterator[np.ndarray]:
        for doc in docs:
            yield np.array([doc.cats[label] for label in self.labels])

    def decision(self, doc: Doc) -> object:
        return max(doc.cats, key=lambda label: doc.cats[label]) if len(self.labels) > 1 else None


class Entities(Task):
    """A tag for each word, read at its first piece."""

    component, head = "bert_ner", "AutoModelForTokenClassification"

    def find_labels(self, docs: Sequence[Doc]) -> list[str]:
        return tag_names(sorted({ent.label_ for doc in docs for ent in doc.ents}))

    def encode(self, doc: Doc) -> list[Feature]:
        feature, rows = self._read(doc)
        labels = [IGNORED] * len(feature["input_ids"])
        for token, row in zip(doc, rows, strict=True):
            tag = f"{token.ent_iob_}-{token.ent_type_}" if token.ent_type else "O"
            labels[row] = self.labels.index(tag)
        return [{**feature, "labels": labels}]

    def _read(self, doc: Doc) -> tuple[Feature, list[int]]:
        """The pieces, and the first one of each word."""
        words = [token.text for token in doc]
        encoded = self.tokenizer(words, is_split_into_words=True)
        first: dict[int, int] = {}
        for row, word in enumerate(encoded.word_ids()):
            if word is not None:
                first.setdefault(word, row)
        return dict(encoded), [first[word] for word in range(len(words))]

    def collate(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        longest = max(len(feature["input_ids"]) for feature in features)
        rows = [
            {
                **feature,
                "labels": feature["labels"] + [IGNORED] * (longest - len(feature["labels"])),
            }
            if "labels" in feature
            else feature
            for feature in features
        ]
        return super().collate(rows)

    def annotate(self, model: Any, docs: Sequence[Doc]) -> Iterator[np.ndarray]:
        for some in minibatch(docs, 32):
            read = [self._read(doc) for doc in some]
            found = model(**self.collate([feature for feature, _ in read])).logits.softmax(dim=-1)
            for doc, (_, rows), table in zip(some, read, found.numpy(), strict=True):
                tags = [self.labels[tag] for tag in table[rows].argmax(axis=1)]
                doc.ents = biluo_tags_to_spans(doc, iob_to_biluo(tags))
                yield table[rows]

    def ours(self, nlp: Language, docs: Sequence[Doc]) -> Iterator[np.ndarray]:
        ner: Any = nlp.get_pipe(self.component)
        names = tag_names(ner.labels)
        columns = [names.index(tag) for tag in self.labels]
        for scores in ner.predict(docs):
            yield scores[:, columns]

    def decision(self, doc: Doc) -> object:
        return [(ent.start, ent.end, ent.label_) for ent in doc.ents]


class Answers(Task):
    """Start and end of an answer in the context, read in overlapping windows."""

    component, head = "bert_span_qa", "AutoModelForQuestionAnswering"

    def _read(self, doc: Doc) -> list[Feature]:
        """The windows of a Doc; `offset_mapping` gives characters of the Doc."""
        question, context = parts(doc)
        room = QA_LENGTH - 3 - len(self.tokenizer.tokenize(question))
        encoded = self.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=QA_LENGTH,
            stride=max(room - QA_STRIDE, 0),  # theirs is the overlap
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        shift = len(question) + 1
        windows = []
        for i, offsets in enumerate(encoded["offset_mapping"]):
            kinds = encoded.sequence_ids(i)
            window = {
                key: encoded[key][i] for key in ("input_ids", "token_type_ids", "attention_mask")
            }
            window["offsets"] = [
                (start + shift, end + shift) if kind == 1 else None
                for kind, (start, end) in zip(kinds, offsets, strict=True)
            ]
            windows.append(window)
        return windows

    def encode(self, doc: Doc) -> list[Feature]:
        group = doc.spans["answers"]
        span, text = group[0], group.attrs["texts"][0]
        start = span.start_char + span.text.index(text)
        end = start + len(text)
        features = []
        for window in self._read(doc):
            places = [(i, place) for i, place in enumerate(window.pop("offsets")) if place]
            inside = places[0][1][0] <= start and end <= places[-1][1][1]
            first = max(i for i, place in places if place[0] <= start) if inside else 0
            last = min(i for i, place in places if place[1] >= end) if inside else 0
            features.append({**window, "start_positions": first, "end_positions": last})
        return features

    def annotate(self, model: Any, docs: Sequence[Doc]) -> Iterator[np.ndarray]:
        for doc in docs:
            windows = self._read(doc)
            offsets = [window.pop("offsets") for window in windows]
            output = model(**self.collate(windows))
            starts, ends = output.start_logits.numpy(), output.end_logits.numpy()
            best = _most_context(doc, offsets)
            found = [
                (score, first, last)
                for window, places in enumerate(offsets)
                for score, first, last in _spans(starts[window], ends[window], places, best[window])
            ]
            score, first, last = max(found, key=lambda each: each[0])
            answer = Answer(doc.text[first:last], first, last, float(score), 1.0)
            set_answers(doc, [answer], "answers")
            yield np.array([score])

    def ours(self, nlp: Language, docs: Sequence[Doc]) -> Iterator[np.ndarray]:
        for doc in docs:
            yield np.array([doc._.answers[0].score])

    def decision(self, doc: Doc) -> object:
        return doc._.answers[0].text


Place = tuple[int, int] | None


def _spans(
    starts: np.ndarray, ends: np.ndarray, places: Sequence[Place], best: set[int]
) -> Iterator[tuple[float, int, int]]:
    """Scores and characters of the answers in a window: the best starts with the best ends."""
    context = [i for i, place in enumerate(places) if place]
    firsts = sorted((i for i in context if i in best), key=lambda i: -starts[i])[:N_BEST]
    lasts = sorted(context, key=lambda i: -ends[i])[:N_BEST]
    for first in firsts:
        for last in lasts:
            begin, end = places[first], places[last]
            if first <= last < first + ANSWER_PIECES and begin and end:
                yield float(starts[first] + ends[last]), begin[0], end[1]


def _most_context(doc: Doc, windows: Sequence[Sequence[Place]]) -> list[set[int]]:
    """Of each window the pieces whose token has nowhere more context on its poorer side."""
    best: dict[int, tuple[int, int, list[int]]] = {}
    for number, places in enumerate(windows):
        context = [i for i, place in enumerate(places) if place]
        for token in doc:
            end = token.idx + len(token)
            own = [i for i in context if places[i][0] < end and token.idx < places[i][1]]  # type: ignore[index]
            if not own:
                continue
            poorer = min(own[0] - context[0], context[-1] - own[-1])
            if token.i not in best or poorer > best[token.i][0]:
                best[token.i] = poorer, number, own
    kept: list[set[int]] = [set() for _ in windows]
    for _, number, own in best.values():
        kept[number].update(own)
    return kept


class Choices(Task):
    """The best of several texts, each read with the context."""

    component, head = "bert_choice", "AutoModelForMultipleChoice"

    def encode(self, doc: Doc) -> list[Feature]:
        right = [label for label, value in doc.cats.items() if value == 1.0]
        return [{"pairs": self._read(doc), "labels": int(right[0])}]

    def _read(self, doc: Doc) -> list[Feature]:
        context, *choices = parts(doc)
        options = {"truncation": "longest_first", "max_length": LENGTH}
        return [dict(self.tokenizer(context, choice, **options)) for choice in choices]

    def collate(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        batch = super().collate([pair for feature in features for pair in feature["pairs"]])
        batch = {key: rows.view(len(features), -1, rows.shape[1]) for key, rows in batch.items()}
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        return batch

    def annotate(self, model: Any, docs: Sequence[Doc]) -> Iterator[np.ndarray]:
        for some in minibatch(docs, 16):
            logits = model(**self.collate([{"pairs": self._read(doc)} for doc in some])).logits
            for doc, row in zip(some, logits.softmax(dim=-1).numpy(), strict=True):
                set_choice(doc, row.tolist())
                yield row

    def ours(self, nlp: Language, docs: Sequence[Doc]) -> Iterator[np.ndarray]:
        for doc in docs:
            yield np.array(doc._.choice_scores)

    def decision(self, doc: Doc) -> object:
        return doc._.choice


TASKS: dict[str, type[Task]] = {
    task.component: task for task in (Classes, Entities, Answers, Choices)
}
