"""The component `bert`: the encoder that other components of a pipeline share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.pipeline.trainable_pipe import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from spacy_transformers import Transformer
from spacy_transformers.annotation_setters import null_annotation_setter
from spacy_transformers.data_classes import FullTransformerBatch, TransformerData
from spacy_transformers.layers import TransformerListener
from spacy_transformers.pipeline_component import install_extensions
from thinc.api import Model, Optimizer, set_dropout_rate

from spacy_bert.bert.precision import Precision
from spacy_bert.models.encoder import EncoderShim, encoder_shim
from spacy_bert.models.listeners import EncoderModel
from spacy_bert.models.segments import install_segments

DEFAULT_CONFIG = {
    "model": {
        "@architectures": "spacy_bert.Encoder.v1",
        "name": "bert-base-uncased",
        "config": None,
        "vocab": None,
        "pretrained": True,
        "window": None,
        "stride": None,
        "slide": "last",
        "max_batch_pieces": None,
        "frozen_layers": None,
        "mixed_precision": False,
        "precision": "fp32",
    },
    "set_extra_annotations": {
        "@annotation_setters": "spacy-transformers.null_annotation_setter.v1"
    },
}

# Making any pipeline looks up all factories, so that whoever reads a DocBin has `doc._.segments`.
install_segments()


@Language.factory("bert", assigns=["doc._.trf_data"], default_config=DEFAULT_CONFIG)
def make_bert(
    nlp: Language,
    name: str,
    model: EncoderModel,
    set_extra_annotations: Callable[[list[Doc], FullTransformerBatch], None],
) -> Bert:
    """The factory "bert".

    Args:
        nlp: the pipeline.
        name: name of the component in it.
        model: the encoder, `spacy_bert.Encoder.v1`.
        set_extra_annotations: called with the Docs and their outputs after `doc._.trf_data` is set.
    """
    return Bert(nlp.vocab, model, set_extra_annotations, name=name)


class Bert(Transformer):  # type: ignore[misc]
    """BERT, run once for all components that listen to it.

    Everything that listens to spacy-transformers' `transformer` can listen to it. The outputs
    stand in `doc._.trf_data`, one row for each window of the Doc.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model[list[Doc], FullTransformerBatch],
        set_extra_annotations: Callable[
            [list[Doc], FullTransformerBatch], None
        ] = null_annotation_setter,
        *,
        name: str = "bert",
    ) -> None:
        if not any(isinstance(shim, EncoderShim) for shim in model.shims):
            raise ValueError(
                f"[components.{name}.model] must be spacy_bert.Encoder.v1, not {model.name!r}; "
                'other transformers go into the factory "transformer"'
            )
        super().__init__(vocab, model, set_extra_annotations, name=name)
        self.cfg: dict[str, Any] = {}

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Encode a stream of Docs, in batches of `batch_size`; memory is bounded by the model.

        Errors go to the pipeline's error handler, as those of other components do.
        """
        install_extensions()
        yield from TrainablePipe.pipe(self, stream, batch_size=batch_size)

    @property
    def precision(self) -> Precision:
        """In which the encoder predicts on this device: what `precision = "auto"` has picked."""
        return encoder_shim(self.model).precision

    def predict(self, docs: Iterable[Doc]) -> FullTransformerBatch:
        """Encode Docs without changing them."""
        return self.model.predict(list(docs))

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Encode the examples for the listeners; the last to answer starts the backward pass.

        If some do not answer, being frozen, it starts when the optimizer steps.
        `losses[name]` is the squared norm of the gradient that the listeners sent back.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "Bert.update")
        docs = [example.predicted for example in examples]
        if not any(len(doc) for doc in docs) or not self.listeners:
            return losses
        set_dropout_rate(self.model, drop)
        outputs, backprop = self.model.begin_update(docs)
        shim = encoder_shim(self.model)

        def finish(gradient: FullTransformerBatch) -> None:
            # One number leaves the device, not one for every Doc and listener.
            losses[self.name] += float(gradient.model_output.last_hidden_state.square().sum())
            shim.expect(None)
            backprop(gradient)
            if sgd is not None:
                self.model.finish_update(sgd)
            shim.finish_late_update()

        def forget() -> None:
            # Those that do not answer would keep the batch, and take the next one's for it.
            for listener in self.listeners:
                listener.receive(None, None, None)

        gradient = SharedGradient(outputs, finish, forget, listeners=len(self.listeners))
        shim.expect(gradient)
        batch_id = TransformerListener.get_batch_id(docs)
        for listener in self.listeners:
            listener.receive(batch_id, outputs.doc_data, gradient.add)
        return losses

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> Bert:
        """Load what `to_disk` wrote.

        Raises:
            ValueError: if the saved model is damaged or missing; names the file.
        """
        model_file = Path(path) / "model"
        if "model" not in exclude and not model_file.is_file():
            raise ValueError(f"{model_file}: not found; the saved pipeline is not complete")
        try:
            super().from_disk(path, exclude=exclude)
        except ValueError as error:
            raise ValueError(f"{model_file}: {error}") from error
        return self


class SharedGradient:
    """The sum of the gradients that listeners send back for one batch.

    Args:
        outputs: what the listeners read.
        finish: takes the packed sum, when all listeners have answered or the optimizer steps.
        forget: lets go what the listeners keep, then or when the next update begins.
        listeners: how many there are.
    """

    def __init__(
        self,
        outputs: FullTransformerBatch,
        finish: Callable[[FullTransformerBatch], None],
        forget: Callable[[], None],
        *,
        listeners: int,
    ) -> None:
        self._outputs = outputs
        self._finish = finish
        self._forget = forget
        self._awaited = listeners
        self._sum: list[list[Any]] = []

    @property
    def has_begun(self) -> bool:
        """Whether a listener has answered, and the sum still waits for its backward pass."""
        return bool(self._sum)

    def add(self, gradients: list[TransformerData]) -> list[Doc]:
        """Take one listener's gradients, one for each Doc that has tokens.

        Returns:
            Nothing, as a list: layers such as thinc's `concatenate` add up what they get back.
        """
        arrays = [data.model_output.last_hidden_state for data in gradients]
        if not self._sum:
            self._sum = [[array] for array in arrays]
        else:
            for (sum_,), array in zip(self._sum, arrays, strict=True):
                sum_ += array
        self._awaited -= 1
        if not self._awaited:
            self.backpropagate()
        return []

    def backpropagate(self) -> None:
        """Run the encoder's backward pass with the sum so far."""
        gradients, self._sum = self._sum, []
        self._finish(self._outputs.unsplit_by_doc(gradients))
        self.forget()

    def forget(self) -> None:
        """Wait for nobody any longer."""
        self._forget()
