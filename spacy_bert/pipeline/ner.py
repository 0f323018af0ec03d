"""The component `bert_ner`: named entities by a softmax for each token, without a CRF."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from spacy.attrs import ENT_IOB, IS_SPACE
from spacy.errors import Errors
from spacy.language import Language
from spacy.pipeline.trainable_pipe import TrainablePipe
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Model, to_numpy
from thinc.types import Floats2d

from spacy_bert.models.heads import start_at
from spacy_bert.models.segments import SEPARATOR
from spacy_bert.pipeline import bio
from spacy_bert.pipeline.upstream import find_encoder, require_encoding

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are
Entity: TypeAlias = tuple[int, int, str, float]  # first token, token behind the last, label, score

SAMPLE = 10  # Docs that are enough to infer the model's dimensions
COUNTED = 1000  # Docs whose tags are counted

DEFAULT_CONFIG = {
    "spans_key": "ents",
    "loss_weight": 1.0,
    "model": {
        "@architectures": "spacy_bert.NER.v1",
        "tok2vec": {"@architectures": "spacy_bert.TokenListener.v1", "upstream": "*"},
    },
    "scorer": {"@scorers": "spacy.ner_scorer.v1"},
}


@Language.factory(
    "bert_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type", "doc.spans"],
    default_config=DEFAULT_CONFIG,
    default_score_weights={
        "ents_f": 1.0,
        "ents_p": 0.0,
        "ents_r": 0.0,
        "ents_per_type": None,
    },
)
def make_bert_ner(
    nlp: Language,
    name: str,
    model: Model[list[Doc], list[Floats2d]],
    spans_key: str,
    loss_weight: float,
    scorer: Callable[..., dict[str, Any]] | None,
) -> BertEntityRecognizer:
    """The factory "bert_ner".

    Args:
        nlp: the pipeline.
        name: name of the component in it.
        model: Docs to logits of the tags, `spacy_bert.NER.v1`.
        spans_key: `doc.spans[spans_key]` gets the predicted entities with their scores.
        loss_weight: factor of this component's loss beside those of the others.
        scorer: scores Docs against references.
    """
    return BertEntityRecognizer(
        nlp.vocab, model, name, spans_key=spans_key, loss_weight=loss_weight, scorer=scorer
    )


class BertEntityRecognizer(TrainablePipe):
    """Named entity recognition as in Devlin et al. 2018, section 5.3: no CRF.

    A softmax over BIO tags reads each token's first wordpiece. Entities stand in `doc.ents`, and in
    `doc.spans["ents"]` with `attrs["scores"]`: the mean probability, over an entity's tokens, of
    its label. Entities that other components set before are kept, and tokens that they blocked; the
    group lists them where the model says the same.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model[list[Doc], list[Floats2d]],
        name: str = "bert_ner",
        *,
        spans_key: str = "ents",
        loss_weight: float = 1.0,
        scorer: Callable[..., dict[str, Any]] | None,
    ) -> None:
        if not spans_key:
            raise ValueError(f"[components.{name}] spans_key must not be empty")
        if not loss_weight > 0.0:
            raise ValueError(f"[components.{name}] loss_weight must be above 0, got {loss_weight}")
        self.vocab = vocab
        self.model = model
        self.name = name
        self.spans_key = spans_key
        self.loss_weight = loss_weight
        self.scorer = scorer
        self.cfg: dict[str, Any] = {"labels": []}

    @property
    def labels(self) -> tuple[str, ...]:
        """The entity labels."""
        return tuple(self.cfg["labels"])

    @property
    def label_data(self) -> tuple[str, ...]:
        """The labels, as `spacy init labels` saves them."""
        return self.labels

    def add_label(self, label: str) -> int:
        """Add an entity label; what was learned of the others stays.

        Returns:
            1, or 0 if the label is there already.
        """
        if not isinstance(label, str):
            raise ValueError(Errors.E187)
        if label in self.labels:
            return 0
        self._allow_extra_label()
        self.cfg["labels"].append(label)
        if "resize_output" in self.model.attrs:
            self.model = self.model.attrs["resize_output"](
                self.model, bio.number_of_tags(self.labels)
            )
        self.vocab.strings.add(label)
        return 1

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Iterable[str] | None = None,
    ) -> None:
        """Find the labels and draw the head's weights.

        Args:
            get_examples: gives a representative sample of the training data.
            nlp: the pipeline, in which the encoder is looked for.
            labels: the labels, instead of those found in the sample.

        Raises:
            ValueError: if there is no encoder to listen to, or no label.
        """
        validate_get_examples(get_examples, "BertEntityRecognizer.initialize")
        if nlp is not None:
            find_encoder(self.name, self.model, nlp)
        if labels is None:
            found = (ent.label_ for example in get_examples() for ent in example.reference.ents)
            labels = dict.fromkeys(found)
            if not labels and not self.labels:
                raise ValueError(
                    f"[components.{self.name}] no training Doc has an entity (doc.ents), so there "
                    "are no labels: add entities to the data, or the labels with add_label or "
                    f"[initialize.components.{self.name}] labels"
                )
        for label in labels:
            self.add_label(label)
        self._require_labels()
        docs = [example.reference for example in islice(get_examples(), COUNTED)]
        tags, ops = bio.number_of_tags(self.labels), self.model.ops
        sample = docs[:SAMPLE]
        self.model.initialize(X=sample, Y=[ops.alloc2f(len(doc), tags) for doc in sample])
        start_at(self.model, np.log(bio.frequencies(docs, self.labels)))

    def predict(self, docs: Iterable[Doc]) -> list[Array]:
        """Probabilities of the tags, (tokens, tags) for each Doc."""
        self._require_labels()
        docs = list(docs)
        require_encoding(self.name, self.model, docs)
        if not any(len(doc) for doc in docs):
            tags = bio.number_of_tags(self.labels)
            return [self.model.ops.alloc2f(0, tags) for _ in docs]
        return [self.model.ops.softmax(logits) for logits in self.model.predict(docs)]

    def set_annotations(self, docs: Iterable[Doc], scores: Sequence[Array]) -> None:
        """Set `doc.ents` and `doc.spans[spans_key]` from the probabilities of the tags."""
        docs = list(docs)
        for doc, entities in zip(docs, self._decode(docs, scores), strict=True):
            entities = _set_ents(doc, entities)
            doc.spans[self.spans_key] = SpanGroup(
                doc,
                name=self.spans_key,
                spans=[Span(doc, *entity[:3]) for entity in entities],
                attrs={"scores": np.array([score for *_, score in entities], dtype="f")},
            )

    def get_loss(
        self, examples: Iterable[Example], scores: Sequence[Array]
    ) -> tuple[float, list[Array]]:
        """Mean cross-entropy over the tokens whose tag is known, and its gradient.

        Tokens of gold entities that do not align with the tokens are left out, as in spaCy's `ner`.

        Args:
            examples: the gold standard.
            scores: logits, (tokens, tags) for each Doc.
        """
        examples = list(examples)
        validate_examples(examples, "BertEntityRecognizer.get_loss")
        ops = self.model.ops
        gold = [bio.encode(example.get_aligned_ner(), self.labels) for example in examples]
        tags: Array = np.concatenate(gold)
        known: Array = np.flatnonzero(tags != bio.MISSING)
        logits = ops.xp.concatenate([score for score in scores if len(score)])
        gradient = ops.alloc2f(*logits.shape)
        loss = 0.0
        if len(known):
            rows, targets = ops.asarray1i(known), ops.asarray1i(tags[known])
            shifted = logits[rows] - logits[rows].max(axis=1, keepdims=True)
            log_probabilities = shifted - ops.xp.log(ops.xp.exp(shifted).sum(axis=1, keepdims=True))
            each = ops.xp.arange(len(known))
            loss = -float(log_probabilities[each, targets].mean()) * self.loss_weight
            difference = ops.xp.exp(log_probabilities)
            difference[each, targets] -= 1.0
            gradient[rows] = difference * np.float32(self.loss_weight / len(known))
        return loss, ops.unflatten(gradient, ops.asarray1i([len(score) for score in scores]))

    def _decode(self, docs: Sequence[Doc], scores: Sequence[Array]) -> Iterator[list[Entity]]:
        """The entities of each Doc; white space is neither read nor at an entity's border."""
        lengths = [len(doc) for doc in docs]
        if not sum(lengths):
            yield from ([] for _ in docs)
            return
        probabilities = to_numpy(self.model.ops.xp.concatenate([s for s in scores if len(s)]))
        offsets = np.cumsum([0, *lengths])
        read, borders = _readable(docs)
        kept = np.flatnonzero(read)
        tags = probabilities[kept].argmax(axis=1)
        tags[borders[kept]] = 0
        owner = np.repeat(np.arange(len(docs)), lengths)[kept]
        starts = np.concatenate([[True], owner[1:] != owner[:-1]]) if len(owner) else owner > 0
        first, last, kinds = bio.decode(tags, starts)
        of_label = probabilities[:, 1:].reshape(len(probabilities), -1, 2).sum(axis=2)[kept]
        sums = np.concatenate([np.zeros((1, of_label.shape[1])), of_label.cumsum(axis=0)])
        means = (sums[last + 1, kinds] - sums[first, kinds]) / (last - first + 1)
        doc_of = owner[first]
        begin, end = kept[first] - offsets[doc_of], kept[last] + 1 - offsets[doc_of]
        names = [self.labels[kind] for kind in kinds.tolist()]
        entities = list(zip(begin.tolist(), end.tolist(), names, means.tolist(), strict=True))
        limits = np.searchsorted(doc_of, np.arange(len(docs) + 1))
        for low, high in zip(limits[:-1].tolist(), limits[1:].tolist(), strict=True):
            yield entities[low:high]


def _readable(docs: Sequence[Doc]) -> tuple[np.ndarray, np.ndarray]:
    """Of all tokens: those that are read, (tokens,), and of them the borders of segments."""
    spaces = [doc.to_array([IS_SPACE]).reshape(-1).astype(bool) for doc in docs]
    borders = [np.zeros(len(doc), dtype=bool) for doc in docs]
    for doc, space, border in zip(docs, spaces, borders, strict=True):
        for i in np.flatnonzero(space).tolist():
            border[i] = SEPARATOR in doc[i].text
    border = np.concatenate(borders)
    return ~np.concatenate(spaces) | border, border


def _set_ents(doc: Doc, entities: list[Entity]) -> list[Entity]:
    """Set `doc.ents` beside what stands there; gives back the entities that now stand."""
    iob = doc.to_array([ENT_IOB]).reshape(-1)
    occupied = iob % 2 == 1  # I and B; blocked tokens are B without a label
    if not occupied.any():
        doc.set_ents([Span(doc, *entity[:3]) for entity in entities], default="outside")
        return entities
    standing = {(ent.start, ent.end, ent.label_) for ent in doc.ents}
    new = [entity for entity in entities if not occupied[entity[0] : entity[1]].any()]
    for start, end, *_ in new:
        occupied[start:end] = True
    doc.set_ents(
        [Span(doc, *entity[:3]) for entity in new],
        outside=[doc[i : i + 1] for i in np.flatnonzero(~occupied).tolist()],
        default="unmodified",
    )
    standing.update(entity[:3] for entity in new)
    return [entity for entity in entities if entity[:3] in standing]
