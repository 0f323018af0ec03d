"""The component `bert_span_qa`: answers that stand in a context, word for word."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeAlias, cast, overload

import numpy as np
from spacy.language import Language
from spacy.pipeline.trainable_pipe import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import to_numpy

from spacy_bert.bert import positions_of
from spacy_bert.models.segments import SEPARATOR, join
from spacy_bert.models.span_qa import SpanQA
from spacy_bert.models.windows import Windows
from spacy_bert.pipeline.answer_decoding import Decoder
from spacy_bert.pipeline.answer_gold import MISSING, find_targets, gold_characters
from spacy_bert.pipeline.answers import (
    Answer,
    answers,
    forget_answers,
    install_answers,
    set_answers,
)
from spacy_bert.pipeline.helpers import (
    require_gold,
    require_pipeline,
    require_text,
    warn_of_plain_text,
)
from spacy_bert.pipeline.upstream import find_encoder, require_encoding, require_windows

Array: TypeAlias = Any  # of numpy or cupy, as thinc's ops are

SAMPLE = 10  # Docs that are enough to infer the model's dimensions
ASK = "ask(nlp, question, context)"

DEFAULT_CONFIG = {
    "spans_key": "answers",
    "n_best": 20,
    "max_answer_pieces": 30,
    "null_answers": False,
    "null_threshold": 0.0,
    "loss_weight": 1.0,
    "model": {
        "@architectures": "spacy_bert.SpanQA.v1",
        "tok2vec": {"@architectures": "spacy_bert.PieceListener.v1", "upstream": "*"},
    },
    "scorer": {"@scorers": "spacy_bert.span_qa_scorer.v1"},
}

# Making any pipeline looks up all factories, so that whoever reads a DocBin has `doc._.answers`.
install_answers()


@Language.factory(
    "bert_span_qa",
    assigns=["doc._.answers", "doc.spans"],
    default_config=DEFAULT_CONFIG,
    default_score_weights={
        "answers_f1": 1.0,
        "answers_em": 0.0,
        "answers_has_em": None,
        "answers_has_f1": None,
        "answers_no_em": None,
        "answers_best_f1": None,
        "answers_best_f1_threshold": None,
    },
)
def make_bert_span_qa(
    nlp: Language,
    name: str,
    model: SpanQA,
    spans_key: str,
    n_best: int,
    max_answer_pieces: int,
    null_answers: bool,
    null_threshold: float,
    loss_weight: float,
    scorer: Callable[..., dict[str, Any]] | None,
) -> BertSpanQA:
    """The factory "bert_span_qa".

    Args:
        nlp: the pipeline.
        name: name of the component in it.
        model: Docs to logits of the pieces of their windows, `spacy_bert.SpanQA.v1`.
        spans_key: gold answers stand in `doc.spans[spans_key]`, and predicted ones.
        n_best: starts and ends to combine in each window, and answers to keep.
        max_answer_pieces: wordpieces of an answer at most.
        null_answers: whether a context may hold no answer, as in SQuAD 2.0.
        null_threshold: by how much the score of "no answer" must be above that of the best answer.
        loss_weight: factor of this component's loss beside those of the others.
        scorer: scores Docs against references.
    """
    return BertSpanQA(
        nlp.vocab,
        model,
        name,
        spans_key=spans_key,
        n_best=n_best,
        max_answer_pieces=max_answer_pieces,
        null_answers=null_answers,
        null_threshold=null_threshold,
        loss_weight=loss_weight,
        scorer=scorer,
    )


class BertSpanQA(TrainablePipe):
    """Extractive question answering (Devlin et al. 2018, sections 4.2 and 4.3).

    A Doc is `spacy_bert.join(nlp, question, context)`, with any number of contexts. The answers
    stand in `doc._.answers`, best first; the tokens of the best one in `doc.spans["answers"]`, with
    its exact text in `attrs["texts"]`, and no tokens if the context holds no answer. A Doc of one
    segment asks nothing and is passed over, with a warning.

    Gold answers stand in `doc.spans["answers"]` likewise: several are alternatives, of which the
    first is learned; an empty group says that there is no answer; a Doc without the group is not
    annotated, and counts for nothing.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: SpanQA,
        name: str = "bert_span_qa",
        *,
        spans_key: str = "answers",
        n_best: int = 20,
        max_answer_pieces: int = 30,
        null_answers: bool = False,
        null_threshold: float = 0.0,
        loss_weight: float = 1.0,
        scorer: Callable[..., dict[str, Any]] | None,
    ) -> None:
        if not spans_key:
            raise ValueError(f"[components.{name}] spans_key must not be empty")
        for setting, value in (("n_best", n_best), ("max_answer_pieces", max_answer_pieces)):
            if value < 1:
                raise ValueError(f"[components.{name}] {setting} must be at least 1, got {value}")
        if not loss_weight > 0.0:
            raise ValueError(f"[components.{name}] loss_weight must be above 0, got {loss_weight}")
        self.vocab = vocab
        self.model = model
        self.name = name
        self.spans_key = spans_key
        self.decoder = Decoder(
            n_best=n_best,
            max_answer_pieces=max_answer_pieces,
            null_answers=null_answers,
            null_threshold=null_threshold,
        )
        self.loss_weight = loss_weight
        self.scorer = scorer
        self.cfg: dict[str, Any] = {}  # settings are those of the config, never saved ones

    def initialize(
        self, get_examples: Callable[[], Iterable[Example]], *, nlp: Language | None = None
    ) -> None:
        """Draw the head's weights.

        Args:
            get_examples: gives a representative sample of the training data.
            nlp: the pipeline, in which the encoder is looked for.

        Raises:
            ValueError: if there is no encoder to listen to, it is not ours, or no Doc has a
                question with gold answers.
        """
        validate_get_examples(get_examples, "BertSpanQA.initialize")
        if nlp is not None and find_encoder(self.name, self.model, nlp) is None:
            raise ValueError(
                f"[components.{self.name}] reads windows of question and context, which only "
                'spacy_bert.Encoder.v1 lays out: put the component "bert" before it'
            )
        require_gold(
            get_examples(),
            lambda doc: self.spans_key in doc.spans,
            self.name,
            f"no training Doc has gold answers in doc.spans[{self.spans_key!r}]; `python -m spacy "
            "bert data squad` writes them, or set spans_key to the group that holds them",
        )
        if not self.decoder.null_answers and any(map(self._has_no_answer, get_examples())):
            warnings.warn(
                f"[components.{self.name}] some questions of the training data have no answer, but "
                "one will be given to each: set null_answers = true",
                stacklevel=2,
            )
        self.model.initialize(X=[example.reference for example in islice(get_examples(), SAMPLE)])

    def predict(self, docs: Iterable[Doc]) -> list[Windows]:
        """Logits of start and end for the pieces of each Doc's windows."""
        docs = list(docs)
        if not docs:
            return []
        if not all(SEPARATOR in doc.text for doc in docs):
            warn_of_plain_text(self.name, "a question", "join(nlp, question, context)")
        require_encoding(self.name, self.model, docs)
        require_windows(self.name, self.model, docs)
        return self.model.predict(docs)

    def set_annotations(self, docs: Iterable[Doc], scores: Sequence[Windows]) -> None:
        """Set `doc._.answers` and `doc.spans[spans_key]` from the logits."""
        docs = list(docs)
        if not docs:
            return
        logits = to_numpy(self.model.ops.xp.concatenate([windows.rows for windows in scores]))
        ends = np.cumsum([len(windows.rows) for windows in scores])
        for doc, windows, own in zip(docs, scores, np.split(logits, ends[:-1]), strict=True):
            if SEPARATOR in doc.text:
                set_answers(doc, self.decoder.decode(doc.text, windows, own), self.spans_key)
            else:
                forget_answers(doc)

    def get_loss(
        self, examples: Iterable[Example], scores: Sequence[Windows]
    ) -> tuple[float, list[Array]]:
        """Mean over windows of the cross-entropies of start and end, halved, and its gradient.

        The softmax runs over all pieces of a window, and a window that does not show the whole
        answer has [CLS] for its answer, as in the paper's code.

        Args:
            examples: the gold standard.
            scores: logits, (pieces, 2) for each Doc.
        """
        examples = list(examples)
        validate_examples(examples, "BertSpanQA.get_loss")
        gold = [self._targets(eg, windows) for eg, windows in zip(examples, scores, strict=True)]
        logits = self.model.ops.xp.concatenate([windows.rows for windows in scores])
        lengths = np.concatenate([windows.lengths for windows in scores])
        loss, gradient = self._softmax_loss(logits, lengths, np.concatenate(gold))
        sizes = self.model.ops.asarray1i([len(windows.rows) for windows in scores])
        return loss, self.model.ops.unflatten(gradient, sizes)

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """Score a batch of examples."""
        return cast(dict[str, Any], super().score(examples, spans_key=self.spans_key, **kwargs))

    def _has_no_answer(self, example: Example) -> bool:
        """Whether the gold standard says that the context holds no answer."""
        group = example.reference.spans.get(self.spans_key)
        return group is not None and not len(group)

    def _targets(self, example: Example, windows: Windows) -> np.ndarray:
        """Positions of start and end of the gold answer in each window, (windows, 2)."""
        if self.spans_key not in example.reference.spans:
            return np.full((len(windows.lengths), 2), MISSING)
        return find_targets(windows, gold_characters(example, self.spans_key))

    def _softmax_loss(
        self, logits: Array, lengths: np.ndarray, gold: np.ndarray
    ) -> tuple[float, Array]:
        ops, xp = self.model.ops, self.model.ops.xp
        known: Array = gold != MISSING
        if not known.any():
            return 0.0, ops.alloc2f(*logits.shape)
        window: Array = np.repeat(np.arange(len(lengths)), lengths)
        rows, columns = ops.asarray1i(window), ops.asarray1i(cast(Array, positions_of(lengths)))
        grid = xp.full((len(lengths), int(lengths.max()), 2), -np.inf, dtype="f")
        grid[rows, columns] = logits
        grid -= grid.max(axis=1, keepdims=True)
        log_sums = xp.log(xp.exp(grid).sum(axis=1, keepdims=True))
        targets: Array = ops.asarray(cast(Array, np.maximum(gold, 0)))
        at_gold = xp.arange(len(lengths))[:, None], targets, xp.arange(2)[None]
        # The mean over all starts and ends that are known is that over windows of halved sums.
        weights: Array = ops.asarray2f(known * np.float32(self.loss_weight / known.sum()))
        loss = float(((log_sums[:, 0] - grid[at_gold]) * weights).sum())
        gradient = xp.exp(grid - log_sums)
        gradient[at_gold] -= 1.0
        gradient *= weights[:, None]
        return loss, gradient[rows, columns]


@overload
def ask(nlp: Language, question: str, context: str) -> Answer: ...


@overload
def ask(nlp: Language, question: list[str], context: str) -> list[Answer]: ...


def ask(nlp: Language, question: str | list[str], context: str) -> Answer | list[Answer]:
    """Ask a pipeline about a text.

    Args:
        nlp: a pipeline with the component `bert_span_qa`.
        question: one question, or several, which are answered in batches.
        context: the text that may hold the answers; if it is empty, the answer is the null answer.

    Returns:
        The best answer to each question; its characters count from the beginning of `context`.

    Raises:
        ValueError: if the pipeline answers no questions, or a question is empty.
        TypeError: if what should be a text is none.
    """
    require_pipeline(nlp, BertSpanQA, "bert_span_qa", ASK)
    questions = question if isinstance(question, list | tuple) else [question]
    for each in questions:
        require_text(each, "the question", ASK)
    if not isinstance(context, str):
        raise TypeError(f"the context must be a text: {ASK}, got a {type(context).__name__}")
    docs = nlp.pipe(join(nlp, each, context) for each in questions)
    found = [_in_context(doc) for doc in docs]
    return found if isinstance(question, list | tuple) else found[0]


def _in_context(doc: Doc) -> Answer:
    """The best answer, counted from the beginning of the context."""
    best = answers(doc)[0]
    if best.is_null:
        return best
    begin = doc.text.index(SEPARATOR) + 1
    return replace(best, start_char=best.start_char - begin, end_char=best.end_char - begin)
