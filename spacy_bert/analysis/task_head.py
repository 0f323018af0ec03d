"""A component as a head on its encoder, run by itself, whatever else the pipeline has."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy_transformers.data_classes import TransformerData
from spacy_transformers.layers import TransformerListener
from thinc.api import Model, to_numpy
from thinc.types import Ragged

from spacy_bert.analysis.inside import find_shim, refuse_features
from spacy_bert.models.encoder import EncoderShim, encoder_shim
from spacy_bert.models.intervention import Intervention
from spacy_bert.models.listeners import EncoderModel, split
from spacy_bert.models.windows import Windows
from spacy_bert.pipeline.answer_gold import require_question
from spacy_bert.pipeline.choice import BertChoice
from spacy_bert.pipeline.chosen import require_choices
from spacy_bert.pipeline.ner import BertEntityRecognizer
from spacy_bert.pipeline.span_qa import BertSpanQA
from spacy_bert.pipeline.textcat import BertTextCategorizer

KINDS = (BertTextCategorizer, BertEntityRecognizer, BertSpanQA, BertChoice)

# What a head says of one Doc, before any softmax: (labels,) of a classifier, (tokens, tags) of
# entities, `Windows` with rows (pieces, 2) of answers, (choices,) of choices.
Output: TypeAlias = Any
Gradients: TypeAlias = list[list[TransformerData]]


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskHead:
    """A component and the encoder that it reads, its own or the one it shares.

    Attributes:
        name: Of the component.
        pipe: `bert_textcat`, `bert_ner`, `bert_span_qa` or `bert_choice`.
        encoder: The thinc model of the encoder.
    """

    name: str
    pipe: Any
    encoder: EncoderModel

    @classmethod
    def find(cls, nlp: Language, component: str | None = None) -> TaskHead:
        """Look a component up.

        Args:
            nlp: The pipeline.
            component: Its name; None for the only one of the four kinds.

        Raises:
            ValueError: If there is none, it is not clear which is meant, or what is changed in the
                encoder does not reach it.
        """
        name = _only_task(nlp) if component is None else component
        shim = find_shim(nlp, name)
        refuse_features(nlp, name)
        pipe = nlp.get_pipe(name)
        if not isinstance(pipe, KINDS):
            raise ValueError(
                f"the component {name!r} decides nothing that could be looked into: name a "
                "bert_textcat, bert_ner, bert_span_qa or bert_choice"
            )
        return cls(name=name, pipe=pipe, encoder=_model_of(nlp, shim))

    @property
    def shim(self) -> EncoderShim:
        """The encoder's network and vocabulary."""
        return encoder_shim(self.encoder)

    def encode(
        self, docs: Sequence[Doc], intervention: Intervention | None = None
    ) -> list[TransformerData]:
        """What the encoder says of Docs, which may be one Doc several times.

        Args:
            docs: The Docs; they stay as they are.
            intervention: What is changed in the encoder, in the place of any other change.

        Raises:
            ValueError: If the component cannot read one of the Docs.
        """
        for doc in docs:
            if isinstance(self.pipe, BertSpanQA):
                require_question(doc)
            elif isinstance(self.pipe, BertChoice):
                require_choices(doc)
        changed = (
            contextlib.nullcontext()
            if intervention is None
            else self.shim.intervening(intervention)
        )
        with changed:
            data: list[TransformerData] = self.encoder.predict(list(docs)).doc_data
        return data

    def outputs(self, docs: Sequence[Doc], data: Sequence[TransformerData]) -> list[Output]:
        """What the head makes of what the encoder has said of each Doc."""
        if not any(map(len, docs)):  # no layer behind an encoder can tell its width
            return [None] * len(docs)
        with feeding(self.pipe.model, data):
            found = self.pipe.model.predict(list(docs))
        if isinstance(found, Ragged):
            rows = to_numpy(found.dataXd)[:, 0]
            ends = np.cumsum([0, *to_numpy(found.lengths)])
            return [rows[start:end] for start, end in pairwise(ends)]
        return [_on_host(each) for each in found]

    def annotate(self, docs: Sequence[Doc], data: Sequence[TransformerData]) -> None:
        """Let the component write what it decides on the Docs, and leave nothing else on them."""
        has_data = Doc.has_extension("trf_data")
        try:
            if has_data:  # heads that listen look whether it is there
                for doc, one in zip(docs, data, strict=True):
                    doc._.trf_data = one
            with feeding(self.pipe.model, data):
                self.pipe.set_annotations(docs, self.pipe.predict(docs))
        finally:
            if has_data:
                for doc in docs:
                    doc._.trf_data = None


@contextlib.contextmanager
def feeding(model: Model[Any, Any], data: Sequence[TransformerData]) -> Iterator[Gradients]:
    """Let a component's model read these data in the place of what its encoder says of its Docs.

    Args:
        model: Of the component.
        data: One for each Doc that it will be called with.

    Yields:
        The gradients that backward passes send to the encoder, as they come: for each pass, data
        with gradients of the Docs that have tokens.
    """
    gradients: Gradients = []
    nodes = [node for node in model.walk() if _reads_encoder(node)]
    before = [node._func for node in nodes]
    forward = _Fed(list(data), gradients)
    try:
        for node in nodes:
            node._func = forward
        yield gradients
    finally:
        for node, function in zip(nodes, before, strict=True):
            node._func = function


@dataclass(frozen=True, eq=False)
class _Fed:
    """The forward pass of a layer that is given its answer."""

    data: list[TransformerData]
    gradients: Gradients

    def __call__(
        self, model: Model[Any, Any], docs: list[Doc], is_train: bool
    ) -> tuple[list[TransformerData], Callable[[list[TransformerData]], list[Doc]]]:
        def backprop(gradient: list[TransformerData]) -> list[Doc]:
            self.gradients.append(gradient)
            return []

        return self.data, backprop


def bare(doc: Doc) -> Doc:
    """A Doc of the same tokens without annotations."""
    spaces = [bool(token.whitespace_) for token in doc]
    return Doc(doc.vocab, words=[token.text for token in doc], spaces=spaces)


def _only_task(nlp: Language) -> str:
    names = [name for name, pipe in nlp.pipeline if isinstance(pipe, KINDS)]
    if len(names) == 1:
        return names[0]
    if names:
        raise ValueError(f"several components decide: name one of {', '.join(names)}")
    raise ValueError(
        "the pipeline has no bert_textcat, bert_ner, bert_span_qa or bert_choice "
        f"(it has {', '.join(nlp.pipe_names) or 'no component'}): train one first"
    )


def _model_of(nlp: Language, shim: EncoderShim) -> EncoderModel:
    found = [getattr(pipe, "model", None) for _, pipe in nlp.components]
    models = [model for model in found if isinstance(model, Model)]
    nodes = (node for model in models for node in model.walk())
    return next(node for node in nodes if any(own is shim for own in node.shims))


def _reads_encoder(node: Model[Any, Any]) -> bool:
    return isinstance(node, TransformerListener) or node.name == split.__name__


def _on_host(output: Any) -> Output:
    if isinstance(output, Windows):
        return dataclasses.replace(output, rows=to_numpy(output.rows))
    return to_numpy(output)
