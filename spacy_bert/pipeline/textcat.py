"""The component `bert_textcat`: one class for each Doc (or each pair of segments), from [CLS]."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

import numpy as np
from spacy.language import Language
from spacy.pipeline.textcat import TextCategorizer
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from spacy_transformers.layers import TransformerListener
from thinc.api import Model
from thinc.types import Floats2d

from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.heads import Classifier, head_shim
from spacy_bert.pipeline.bert import Bert

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are

DEFAULT_CONFIG = {
    "threshold": 0.0,
    "loss_weight": 1.0,
    "model": {
        "@architectures": "spacy_bert.TextCat.v1",
        "cls": {"@architectures": "spacy_bert.ClsListener.v1", "upstream": "*"},
    },
    "scorer": {"@scorers": "spacy.textcat_scorer.v2"},
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
    threshold: float,
    loss_weight: float,
    scorer: Callable[..., dict[str, Any]] | None,
) -> BertTextCategorizer:
    """The factory "bert_textcat".

    Args:
        nlp: the pipeline.
        name: name of the component in it.
        model: Docs to logits, `spacy_bert.TextCat.v1`.
        threshold: the scorer counts the best class only if its probability reaches this.
        loss_weight: factor of this component's loss beside those of the others.
        scorer: scores Docs against references.
    """
    return BertTextCategorizer(
        nlp.vocab, model, name, threshold=threshold, loss_weight=loss_weight, scorer=scorer
    )


class BertTextCategorizer(TextCategorizer):
    """Classifies Docs into exclusive classes (Devlin et al. 2018, section 4.1).

    Probabilities stand in `doc.cats`. Sentence pairs are Docs of two segments (`spacy_bert.join`).
    Training takes the mean cross-entropy; a Doc of which no class is known counts for nothing.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model[list[Doc], Floats2d],
        name: str = "bert_textcat",
        *,
        threshold: float = 0.0,
        loss_weight: float = 1.0,
        scorer: Callable[..., dict[str, Any]] | None,
    ) -> None:
        if not 0.0 <= threshold <= 1.0:
            raise ValueError(f"[components.{name}] threshold must be in [0, 1], got {threshold}")
        if not loss_weight > 0.0:
            raise ValueError(f"[components.{name}] loss_weight must be above 0, got {loss_weight}")
        super().__init__(vocab, model, name, threshold=threshold, scorer=scorer)
        self.loss_weight = loss_weight

    def predict(self, docs: Iterable[Doc]) -> Array:
        """Probabilities of the classes, (Docs, labels)."""
        self._require_labels()
        docs = list(docs)
        if not docs:
            return self.model.ops.alloc2f(0, len(self.labels))
        return self.model.ops.softmax(self.model.predict(docs))

    def get_loss(self, examples: Iterable[Example], scores: Array) -> tuple[float, Array]:
        """Mean cross-entropy of the logits and its gradient, both times `loss_weight`.

        Args:
            examples: the gold standard.
            scores: logits, (Docs, labels).
        """
        validate_examples(examples, "BertTextCategorizer.get_loss")
        self._validate_categories(examples)
        truths, _ = self._examples_to_truth(examples)
        truths = cast(Array, truths)
        known = truths.sum(axis=1, keepdims=True)
        factor = self.loss_weight / max(float(known.sum()), 1.0)
        xp = self.model.ops.xp
        shifted = scores - scores.max(axis=1, keepdims=True)
        log_probabilities = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))
        loss = -float((truths * log_probabilities).sum()) * factor
        gradient = (xp.exp(log_probabilities) - truths) * known * np.float32(factor)
        return loss, gradient

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
            positive_label: the positive one of two labels, for scoring.

        Raises:
            ValueError: if there is no encoder to listen to, or fewer than two labels.
        """
        encoder = None if nlp is None else self._encoder(nlp)
        super().initialize(get_examples, nlp=nlp, labels=labels, positive_label=positive_label)
        pooler = None if encoder is None else encoder_shim(encoder.model).network.pooler
        if pooler is not None:
            head = cast(Classifier, head_shim(self.model).module)
            head.pooler.load_state_dict(pooler.state_dict())

    def _encoder(self, nlp: Language) -> Bert | None:
        """The component that this one listens to; None if it has an encoder of its own."""
        upstream = {
            node.upstream_name
            for node in self.model.walk()
            if isinstance(node, TransformerListener)
        }
        if not upstream:
            return None
        for name, component in nlp.components:
            if name == self.name:
                break
            if isinstance(component, Bert) and upstream & {"*", name}:
                return component
        raise ValueError(
            f"[components.{self.name}] listens to {', '.join(sorted(upstream))!r}, but no such "
            '"bert" component stands before it in [nlp] pipeline: add one, or move it up'
        )
