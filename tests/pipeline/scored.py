"""A pipeline of several tasks on the same Docs, and their gold standards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from tests.pipeline.questions import CONTEXT, GOLD, example, gold, qa_pipeline


def scored_docs(nlp: Language) -> list[Doc]:
    """Questions with answers, or none; classes (of the six, five are OPEN), and places."""
    docs = []
    for question, texts in GOLD:
        doc = gold(nlp, question, CONTEXT, *texts)
        doc.cats = {"OPEN": float(bool(texts)), "CLOSED": float(not texts)}
        start = doc.text.index("Paris")
        doc.set_ents([doc.char_span(start, start + 5, label="PLACE")], default="outside")
        docs.append(doc)
    return docs


def scored_pipeline(checkpoint: Path, *, null_threshold: float = 0.0, **textcat: Any) -> Language:
    """`bert`, `bert_span_qa`, `bert_textcat` and `bert_ner`, with the weights of the beginning."""
    settings = {"null_answers": True, "null_threshold": null_threshold}
    nlp, _ = qa_pipeline(checkpoint, encoder={"stride": 24}, **settings)
    nlp.add_pipe("bert_textcat", config=textcat)
    nlp.add_pipe("bert_ner")
    torch.manual_seed(0)
    nlp.initialize(lambda: [example(nlp, doc) for doc in scored_docs(nlp)])
    return nlp


def write_docs(path: Path, docs: list[Doc]) -> Path:
    """A `.spacy` file."""
    DocBin(docs=docs).to_disk(path)
    return path
