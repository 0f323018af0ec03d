"""The component `bert_textcat`: classes or values of each Doc (or pair of segments), from [CLS]."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from spacy.language import Language
from spacy.pipeline.textcat import TextCategorizer
from spacy.pipeline.textcat_multilabel import MultiLabel_TextCategorizer
from spacy.tokens import Doc
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Model
from thinc.types import Floats2d

from spacy_bert.models.heads import start_at
from spacy_bert.pipeline.textcat_losses import sigmoid_loss, softmax_loss, squared_loss
from spacy_bert.pipeline.upstream import (
    find_encoder,
    require_encoding,
    require_informed_piece,
    take_pooler,
)

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are
Mode = Literal["exclusive", "multilabel", "regression"]

DEFAULT_CONFIG = {
    "mode": "exclusive",
    "threshold": None,
    "class_weights": None,
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
        "cats_acc": None,
        "cats_mcc": None,
        "cats_pearson": None,
        "cats_spearman": None,
        "cats_mse": None,
    },
)
def make_bert_textcat(
    nlp: Language,
    name: str,
    model: Model[list[Doc], Floats2d],
    mode: Mode,
    threshold: float | None,
    class_weights: dict[str, float] | None,
    loss_weight: float,
    scorer: Callable[..., dict[str, Any]] | None,
) -> BertTextCategorizer:
    """The factory "bert_textcat".

    Args:
        nlp: the pipeline.
        name: name of the component in it.
        model: Docs to logits, `spacy_bert.TextCat.v1`.
        mode: "exclusive" (one class holds for each Doc), "multilabel" (each may hold or not) or
            "regression" (`doc.cats` holds real values, each key a target).
        threshold: of several classes, the scorer counts those whose probability reaches this;
            default: 0.5. Of exclusive classes it counts the best one, whatever its probability.
        class_weights: factors of classes in the loss, of a Doc's class or, of several, of those
            that hold; 1 for a class that is not named.
        loss_weight: factor of this component's loss beside those of the others.
        scorer: scores Docs against references.
    """
    return BertTextCategorizer(
        nlp.vocab,
        model,
        name,
        mode=mode,
        threshold=threshold,
        class_weights=class_weights,
        loss_weight=loss_weight,
        scorer=scorer,
    )


class BertTextCategorizer(TextCategorizer):
    """Classifies Docs (Devlin et al. 2018, section 4.1), or finds real values of them.

    Probabilities or values stand in `doc.cats`. Sentence pairs are Docs of two segments
    (`spacy_bert.join`). Training takes the mean cross-entropy, of a softmax over exclusive classes
    or of each class by itself, or the mean squared error of real values. What is not annotated
    counts for nothing: a Doc without a class, each missing one of several, a missing value.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model[list[Doc], Floats2d],
        name: str = "bert_textcat",
        *,
        mode: Mode = "exclusive",
        threshold: float | None = None,
        class_weights: Mapping[str, float] | None = None,
        loss_weight: float = 1.0,
        scorer: Callable[..., dict[str, Any]] | None,
    ) -> None:
        if mode not in get_args(Mode):
            modes = ", ".join(f'"{known}"' for known in get_args(Mode))
            raise ValueError(f"[components.{name}] mode must be one of {modes}, got {mode!r}")
        if mode == "regression" and (threshold is not None or class_weights):
            raise ValueError(
                f"[components.{name}] threshold and class_weights are of classes: leave them out, "
                'or set another mode than "regression"'
            )
        if threshold is not None and not 0.0 <= threshold <= 1.0:
            raise ValueError(f"[components.{name}] threshold must be in [0, 1], got {threshold}")
        if not loss_weight > 0.0:
            raise ValueError(f"[components.{name}] loss_weight must be above 0, got {loss_weight}")
        for label, weight in (class_weights or {}).items():
            if not 0.0 < weight < math.inf:
                raise ValueError(
                    f"[components.{name}.class_weights] {label} must be above 0, got {weight}"
                )
        if threshold is None:
            threshold = 0.5 if mode == "multilabel" else 0.0
        super().__init__(vocab, model, name, threshold=threshold, scorer=scorer)
        self.mode = mode
        self.class_weights = dict(class_weights or {})
        self.loss_weight = loss_weight

    @property
    def support_missing_values(self) -> bool:
        """Whether what is not annotated is unknown, or (of exclusive classes) does not hold."""
        return self.mode != "exclusive"

    def predict(self, docs: Iterable[Doc]) -> Array:
        """Probabilities of the classes, or the values, (Docs, labels)."""
        self._require_labels()
        docs = list(docs)
        require_encoding(self.name, self.model, docs)
        if not docs:
            return self.model.ops.alloc2f(0, len(self.labels))
        outputs = self.model.predict(docs)
        if self.mode == "exclusive":
            return self.model.ops.softmax(outputs)
        if self.mode == "multilabel":
            return self.model.ops.sigmoid(outputs)
        return outputs

    def get_loss(self, examples: Iterable[Example], scores: Array) -> tuple[float, Array]:
        """The loss of the mode and its gradient, (Docs, labels), both times `loss_weight`.

        Args:
            examples: the gold standard.
            scores: what the model puts out, (Docs, labels): logits of classes, or values.

        Raises:
            ValueError: if doc.cats cannot be what the mode asks for, or an exclusive class holds
                that is not among the labels (of the other modes: a warning).
        """
        examples = list(examples)
        validate_examples(examples, "BertTextCategorizer.get_loss")
        self._validate_categories(examples)
        self._report_unknown_labels(examples)
        ops = self.model.ops
        gold = cast(tuple[Array, Array], self._examples_to_truth(examples))
        truths, known = map(ops.asarray, gold)
        weights = ops.asarray1f([self.class_weights.get(label, 1.0) for label in self.labels])
        if self.mode == "exclusive":
            loss, gradient = softmax_loss(ops, scores, truths, weights)
        elif self.mode == "multilabel":
            loss, gradient = sigmoid_loss(ops, scores, truths, known, weights)
        else:
            loss, gradient = squared_loss(scores, truths, known)
        return loss * self.loss_weight, gradient * np.float32(self.loss_weight)

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Iterable[str] | None = None,
        positive_label: str | None = None,
    ) -> None:
        """Find the labels, draw the head's weights, take over the encoder's pre-trained pooler.

        Of real values, the head begins with the means of the sample.

        Args:
            get_examples: gives a representative sample of the training data.
            nlp: the pipeline, in which the encoder is looked for.
            labels: the labels, instead of those found in the sample.
            positive_label: the positive one of two exclusive labels, for scoring.

        Raises:
            ValueError: if there is no encoder to listen to, or it is left-to-right and its first
                piece is read, there are too few labels, or `class_weights` names another one.
        """
        validate_get_examples(get_examples, "BertTextCategorizer.initialize")
        encoder = None if nlp is None else find_encoder(self.name, self.model, nlp)
        if encoder is not None:
            require_informed_piece(self.name, self.model, encoder)
        if self.mode == "exclusive":
            labels = self._require_two_classes(get_examples, labels)
            super().initialize(get_examples, nlp=nlp, labels=labels, positive_label=positive_label)
        elif positive_label is not None:
            raise ValueError(
                f"[initialize.components.{self.name}] positive_label needs two classes "
                'of which one holds: leave it out, or set mode = "exclusive"'
            )
        else:
            MultiLabel_TextCategorizer.initialize(self, get_examples, nlp=nlp, labels=labels)
        unknown = set(self.class_weights) - set(self.labels)
        if unknown:
            raise ValueError(
                f"[components.{self.name}.class_weights] names {', '.join(sorted(unknown))}, but "
                f"the classes are {', '.join(self.labels)}"
            )
        take_pooler(self.model, encoder)
        if self.mode == "regression":
            self._start_at_the_means(get_examples())

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """Score a batch of examples, as the mode asks."""
        scores = super().score(
            examples,
            multi_label=self.mode == "multilabel",
            regression=self.mode == "regression",
            **kwargs,
        )
        return cast(dict[str, Any], scores)

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

    def _start_at_the_means(self, examples: Iterable[Example]) -> None:
        """Begin with the mean of each target as its prediction."""
        examples = list(examples)
        self._validate_categories(examples)
        cats = [example.reference.cats for example in examples]
        known = [
            [float(values[label]) for values in cats if label in values] for label in self.labels
        ]
        start_at(self.model, np.array([np.mean(values) if values else 0.0 for values in known]))

    def _require_two_classes(
        self, get_examples: Callable[[], Iterable[Example]], labels: Iterable[str] | None
    ) -> list[str]:
        """The classes, found in the examples if they are not given.

        Raises:
            ValueError: if there is none to tell from another.
        """
        if labels is None:
            labels = (label for example in get_examples() for label in example.reference.cats)
        found = list(dict.fromkeys([*self.labels, *labels]))
        if len(found) < 2:
            raise ValueError(
                f"[components.{self.name}] exclusive classes must be two or more, but the training "
                f"data (doc.cats) have {found or 'none'}: add the opposite class, or set mode = "
                '"multilabel", where a class alone holds or not, or "regression"'
            )
        return found

    def _validate_categories(self, examples: Iterable[Example]) -> None:
        """As spaCy's, whose own errors (E851, E895) send to other components."""
        for example in examples:
            cats = example.reference.cats
            if self.mode == "regression":
                self._require_numbers(cats)
                continue
            for label, value in cats.items():
                if value not in (0.0, 1.0):
                    raise ValueError(
                        f"[components.{self.name}] doc.cats[{label!r}] is {value!r}, but a class "
                        'holds (1.0) or not (0.0): for real values set mode = "regression"'
                    )
            true = [label for label, value in cats.items() if value == 1.0]
            if self.mode == "exclusive" and len(true) > 1:
                raise ValueError(
                    f"[components.{self.name}] a Doc has several true classes "
                    f'({", ".join(true)}): where several may hold, set mode = "multilabel"'
                )

    def _report_unknown_labels(self, examples: Iterable[Example]) -> None:
        """A label that nobody knows would teach nothing, and nobody would notice.

        Of exclusive classes this is an error, of others a warning: they may be another component's.
        """
        known = set(self.labels)
        for example in examples:
            for label, value in example.reference.cats.items():
                if label in known or (self.mode != "regression" and value == 0.0):
                    continue
                found = (
                    f"[components.{self.name}] {label!r} of doc.cats is not among the labels "
                    f"{', '.join(self.labels)}"
                )
                if self.mode == "exclusive":
                    raise ValueError(
                        f"{found}: add it to [initialize.components.{self.name}.labels], or "
                        "remove it from the data"
                    )
                warnings.warn(
                    f"{found}, and is not learned: add it to "
                    f"[initialize.components.{self.name}.labels], if it is this component's",
                    stacklevel=3,
                )

    def _require_numbers(self, cats: Mapping[str, object]) -> None:
        for label, value in cats.items():
            if not (isinstance(value, Real) and math.isfinite(value)):
                raise ValueError(
                    f"[components.{self.name}] doc.cats[{label!r}] must be a finite number, got "
                    f"{value!r}: leave out what is not known"
                )
