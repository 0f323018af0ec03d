"""The thinc model around the network: Docs in, one `TransformerData` for each Doc out."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from spacy.tokens import Doc
from spacy_transformers.data_classes import FullTransformerBatch
from thinc.api import Model
from torch import Tensor, nn

from spacy_bert.bert import BertConfig, BertModel, PackedBatch
from spacy_bert.bert.precision import Precision, automatic, has_bf16, lowered
from spacy_bert.heap import Heap
from spacy_bert.models.batch import Chunks, PackedTransformerBatch
from spacy_bert.models.budget import Budget, pieces_at_once, training_budget
from spacy_bert.models.changes import Changes
from spacy_bert.models.encoder_settings import EncoderSettings, EncoderSource, PredictionPrecision
from spacy_bert.models.intervention import Intervention
from spacy_bert.models.layout import DocLayout, Slide, lay_out
from spacy_bert.models.listeners import EncoderModel, private_config, split
from spacy_bert.models.shim import LOADING, Config, TorchShim
from spacy_bert.wordpiece import WordPiece

logger = logging.getLogger("spacy_bert")

_HEAP = Heap()  # of the process

Backprop = Callable[[FullTransformerBatch], list[Doc]]


class EncoderShim(TorchShim):
    """The network and its vocabulary, which are saved and loaded together."""

    def __init__(self, source: EncoderSource, settings: EncoderSettings) -> None:
        super().__init__(build_network)
        self.source = source
        self.settings = settings
        self._wordpiece: WordPiece | None = None
        self._intervention: Intervention | None = None
        self._changes = Changes()
        self._lowered: BertModel | None = None
        self._told: Precision | None = None

    @property
    def network(self) -> BertModel:
        """The encoder."""
        module = self.module
        assert isinstance(module, BertModel)
        return module

    @property
    def wordpiece(self) -> WordPiece:
        """The vocabulary."""
        if self._wordpiece is None:
            self.module  # noqa: B018 - is loaded with it
        assert self._wordpiece is not None
        return self._wordpiece

    def load(self) -> None:
        """Read the source; what `from_bytes` has filled in is never overwritten."""
        network, wordpiece = self.source.load()
        self.take(network.float(), wordpiece)

    def take(self, network: BertModel, wordpiece: WordPiece) -> None:
        """Take a network and its vocabulary."""
        config = {
            "bert": network.config.to_dict(),
            "pooler": network.pooler is not None,
            "tokenizer": wordpiece.to_str(),
        }
        self.place(network, config)

    def place(self, module: nn.Module, config: Config) -> None:
        """Take a network and the configuration that describes it and its vocabulary."""
        self._changes, self._lowered = Changes(), None
        self._wordpiece = WordPiece.from_str(config["tokenizer"])
        super().place(module, config)  # last: who sees the network finds the vocabulary too
        self.settings.layout(positions=self.network.config.max_position_embeddings)
        self._freeze()

    @property
    def precision(self) -> Precision:
        """In which it predicts on this device."""
        wanted = self.settings.precision
        return automatic(self.device) if wanted == "auto" else wanted

    @contextlib.contextmanager
    def predicting(self) -> Iterator[BertModel]:
        """The network for predictions, in `precision`, without gradients."""
        with super().predicting() as module:
            assert isinstance(module, BertModel)
            with LOADING:
                if self._told != self.precision:
                    self._tell()
                    self._lowered = None
                if self._changes.seen(module):
                    self._lowered = None
                if self._lowered is None:
                    self._lowered = self._lower(module)
                network = self._lowered
            yield network

    def _lower(self, network: BertModel) -> BertModel:
        """Made when it is first needed, and again when weights have changed."""
        with torch.inference_mode(False), torch.no_grad():
            return lowered(network, self.precision)

    def _tell(self) -> None:
        self._told = self.precision
        if self.settings.precision == "auto":
            logger.info('the encoder predicts in %s (picked by "auto")', self.precision)
        elif self.precision != "fp32":
            logger.info("the encoder predicts in %s", self.precision)
        if self.precision == "bf16" and not has_bf16(self.device):
            warnings.warn(
                "this CPU has no instructions for bf16 and is slower in it than in fp32: "
                'set [components.bert.model] precision = "auto"',
                stacklevel=2,
            )

    @contextlib.contextmanager
    def training(self, *, again: bool = False) -> Iterator[nn.Module]:
        """The network in training mode; the copy for predictions would soon be out of date."""
        self._lowered = None
        with super().training(again=again) as module:
            yield module

    def forget_copies(self) -> None:
        """The copy for predictions is made again when it is needed."""
        self._lowered = None

    def to_device(self, device_type: str, device_id: int) -> None:
        """Move the network; the copy for predictions is made again where it is then."""
        super().to_device(device_type, device_id)
        self._lowered = None

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: without the copy for predictions."""
        return {**super().__getstate__(), "_changes": Changes(), "_lowered": None}

    def depth(self, name: str) -> int:
        """How many layers lie above a parameter: 1 in the top layer, embeddings most."""
        layers = self.network.config.num_hidden_layers
        part, _, rest = name.partition(".")
        if part == "layers":
            return layers - int(rest.partition(".")[0])
        return layers + 1 if part == "embeddings" else 0

    def _freeze(self) -> None:
        """Switch off the gradients of what is not trained: it costs no backward pass either."""
        frozen, layers = self.settings.frozen_layers, self.network.config.num_hidden_layers
        if frozen is None:
            return
        if frozen > layers:
            raise ValueError(f"frozen_layers is {frozen}, the network has only {layers} layers")
        for module in (self.network.embeddings, *self.network.layers[:frozen]):
            module.requires_grad_(False)

    def lay_out(self, docs: Sequence[Doc]) -> list[DocLayout | None]:
        """What the network reads of each Doc; None of one without tokens.

        Raises:
            ValueError: if the segment that does not slide leaves too little room for the other.
        """
        positions = self.network.config.max_position_embeddings
        return lay_out(docs, self.wordpiece, self.settings.layout(positions=positions))

    @contextlib.contextmanager
    def intervening(self, intervention: Intervention) -> Iterator[None]:
        """Let predictions be made under an intervention, in the place of any other."""
        before, self._intervention = self._intervention, intervention
        try:
            yield
        finally:
            self._intervention = before

    @property
    def intervention(self) -> Intervention:
        """What is changed in predictions; nothing, as a rule."""
        return self._intervention or Intervention()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision to train in; weights and outputs are fp32 in any."""
        device = self.device
        if self.settings.mixed_precision and has_bf16(device):
            # Each weight is used once, and inside an autocast of the caller's torch would keep what
            # it has cast beyond the optimizer's step.
            return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
        return contextlib.nullcontext()

    def budget(self, *, training: bool) -> Budget:
        """What the network takes at once."""
        given = self.settings.max_batch_pieces
        if training:
            return training_budget(self.network.config, self.device, given)
        return Budget(pieces=pieces_at_once(self.device, given))


def build_network(config: Config) -> BertModel:
    """The network that an `EncoderShim`'s configuration describes."""
    return BertModel(BertConfig.from_dict(config["bert"]), pooler=config["pooler"])


def build_encoder(
    name: str | None = None,
    config: dict[str, Any] | None = None,
    vocab: str | None = None,
    pretrained: bool = True,
    window: int | None = None,
    stride: int | None = None,
    slide: Slide = "last",
    max_batch_pieces: int | None = None,
    frozen_layers: int | None = None,
    mixed_precision: bool = False,
    precision: PredictionPrecision = "fp32",
) -> EncoderModel:
    """The architecture `spacy_bert.Encoder.v1`: BERT over whole Docs of any length.

    `name` and `vocab` are read when the pipeline is initialized or first used, never by
    `spacy.load`: a saved pipeline holds its vocabulary and weights.

    Args:
        name: a checkpoint directory or a Hugging Face Hub id, such as "bert-base-uncased".
        config: instead of `name`, fields of `BertConfig` for fresh weights, for example
            `{"preset": "tiny"}`; needs `vocab`.
        vocab: a vocab.txt, a tokenizer.json or a directory, if not the one beside the weights.
        pretrained: False draws fresh weights in the shape of `name`.
        window: pieces read together at most, [CLS] and [SEP] included; default: as many as the
            network has positions.
        stride: pieces between the starts of two windows of a long Doc, at most `window` - 2;
            default: 3/4 of `window`.
        slide: which of two paired segments is cut into windows if both do not fit, "first" or
            "last".
        max_batch_pieces: the network never takes more pieces at once (but for a single window);
            in training, larger batches are computed twice to bound memory. Default: 2,048 on a CPU,
            where more is not faster (in training more, by the network's size), and 16,384 on a GPU.
        frozen_layers: train neither the embeddings nor this many layers above them; default: train
            everything. (To keep the whole encoder as it is, freeze the component.)
        mixed_precision: train in bf16, with fp32 weights, on CUDA and on a CPU that has
            instructions for it (AVX512-BF16, AMX); ignored on other ones.
        precision: of predictions: "fp32", "bf16", "int8" (on a CPU), or "auto" for what suits
            the device: bf16 on CUDA and on a CPU with instructions for it, else int8 on a CPU that
            has VNNI, else fp32. Training and saved weights are fp32 in any.

    Raises:
        ValueError: if an option is out of range.
    """
    source = EncoderSource(name=name, config=config, vocab=vocab, pretrained=pretrained)
    settings = EncoderSettings(
        window=window,
        stride=stride,
        slide=slide,
        max_batch_pieces=max_batch_pieces,
        frozen_layers=frozen_layers,
        mixed_precision=mixed_precision,
        precision=precision,
    )
    return Model(
        "bert_encoder",
        forward,
        init=init,
        dims={"nO": source.width()},
        shims=[EncoderShim(source, settings)],
        attrs={
            "dropout_rate": 0.1,
            # Functions are not saved with the attrs: nlp.replace_listeners looks for these.
            "replace_listener": split,
            "replace_listener_cfg": private_config,
        },
    )


def init(model: EncoderModel, X: object = None, Y: object = None) -> None:
    """Load the network, unless weights are there already (from `init_tok2vec`, say)."""
    if model.has_dim("nO") is None:
        model.set_dim("nO", encoder_shim(model).network.config.hidden_size)
    else:
        encoder_shim(model).network  # noqa: B018 - a wrong source should be told now


def encoder_shim(model: EncoderModel) -> EncoderShim:
    """The shim of an encoder model."""
    shim = model.shims[0]
    assert isinstance(shim, EncoderShim)
    return shim


def forward(
    model: EncoderModel, docs: Sequence[Doc], is_train: bool
) -> tuple[FullTransformerBatch, Backprop]:
    """Encode Docs; the backward pass takes the result of `unsplit_by_doc`."""
    shim = encoder_shim(model)
    layouts = shim.lay_out(docs)
    if not is_train:
        layouts = shim.intervention.read(layouts)
    filled = [layout for layout in layouts if layout is not None]
    if not filled:
        empty = PackedTransformerBatch.build(docs, layouts, None, shim.wordpiece)
        return empty, lambda gradient: list(docs)
    budget = shim.budget(training=is_train)
    chunks = Chunks.build(
        filled, max_pieces=budget.pieces, max_scores=budget.scores, device=shim.device
    )
    if is_train:
        hidden, backprop_hidden = encode_for_update(
            shim, chunks, docs=len(filled), dropout=model.attrs["dropout_rate"]
        )
    else:
        hidden, backprop_hidden = encode(shim, chunks), None
    batch = PackedTransformerBatch.build(docs, layouts, hidden, shim.wordpiece)

    def backprop(gradient: FullTransformerBatch) -> list[Doc]:
        if backprop_hidden is None:
            raise RuntimeError(
                "The encoder ran without training: there is nothing to backpropagate"
            )
        backprop_hidden(gradient.model_output.last_hidden_state)
        return list(docs)

    return batch, backprop


def encode(shim: EncoderShim, chunks: Chunks) -> Tensor:
    """Last hidden states of all pieces, (total, width), without gradients."""
    run = shim.intervention.run
    with shim.predicting() as network:
        passes = zip(chunks.batches, chunks.windows, strict=True)
        return chunks.restore(run(network, batch, windows) for batch, windows in passes)


def encode_for_update(
    shim: EncoderShim, chunks: Chunks, *, docs: int, dropout: float
) -> tuple[Tensor, Callable[[Tensor], None]]:
    """Last hidden states, (total, width), and the callback that takes their gradient.

    One chunk keeps its graph. Of several, none does: each is computed again in the backward pass,
    with the random state it had, so that one graph is alive at a time however large the batch.
    """
    device = shim.device
    if device.type == "cpu":
        _HEAP.tidy()
    several = len(chunks.batches) > 1
    outputs, states = [], []

    def run(batch: PackedBatch) -> Tensor:
        with shim.autocast():
            hidden: Tensor = shim.network(batch).last_hidden_state
        return hidden.float()

    with shim.training(), torch.set_grad_enabled(not several):
        shim.network.set_dropout(dropout)
        for batch in chunks.batches:
            states.append(_random_state(device))
            outputs.append(run(batch))

    def backprop(gradient: Tensor) -> None:
        share = shim.share(docs)
        gradients = chunks.arrange(share * gradient.to(device))
        if not several:
            shim.backward(outputs[0], gradients[0])
            return
        rng = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with shim.training(again=True), rng:
            shim.network.set_dropout(dropout)
            for batch, state, chunk in zip(chunks.batches, states, gradients, strict=True):
                _set_random_state(device, state)
                shim.backward(run(batch), chunk)

    return chunks.restore(output.detach() for output in outputs), backprop


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
