from __future__ import annotations

import pytest

from spacy_bert.datasets.areas import LabelledText, labelled_texts, split_modules
from spacy_bert.datasets.pydocs import Document, documents, read_docstrings


@pytest.fixture(scope="session")
def docs() -> list[Document]:
    return list(documents(read_docstrings()))


@pytest.fixture(scope="session")
def splits(docs: list[Document]) -> dict[str, str]:
    return split_modules(docs)


@pytest.fixture(scope="session")
def examples(docs: list[Document], splits: dict[str, str]) -> dict[str, list[LabelledText]]:
    return labelled_texts(docs, splits)
