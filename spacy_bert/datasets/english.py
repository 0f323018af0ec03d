"""The corpus of the English BERT: encyclopedia, novels and Python's documentation.

Of each source the documents are what next sentence prediction should keep apart: articles,
chapters, docstrings. All become one file of JSON Lines, which the pre-training commands read.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from spacy_bert.files import replacing
from spacy_bert.pretraining.corpus import TextCorpus, open_text, readable_errors


def write_english(
    output: str | Path,
    *,
    wikipedia: str | Path | None = None,
    novels: str | Path | None = None,
    text: str | Path | None = None,
) -> dict[str, int]:
    """Write the corpus.

    Args:
        output: The file, `.jsonl.gz`.
        wikipedia: JSON Lines with an article in `text`.
        novels: JSON Lines with a list of texts in `chapters`, each of which becomes a document.
        text: A text corpus with blank lines between documents, such as `data pydocs` writes.

    Returns:
        The number of documents of each source.

    Raises:
        ValueError: If no source is given, or one cannot be read; names the file and the line.
    """
    sources: dict[str, Iterator[str]] = {}
    if wikipedia is not None:
        sources["wikipedia"] = TextCorpus(wikipedia).texts()
    if novels is not None:
        sources["novels"] = _chapters(Path(novels))
    if text is not None:
        sources["text"] = TextCorpus(text).texts()
    if not sources:
        raise ValueError("no source is given: name --wikipedia, --novels or --text")
    counts = dict.fromkeys(sources, 0)
    with (
        replacing(Path(output)) as temporary,
        gzip.open(temporary, "wt", encoding="utf8", compresslevel=3) as stream,
    ):
        for name, documents in sources.items():
            for document in documents:
                stream.write(json.dumps({"text": document}, ensure_ascii=False) + "\n")
                counts[name] += 1
    return counts


def _chapters(file: Path) -> Iterator[str]:
    with readable_errors(file), open_text(file) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                chapters = json.loads(line)["chapters"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{file}, line {number}: not an object with a list in chapters ({error!r})"
                ) from None
            yield from chapters
