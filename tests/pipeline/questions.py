"""Pipelines that answer questions, and gold answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

import spacy_bert
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.heads import head_shim
from spacy_bert.pipeline.answers import Answer
from spacy_bert.pipeline.span_qa import BertSpanQA

KEY = "answers"

CONTEXT = (
    "The quick brown fox jumps over the lazy dog in Paris, which can't cost $5. "
    "A dictionary maps keys to values since the mid-1980s; a list keeps values in order. "
    "Photosynthesis converts light energy into chemical energy."
)
GOLD = [
    ("Who jumps?", ["The quick brown fox", "fox"]),
    ("Over what?", ["the lazy dog"]),
    ("What does it cost?", ["$5"]),
    ("Since when?", ["mid-1980s"]),
    ("What can it not?", ["cost"]),
    ("Is it raining?", []),
]


def qa_pipeline(
    checkpoint: Path, *, encoder: dict[str, Any] | None = None, **config: Any
) -> tuple[Language, BertSpanQA]:
    """A pipeline of `bert` and `bert_span_qa`, not initialized."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint), **(encoder or {})}})
    qa = nlp.add_pipe("bert_span_qa", config=config)
    assert isinstance(qa, BertSpanQA)
    return nlp, qa


def gold(nlp: Language, question: str, context: str, *answers: str) -> Doc:
    """A Doc with gold answers, where they first stand in the context; none: no answer."""
    doc = spacy_bert.join(nlp, question, context)
    begin = len(question) + 1
    starts = [doc.text.index(answer, begin) for answer in answers]
    doc.spans[KEY] = [
        doc.char_span(start, start + len(answer), alignment_mode="expand")
        for start, answer in zip(starts, answers, strict=True)
    ]
    doc.spans[KEY].attrs["texts"] = list(answers)
    return doc


def example(nlp: Language, doc: Doc) -> Example:
    """A gold Doc beside one without annotations."""
    return Example(nlp.make_doc(doc.text), doc)


def examples(nlp: Language) -> list[Example]:
    """The questions with their gold answers."""
    return [example(nlp, gold(nlp, question, CONTEXT, *texts)) for question, texts in GOLD]


def docs(nlp: Language) -> list[Doc]:
    """The questions, without answers."""
    return [spacy_bert.join(nlp, question, CONTEXT) for question, _ in GOLD]


def finder(checkpoint: Path, first: str, last: str, **settings: Any) -> Language:
    """A pipeline built by hand: an answer runs from the word `first` to the word `last`.

    The encoder's layers let all vectors through, so that each tells of its piece and segment alone,
    and the head's weights are the vectors of the two words in a second segment: no other vector
    of that length has so large a product with them.
    """
    nlp, qa = qa_pipeline(checkpoint, **settings)
    nlp.initialize()
    network = encoder_shim(nlp.get_pipe("bert").model).network
    with torch.no_grad():
        network.embeddings.position.weight.zero_()
        for name, parameter in network.layers.named_parameters():
            if "norm" not in name.lower():
                parameter.zero_()
        head = head_shim(qa.model).module.output
        doc = nlp.get_pipe("bert")(spacy_bert.join(nlp, "q", f"{first} {last}"))
        data = doc._.trf_data
        for row, token in enumerate(doc[-2:]):
            (piece,) = data.align[token.i].dataXd.reshape(-1)[:1]
            head.weight[row] = torch.tensor(data.model_output.last_hidden_state[0, piece])
        head.bias.zero_()
    return nlp


def said(docs: list[Doc]) -> list[list[Answer]]:
    """What has been answered."""
    return [doc._.answers for doc in docs]


def assert_close(ours: list[list[Answer]], theirs: list[list[Answer]]) -> None:
    """The same best answers, and scores but for rounding."""
    for one, other in zip(ours, theirs, strict=True):
        assert one[0].text == other[0].text
        np.testing.assert_allclose(
            [answer.score for answer in one], [answer.score for answer in other], atol=1e-4
        )
