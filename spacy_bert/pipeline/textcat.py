"""The component `bert_textcat`: classes of each Doc (or each pair of segments), from [CLS]."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from spacy.language import Language
from spacy.pipeline.textcat import TextCategorizer
from spacy.pipeline.textcat_multilabel import MultiLabel_TextCategorizer
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from thinc.api import Model
from thinc.types import Floats2d

from spacy_bert.models.heads import Head, head_shim
from spacy_bert.pipeline.upstream import find_encoder, require_encoding, require_informed_piece

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are
Mode = Literal["exclusive", "multilabel"]

THRESHOLDS: dict[str, float] = {"exclusive": 0.0, "multilabel": 0.5}

DEFAULT_CONFIG = {
    "mode": "exclusive",
    "threshold": None,
    "loss_weight": 1.0,
    "model": {
        "@architectures": "spacy_bert.TextCat.v1",
        "tok2vec": {
            "@architectures": "spacy_bert.ClsListener.v1",
            "upstream": "*",
            "piece": "first",
        },
    },
    "scorer": {"@scorers": "spacy_bert.textcat_scorer.v1"},
}


@Language.factory(
    "bert_textcat",
    assigns=["doc.cats"],
    default_config=DEFAULT_CONFIG,
    default_score_weights={
        "cats_score": 1.0,
        "cats_score_desc": None,
        "cats_micro_p": None,
        "cats_micro_r": None,
        "cats_micro_f": None,
        "cats_macro_p": None,
        "cats_macro_r": None,
        "cats_macro_f": None,
        "cats_macro_auc": None,
        "cats_f_per_type": None,
    },
)
def make_bert_textcat(
    nlp: Language,
    name: str,
    model: Model[list[Doc], Floats2d],
    mode: Mode,
    threshold: float | None,
    loss_weight: float,
    scorer: Callable[..., dict[str, Any]] | None,
) -> BertTextCategorizer:
    """The factory "bert_textcat".

    Args:
        nlp: the pipeline.
        name: name of the component in it.
        model: Docs to logits, `spacy_bert.TextCat.v1`.
        mode: "exclusive" (one class holds for each Doc) or "multilabel" (each may hold or not).
        threshold: of several classes, the scorer counts those whose probability reaches this;
            default: 0.5. Of exclusive classes it counts the best one, whatever its probability.
        loss_weight: factor of this component's loss beside those of the others.
        scorer: scores Docs against references.
    """
    return BertTextCategorizer(
        nlp.vocab,
        model,
        name,
        mode=mode,
        threshold=threshold,
        loss_weight=loss_weight,
        scorer=scorer,
    )


def build_textcat_scorer() -> Callable[..., dict[str, Any]]:
    """The scorer `spacy_bert.textcat_scorer.v1`: spaCy's scores of `doc.cats`, in either mode."""
    return score_cats


def score_cats(examples: Iterable[Example], **options: Any) -> dict[str, Any]:
    """Score `doc.cats`; the component gives `multi_label`, `labels`, `threshold`."""
    return Scorer.score_cats(examples, "cats", **options)


class BertTextCategorizer(TextCategorizer):
    """Classifies Docs (Devlin et al. 2018, section 4.1); probabilities stand in `doc.cats`.

    Sentence pairs are Docs of two segments (`spacy_bert.join`). Training takes the mean
    cross-entropy: of a softmax over exclusive classes, or of each class by itself. What is not
    annotated counts for nothing: a Doc without a class, or, of several, each class that is missing.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model[list[Doc], Floats2d],
        name: str = "bert_textcat",
        *,
        mode: Mode = "exclusive",
        threshold: float | None = None,
        loss_weight: float = 1.0,
        scorer: Callable[..., dict[str, Any]] | None,
    ) -> None:
        if mode not in THRESHOLDS:
            raise ValueError(
                f'[components.{name}] mode must be "exclusive" or "multilabel", got {mode!r}'
            )
        if threshold is not None and not 0.0 <= threshold <= 1.0:
            raise ValueError(f"[components.{name}] threshold must be in [0, 1], got {threshold}")
        if not loss_weight > 0.0:
            raise ValueError(f"[components.{name}] loss_weight must be above 0, got {loss_weight}")
        threshold = THRESHOLDS[mode] if threshold is None else threshold
        super().__init__(vocab, model, name, threshold=threshold, scorer=scorer)
        self.mode = mode
        self.loss_weight = loss_weight

    @property
    def support_missing_values(self) -> bool:
        """Whether a class that is not annotated is unknown (several) or does not hold."""
        return self.mode == "multilabel"

    def predict(self, docs: Iterable[Doc]) -> Array:
        """Probabilities of the classes, (Docs, labels)."""
        self._require_labels()
        docs = list(docs)
        require_encoding(self.name, self.model, docs)
        if not docs:
            return self.model.ops.alloc2f(0, len(self.labels))
        logits = self.model.predict(docs)
        if self.mode == "exclusive":
            return self.model.ops.softmax(logits)
        return self.model.ops.sigmoid(logits)

    def get_loss(self, examples: Iterable[Example], scores: Array) -> tuple[float, Array]:
        """Mean cross-entropy of the logits and its gradient, both times `loss_weight`.

        Args:
            examples: the gold standard.
            scores: logits, (Docs, labels).
        """
        examples = list(examples)
        validate_examples(examples, "BertTextCategorizer.get_loss")
        self._validate_categories(examples)
        truths, known = cast(tuple[Array, Array], self._examples_to_truth(examples))
        ops = self.model.ops
        if self.mode == "exclusive":
            return self._softmax_loss(scores, ops.asarray(truths))
        return self._sigmoid_loss(scores, ops.asarray(truths), ops.asarray(known))

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Iterable[str] | None = None,
        positive_label: str | None = None,
    ) -> None:
        """Find the labels, draw the head's weights, take over the encoder's pre-trained pooler.

        Args:
            get_examples: gives a representative sample of the training data.
            nlp: the pipeline, in which the encoder is looked for.
            labels: the labels, instead of those found in the sample.
            positive_label: the positive one of two exclusive labels, for scoring.

        Raises:
            ValueError: if there is no encoder to listen to, or it is left-to-right and its first
                piece is read, or there are too few labels.
        """
        encoder = None if nlp is None else find_encoder(self.name, self.model, nlp)
        if encoder is not None:
            require_informed_piece(self.name, self.model, encoder)
        if self.mode == "exclusive":
            super().initialize(get_examples, nlp=nlp, labels=labels, positive_label=positive_label)
        elif positive_label is not None:
            raise ValueError(
                f"[initialize.components.{self.name}] positive_label needs two classes "
                'of which one holds: leave it out, or set mode = "exclusive"'
            )
        else:
            MultiLabel_TextCategorizer.initialize(self, get_examples, nlp=nlp, labels=labels)
        pooler = None if encoder is None else encoder.network.pooler
        head = cast(Head, head_shim(self.model).module)
        if pooler is not None and head.pooler is not None:
            head.pooler.load_state_dict(pooler.state_dict())

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """Score a batch of examples, as the mode asks."""
        return cast(
            dict[str, Any],
            super().score(examples, multi_label=self.mode == "multilabel", **kwargs),
        )

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> BertTextCategorizer:
        """Load what `to_bytes` gave; the threshold stays that of the config."""
        threshold = self.cfg["threshold"]
        super().from_bytes(data, exclude=exclude)
        self.cfg["threshold"] = threshold
        return self

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> BertTextCategorizer:
        """Load what `to_disk` wrote; the threshold stays that of the config."""
        threshold = self.cfg["threshold"]
        super().from_disk(path, exclude=exclude)
        self.cfg["threshold"] = threshold
        return self

    def _softmax_loss(self, logits: Array, truths: Array) -> tuple[float, Array]:
        xp = self.model.ops.xp
        known = truths.sum(axis=1, keepdims=True)
        factor = self.loss_weight / max(float(known.sum()), 1.0)
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_probabilities = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))
        loss = -float((truths * log_probabilities).sum()) * factor
        return loss, (xp.exp(log_probabilities) - truths) * known * np.float32(factor)

    def _sigmoid_loss(self, logits: Array, truths: Array, known: Array) -> tuple[float, Array]:
        xp = self.model.ops.xp
        factor = self.loss_weight / max(float(known.sum()), 1.0)
        # log(1 + exp(x)) - x y, without overflow
        each = xp.maximum(logits, 0) - logits * truths + xp.log1p(xp.exp(-xp.abs(logits)))
        loss = float((each * known).sum()) * factor
        gradient = (self.model.ops.sigmoid(logits) - truths) * known * np.float32(factor)
        return loss, gradient

    def _validate_categories(self, examples: Iterable[Example]) -> None:
        if self.mode == "multilabel":
            MultiLabel_TextCategorizer._validate_categories(self, examples)
            return
        for example in examples:
            true = [label for label, value in example.reference.cats.items() if value == 1.0]
            if len(true) > 1:  # spaCy's own error, E895, sends to another component
                raise ValueError(
                    f"[components.{self.name}] a Doc has several true classes "
                    f'({", ".join(true)}): where several may hold, set mode = "multilabel"'
                )
            super()._validate_categories([example])
