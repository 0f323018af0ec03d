"""Cheap baselines, scored as spaCy scores its pipelines; here those of text classification.

A trained pipeline has learned something only if it beats the commonest class, and it was worth its
cost only if it beats a linear model on words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.vocab import Vocab

from spacy_bert.datasets.questions import ANSWERS_KEY
from spacy_bert.experiments.likeness_baselines import (
    score_choice_baselines,
    score_regression_baselines,
)
from spacy_bert.experiments.ner_baselines import score_ner_baselines
from spacy_bert.experiments.qa_baselines import score_qa_baselines
from spacy_bert.pipeline.chosen import count_choices
from spacy_bert.pipeline.textcat_scores import score_cats

MAJORITY = "majority"
TFIDF = "tf-idf + logistic regression"

KEYS = ("cats_acc", "cats_mcc", "cats_micro_f", "cats_macro_f", "cats_f_per_type")

Scores = dict[str, Any]


def score_baselines(train: Path, test: Path) -> dict[str, Scores]:
    """Fit the baselines on one `.spacy` file and score them on another.

    What the training file holds decides: `doc.spans["answers"]` are those of `qa_baselines`,
    `doc.ents` those of `ner_baselines`; `doc.cats` are exclusive classes
    (`score_textcat_baselines`), numbers of choices or real values (`likeness_baselines`).

    Returns:
        Name of the baseline to spaCy's scores of it.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file has no Docs, both kinds of labels, or not those of the other file.
    """
    train_docs, test_docs = read_docs(train), read_docs(test)
    if any(ANSWERS_KEY in doc.spans for doc in train_docs):
        if not any(ANSWERS_KEY in doc.spans for doc in test_docs):
            raise ValueError(
                f'{test}: no Doc has doc.spans["answers"], those of {train} have; label them'
            )
        return score_qa_baselines(train_docs, test_docs)
    if not any(doc.ents for doc in train_docs):
        if any(value not in (0.0, 1.0) for doc in train_docs for value in doc.cats.values()):
            return score_regression_baselines(train_docs, test_docs)
        if all(doc.cats and set(doc.cats) == _choices(doc) for doc in train_docs):
            return score_choice_baselines(train_docs, test_docs)
        return score_textcat_baselines(train_docs, test_docs, names=(train, test))
    if any(any(doc.cats.values()) for doc in train_docs):
        raise ValueError(f"{train}: holds doc.ents and doc.cats; make a file for each task")
    if not any(doc.ents for doc in test_docs):
        raise ValueError(f"{test}: no Doc has doc.ents, those of {train} have; label them")
    return score_ner_baselines(train_docs, test_docs)


def score_textcat_baselines(
    train_docs: Sequence[Doc], test_docs: Sequence[Doc], *, names: tuple[Path, Path]
) -> dict[str, Scores]:
    """Fit the majority and tf-idf on Docs with exclusive `doc.cats` and score them on others.

    Args:
        train_docs: The training set.
        test_docs: The test set.
        names: Names of the two for messages.

    Returns:
        Name of the baseline to the scores of it that `spacy_bert.textcat_scorer.v1` gives:
        `cats_acc`, `cats_mcc`, `cats_micro_f`, `cats_macro_f` and `cats_f_per_type`.

    Raises:
        ValueError: If a Doc has no positive category.
    """
    train, test = names
    train_texts, train_labels = _texts_and_labels(train_docs, train)
    test_texts, _ = _texts_and_labels(test_docs, test)
    commonest = Counter(train_labels).most_common(1)[0][0]
    predicted = {MAJORITY: [commonest] * len(test_docs)}
    if len(set(train_labels)) > 1:
        model = make_pipeline(
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)),
            LogisticRegression(C=10, max_iter=1000),
        )
        predicted[TFIDF] = list(model.fit(train_texts, train_labels).predict(test_texts))
    return {name: score_labels(test_docs, labels) for name, labels in predicted.items()}


def score_labels(docs: Sequence[Doc], labels: Sequence[str]) -> Scores:
    """Score as `bert_textcat` is one predicted label for each annotated Doc."""
    names = sorted({name for doc in docs for name in doc.cats} | set(labels))
    examples = []
    for doc, label in zip(docs, labels, strict=True):
        prediction = Doc(doc.vocab, words=[token.text for token in doc])
        prediction.cats = {name: float(name == label) for name in names}
        examples.append(Example(prediction, doc))
    scores = score_cats(examples, labels=names)
    return {key: scores[key] for key in KEYS}


def read_docs(path: Path) -> list[Doc]:
    """The Docs of a `.spacy` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a DocBin, or an empty one.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; make it first")
    try:
        docs = list(DocBin().from_disk(path).get_docs(Vocab()))
    except Exception as error:  # whatever zlib and msgpack raise on other bytes
        raise ValueError(f"{path}: not a .spacy file ({error}); make it with DocBin") from error
    if not docs:
        raise ValueError(f"{path}: holds no Docs; give a file with annotated Docs")
    return docs


def _texts_and_labels(docs: Sequence[Doc], path: Path) -> tuple[list[str], list[str]]:
    labels = []
    for index, doc in enumerate(docs):
        if not any(doc.cats.values()):
            raise ValueError(f"{path}: Doc {index} has no positive doc.cats; label it or drop it")
        labels.append(max(doc.cats, key=lambda name: doc.cats[name]))
    return [doc.text for doc in docs], labels


def _choices(doc: Doc) -> set[str]:
    """The keys that `doc.cats` has if it says which choice is right."""
    return {str(index) for index in range(count_choices(doc))}
