"""The component `bert_choice`: which of several texts goes on best, or answers a question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, TypeAlias, cast

import numpy as np
from spacy.language import Language
from spacy.pipeline.trainable_pipe import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Model, Ops, to_numpy
from thinc.types import Ragged

from spacy_bert.bert import positions_of
from spacy_bert.models.segments import join
from spacy_bert.pipeline.chosen import (
    choice_scores,
    count_choices,
    gold_choice,
    install_choice,
    set_choice,
)
from spacy_bert.pipeline.helpers import (
    require_gold,
    require_pipeline,
    require_text,
    warn_of_plain_text,
)
from spacy_bert.pipeline.upstream import (
    find_encoder,
    require_encoding,
    require_informed_piece,
    require_windows,
    take_pooler,
)

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are

SAMPLE = 10  # Docs that are enough to infer the model's dimensions
MISSING = -1
CHOOSE = "choose(nlp, context, [first, second])"

DEFAULT_CONFIG = {
    "loss_weight": 1.0,
    "model": {
        "@architectures": "spacy_bert.Choice.v1",
        "tok2vec": {
            "@architectures": "spacy_bert.PairListener.v1",
            "upstream": "*",
            "piece": "first",
        },
    },
    "scorer": {"@scorers": "spacy_bert.choice_scorer.v1"},
}

# Making any pipeline looks up all factories, so that whoever reads a DocBin has `doc._.choice`.
install_choice()


@Language.factory(
    "bert_choice",
    assigns=["doc._.choice", "doc._.choice_scores"],
    default_config=DEFAULT_CONFIG,
    default_score_weights={"choice_acc": 1.0},
)
def make_bert_choice(
    nlp: Language,
    name: str,
    model: Model[list[Doc], Ragged],
    loss_weight: float,
    scorer: Callable[..., dict[str, Any]] | None,
) -> BertChoice:
    """The factory "bert_choice".

    Args:
        nlp: the pipeline.
        name: name of the component in it.
        model: Docs to a logit for each of their choices, `spacy_bert.Choice.v1`.
        loss_weight: factor of this component's loss beside those of the others.
        scorer: scores Docs against references.
    """
    return BertChoice(nlp.vocab, model, name, loss_weight=loss_weight, scorer=scorer)


class BertChoice(TrainablePipe):
    """Multiple choice (Devlin et al. 2018, section 4.4).

    A Doc is `spacy_bert.join(nlp, context, choice, choice, ...)`, with any number of choices, each
    of which is read together with the context. The index of the best one stands in `doc._.choice`,
    the probabilities of all in `doc._.choice_scores`. A Doc of one segment leaves nothing to choose
    and is passed over, with a warning.

    The gold choice stands in `doc.cats`, whose keys are the indices of the choices: 1.0 for the
    right one, 0.0 for the others. A Doc without cats is not annotated, and counts for nothing.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model[list[Doc], Ragged],
        name: str = "bert_choice",
        *,
        loss_weight: float = 1.0,
        scorer: Callable[..., dict[str, Any]] | None,
    ) -> None:
        if not loss_weight > 0.0:
            raise ValueError(f"[components.{name}] loss_weight must be above 0, got {loss_weight}")
        self.vocab = vocab
        self.model = model
        self.name = name
        self.loss_weight = loss_weight
        self.scorer = scorer
        self.cfg: dict[str, Any] = {}  # settings are those of the config, never saved ones

    def initialize(
        self, get_examples: Callable[[], Iterable[Example]], *, nlp: Language | None = None
    ) -> None:
        """Draw the head's weights, take over the encoder's pre-trained pooler.

        Args:
            get_examples: gives a representative sample of the training data.
            nlp: the pipeline, in which the encoder is looked for.

        Raises:
            ValueError: if there is no encoder to listen to, it is not ours, it is left-to-right
                and its first piece is read, or no Doc says which of its choices is right.
        """
        validate_get_examples(get_examples, "BertChoice.initialize")
        encoder = None if nlp is None else find_encoder(self.name, self.model, nlp)
        if encoder is not None:
            require_informed_piece(self.name, self.model, encoder)
        elif nlp is not None:
            raise ValueError(
                f"[components.{self.name}] reads pairs of context and choice, which only "
                'spacy_bert.Encoder.v1 lays out: put the component "bert" before it'
            )
        require_gold(
            get_examples(),
            lambda doc: bool(doc.cats),
            self.name,
            "no training Doc says which of its choices is right; doc.cats holds 1.0 under the "
            "index of the right one, as `python -m spacy bert data choices` writes it",
        )
        self.model.initialize(X=[example.reference for example in islice(get_examples(), SAMPLE)])
        take_pooler(self.model, encoder)

    def predict(self, docs: Iterable[Doc]) -> Ragged:
        """Logits of the choices of all Docs, (choices, 1), and the number of choices of each."""
        docs = list(docs)
        ops = self.model.ops
        if not docs:
            return Ragged(ops.alloc2f(0, 1), ops.alloc1i(0))
        if not all(map(count_choices, docs)):
            warn_of_plain_text(self.name, "choices", "join(nlp, context, choice, choice, ...)")
        require_encoding(self.name, self.model, docs)
        require_windows(self.name, self.model, docs)
        return self.model.predict(docs)

    def set_annotations(self, docs: Iterable[Doc], scores: Ragged) -> None:
        """Set `doc._.choice` and `doc._.choice_scores` from the logits."""
        docs = list(docs)
        if not docs:
            return
        ops = self.model.ops
        probabilities = to_numpy(ops.xp.exp(log_softmax(ops, scores)))
        ends = to_numpy(scores.lengths).cumsum()
        for doc, own in zip(docs, np.split(probabilities, ends[:-1]), strict=True):
            set_choice(doc, own.tolist() if count_choices(doc) else [])

    def get_loss(self, examples: Iterable[Example], scores: Ragged) -> tuple[float, Ragged]:
        """Mean over annotated Docs of the cross-entropy of their choices, and its gradient.

        Both are multiplied by `loss_weight`.

        Args:
            examples: the gold standard.
            scores: logits, (choices, 1), and the number of choices of each Doc.
        """
        examples = list(examples)
        validate_examples(examples, "BertChoice.get_loss")
        ops = self.model.ops
        lengths = to_numpy(scores.lengths)
        found = [gold_choice(eg.reference, count_choices(eg.predicted)) for eg in examples]
        gold = np.array([MISSING if index is None else index for index in found])
        known = gold != MISSING
        if not known.any():
            return 0.0, Ragged(ops.xp.zeros_like(scores.dataXd), scores.lengths)
        log_probabilities = log_softmax(ops, scores)
        weight = np.float32(self.loss_weight / known.sum())
        right: Array = (lengths.cumsum() - lengths + gold)[known]
        right = ops.asarray1i(right)
        counts: Array = np.repeat(known, lengths)
        gradient = ops.xp.exp(log_probabilities)
        gradient[right] -= 1.0
        gradient *= weight * ops.asarray1f(counts, dtype="f")
        loss = -float(log_probabilities[right].sum() * weight)
        return loss, Ragged(gradient[:, None], scores.lengths)


def log_softmax(ops: Ops, logits: Ragged) -> Array:
    """Logarithms of the probabilities of each Doc's choices, all one behind the other, (choices,).

    Args:
        ops: of the model.
        logits: (choices, 1), and the number of choices of each Doc.
    """
    xp = ops.xp
    flat: Array = cast(Array, logits.dataXd)[:, 0]
    lengths = to_numpy(logits.lengths)
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return flat
    of_choices: Array = np.repeat(np.arange(len(lengths)), lengths)
    rows, columns = ops.asarray1i(of_choices), ops.asarray1i(cast(Array, positions_of(lengths)))
    grid = xp.full((len(lengths), int(lengths.max())), -np.inf, dtype="f")
    grid[rows, columns] = flat
    grid -= grid.max(axis=1, keepdims=True)
    grid -= xp.log(xp.exp(grid).sum(axis=1, keepdims=True))
    return grid[rows, columns]


def choose(nlp: Language, context: str, choices: Sequence[str]) -> tuple[int, list[float]]:
    """Let a pipeline choose among texts.

    Args:
        nlp: a pipeline with the component `bert_choice`.
        context: what the choices go on with, or answer; may be empty.
        choices: the texts to choose from, two at least, none of them empty.

    Returns:
        The index of the best choice, and the probability of each.

    Raises:
        ValueError: if the pipeline does not choose, or there is nothing to choose from.
        TypeError: if `choices` is no list of texts, or the context no text.
    """
    require_pipeline(nlp, BertChoice, "bert_choice", CHOOSE)
    if isinstance(choices, str) or not isinstance(choices, Sequence):
        raise TypeError(f"the choices must be a list: {CHOOSE}, got a {type(choices).__name__}")
    if not isinstance(context, str):
        raise TypeError(f"the context must be a text: {CHOOSE}, got a {type(context).__name__}")
    if len(choices) < 2:
        raise ValueError(f"there must be two choices at least: {CHOOSE}, got {len(choices)}")
    for number, text in enumerate(choices, start=1):
        require_text(text, f"choice {number}", CHOOSE)
    probabilities = choice_scores(nlp(join(nlp, context, *choices)))
    return probabilities.index(max(probabilities)), probabilities
