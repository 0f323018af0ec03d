"""Cheap baselines of named entity recognition, scored as spaCy scores its pipelines.

A pipeline has learned to read only if it beats remembered words, and it was worth its cost only if
it beats linear models: one that sees how a word and its neighbours are spelled, and one that also
knows the words themselves and whether they stand in the first segment.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from spacy.scorer import Scorer
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_bert.models.segments import SEPARATOR

MEMORY = "most frequent label of a word"
SHAPES = "shapes + logistic regression"
WORDS = "words + logistic regression"

Scores = dict[str, Any]
Features = dict[str, str | bool]

_OUTSIDE = "O"


def score_ner_baselines(train_docs: Sequence[Doc], test_docs: Sequence[Doc]) -> dict[str, Scores]:
    """Fit the baselines on Docs with `doc.ents` and score them on others.

    Returns:
        Name of the baseline to spaCy's scores of it: `ents_f`, `ents_p`, `ents_r` and
        `ents_per_type`.
    """
    tags = [tag for doc in train_docs for tag in _tags(doc)]
    predicted = {MEMORY: _remember(train_docs, test_docs)}
    if len(set(tags)) > 1:
        for name, words in {SHAPES: False, WORDS: True}.items():
            model = make_pipeline(DictVectorizer(), LogisticRegression(C=1, max_iter=200))
            model.fit([row for doc in train_docs for row in _features(doc, words=words)], tags)
            predicted[name] = [
                list(model.predict(list(_features(doc, words=words)))) if len(doc) else []
                for doc in test_docs
            ]
    return {name: score_tags(test_docs, tags) for name, tags in predicted.items()}


def score_tags(docs: Sequence[Doc], tags: Sequence[Sequence[str]]) -> Scores:
    """Score as spaCy does one predicted BIO tag for each token of annotated Docs.

    An entity begins at a B, and at an I that does not follow a tag of its label.
    """
    examples = []
    for doc, doc_tags in zip(docs, tags, strict=True):
        words, spaces = [t.text for t in doc], [bool(t.whitespace_) for t in doc]
        prediction = Doc(doc.vocab, words=words, spaces=spaces)
        prediction.set_ents([Span(prediction, *entity) for entity in _entities(doc_tags)])
        examples.append(Example(prediction, doc))
    scores = Scorer.score_spans(
        examples, "ents", has_annotation=lambda doc: True, allow_overlap=False
    )
    return {key: scores[key] for key in ("ents_f", "ents_p", "ents_r", "ents_per_type")}


def _remember(train_docs: Sequence[Doc], test_docs: Sequence[Doc]) -> list[list[str]]:
    """Tag every token as it was tagged most often in the training set."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for doc in train_docs:
        for token, tag in zip(doc, _tags(doc), strict=True):
            counts[token.text][tag] += 1
    best = {word: found.most_common(1)[0][0] for word, found in counts.items()}
    return [[best.get(token.text, _OUTSIDE) for token in doc] for doc in test_docs]


def _features(doc: Doc, *, words: bool) -> Iterator[Features]:
    """What a linear model sees of each token: a window of five, and if it is in the first segment.

    Args:
        doc: The Doc.
        words: Show the words too, and whether the word stands in the first segment.
    """
    texts = [token.text for token in doc]
    border = next((i for i, text in enumerate(texts) if SEPARATOR in text), 0)
    first = set(re.findall(r"\w+", " ".join(texts[:border])))
    for i, text in enumerate(texts):
        row: Features = {
            "in the first segment": i < border,
            "prefix": text[:3].lower(),
            "suffix": text[-3:].lower(),
            "length": str(min(len(text), 12)),
        }
        if words:
            row["word of the first segment"] = text in first
        for offset in range(-2, 3):
            inside = 0 <= i + offset < len(texts)
            word = texts[i + offset] if inside else ""
            row[f"shape {offset}"] = _shape(word)
            row[f"suffix {offset}"] = word[-2:].lower()
            if words:
                row[f"word {offset}"] = word.lower()
        yield row


def _shape(word: str) -> str:
    """Letters and digits by kind, runs of one kind cut to two: "Xx", "xx_xx", "xx.xx"."""
    kinds = re.sub(r"\d", "d", re.sub(r"[^\W\d_]", lambda m: "X" if m[0].isupper() else "x", word))
    return re.sub(r"(.)\1+", r"\1\1", kinds)


def _tags(doc: Doc) -> list[str]:
    return [f"{t.ent_iob_}-{t.ent_type_}" if t.ent_type_ else _OUTSIDE for t in doc]


def _entities(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    for i, tag in enumerate(tags):
        label = tag[2:]
        if tag.startswith("I") and found and found[-1][1:] == (i, label):
            found[-1] = (found[-1][0], i + 1, label)
        elif label:
            found.append((i, i + 1, label))
    return found
