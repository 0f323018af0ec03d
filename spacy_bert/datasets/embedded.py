"""All data sets of the embedded workflow, made from the running Python's documentation."""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path
from typing import Any

import srsly

from spacy_bert.datasets.areas import labelled_texts, split_modules, without_held_out, write_docbins
from spacy_bert.datasets.docstring_questions import question_texts, write_question_docbins
from spacy_bert.datasets.names import named_texts, write_named_docbins
from spacy_bert.datasets.pydocs import (
    documents,
    read_docstrings,
    read_topics,
    topic_documents,
    write_corpus,
)
from spacy_bert.files import replacing


def write_pydocs(output: Path, library: Path | None = None) -> dict[str, Any]:
    """Write the text for pre-training and the labelled sets.

    Pre-training never sees the modules of dev and test, not even without their labels.

    Args:
        output: Directory for `corpus.txt`, `textcat/{train,dev,test}.spacy`,
            `ner/{train,dev,test}.spacy`, `qa/{train,dev,test}.spacy` and `stats.json`.
        library: Directory of the standard library's sources; default: the running Python's.

    Returns:
        What `stats.json` holds: Python's version, the corpus's documents, sentences, words and
        modules, and for every split of a labelled set its modules and documents by area, its names
        by label, or its questions by kind.

    Raises:
        FileNotFoundError: If the library has no Python sources.
    """
    docs = list(documents(read_docstrings(library)))
    topics = list(topic_documents(read_topics(library)))
    splits = split_modules(docs)
    examples = labelled_texts(docs, splits)
    corpus = without_held_out(topics + docs, splits)
    stats = {
        "python": platform.python_version(),
        "corpus": {
            "documents": len(corpus),
            "sentences": sum(len(doc.sentences) for doc in corpus),
            "words": sum(len(doc.text.split()) for doc in corpus),
            "modules": len({doc.source for doc in corpus} & {doc.source for doc in docs}),
            "topics": len({doc.source for doc in corpus} & {doc.source for doc in topics}),
        },
        "textcat": {
            split: {
                "documents": len(texts),
                "modules": len({text.module for text in texts}),
                "areas": dict(sorted(Counter(text.area for text in texts).items())),
            }
            for split, texts in examples.items()
        },
        "ner": write_named_docbins(named_texts(docs, splits), output / "ner"),
        "qa": write_question_docbins(question_texts(docs, splits), output / "qa"),
    }
    write_corpus(corpus, output / "corpus.txt")
    write_docbins(examples, output / "textcat")
    with replacing(output / "stats.json") as temporary:
        srsly.write_json(temporary, stats)
    return stats
