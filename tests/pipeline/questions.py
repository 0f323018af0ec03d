"""Pipelines that answer questions, and gold answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

import spacy_bert
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.heads import head_shim
from spacy_bert.pipeline.span_qa import BertSpanQA

KEY = "answers"


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
