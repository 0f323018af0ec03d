"""Sentences of running text, cut by spaCy, for the pre-training corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.util import is_package

from spacy_bert.pretraining.corpus import Document

RULES = "sentencizer"
_MAX_CHARACTERS = 1_000_000  # that spaCy reads at once


class SpacySplitter:
    """Cuts each line of a document into the sentences that a pipeline finds.

    Lines are taken as paragraphs: no sentence goes over the end of one.
    """

    def __init__(self, pipeline: str = RULES, *, lang: str = "en") -> None:
        """Name the pipeline; it is loaded when first used, in each process for itself.

        Args:
            pipeline: "sentencizer" for rules (full stops and the like), or the name or path of a
                pipeline with a `senter`, `sentencizer` or `parser`.
            lang: Language whose tokenizer serves "sentencizer".

        Raises:
            ValueError: If there is no such pipeline or language.
        """
        _refuse_unknown(pipeline, lang)
        self.name = f"{pipeline} {lang}" if pipeline == RULES else pipeline
        self._pipeline = pipeline
        self._lang = lang
        self._nlp: Language | None = None

    def __call__(self, texts: Iterable[str]) -> Iterator[Document]:
        """Yield for each text its sentences.

        Raises:
            ValueError: If the pipeline finds no sentences at all.
            OSError: If it cannot be loaded.
        """
        nlp = self._nlp = self._nlp or _load(self._pipeline, self._lang)
        paragraphs: list[str] = []
        sizes = []
        for text in texts:
            lines = map(str.strip, text.split("\n"))
            parts = list(chain.from_iterable(map(_within_limit, lines)))
            paragraphs.extend(parts)
            sizes.append(len(parts))
        docs = iter(nlp.pipe(paragraphs, batch_size=256))
        for size in sizes:
            sentences = (
                sentence.text.strip() for doc in islice(docs, size) for sentence in doc.sents
            )
            yield [sentence for sentence in sentences if sentence]

    def __getstate__(self) -> dict[str, object]:
        """Travel to another process without the pipeline."""
        return {**self.__dict__, "_nlp": None}


def _refuse_unknown(pipeline: str, lang: str) -> None:
    if pipeline == RULES:
        try:
            spacy.blank(lang)
        except ImportError as error:  # no such language, or its tokenizer is not installed
            reason = " ".join(str(error).split())
            raise ValueError(f"--lang {lang}: spaCy cannot load this language ({reason})") from None
    elif not is_package(pipeline) and not Path(pipeline).exists():
        raise ValueError(
            f"--splitter {pipeline}: no such pipeline; use lines, sentencizer or the name or "
            "directory of a pipeline"
        )


def _load(pipeline: str, lang: str) -> Language:
    if pipeline == RULES:
        nlp = spacy.blank(lang)
        nlp.add_pipe(RULES)
        return nlp
    nlp = spacy.load(pipeline)
    finders = [name for name in ("senter", "sentencizer", "parser") if name in nlp.component_names]
    if not finders:
        raise ValueError(
            f"{pipeline}: has no senter, sentencizer or parser, so it finds no sentences; "
            f"its components: {', '.join(nlp.component_names) or 'none'}"
        )
    # One is enough, the cheapest; with what gives it its vectors.
    feeders = [name for name in ("tok2vec", "transformer", "bert") if name in nlp.component_names]
    nlp.select_pipes(enable=[*feeders, finders[0]])
    if finders[0] == "senter":
        nlp.enable_pipe("senter")
    return nlp


def _within_limit(paragraph: str) -> Iterator[str]:
    """The paragraph, or pieces of it that spaCy accepts, cut at spaces."""
    while len(paragraph) > _MAX_CHARACTERS:
        end = paragraph.rfind(" ", 0, _MAX_CHARACTERS)
        end = end if end > 0 else _MAX_CHARACTERS
        yield paragraph[:end]
        paragraph = paragraph[end:].lstrip()
    if paragraph:
        yield paragraph
