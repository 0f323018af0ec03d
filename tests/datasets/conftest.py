from __future__ import annotations

from pathlib import Path

import pytest

from spacy_bert.datasets.areas import LabelledText, labelled_texts, split_modules
from spacy_bert.datasets.embedded import write_pydocs
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


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that `data pydocs` writes."""
    directory = tmp_path_factory.mktemp("corpus")
    write_pydocs(directory)
    return directory
