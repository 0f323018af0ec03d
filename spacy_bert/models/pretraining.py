"""The objective of `spacy pretrain`: masked language model and next sentence prediction on Docs.

`spacy pretrain` hands over batches of Docs, and saves the encoder alone. A batch becomes a corpus
in memory, of which the engine of `spacy_bert.pretraining` makes what it makes of shards: pairs of
segments, with masks, and their loss. That loss is what the model "predicts".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model
from torch import Tensor, nn

from spacy_bert.bert import BertForPreTraining, BertModel
from spacy_bert.models.doc_corpus import corpus_in_memory
from spacy_bert.models.encoder import EncoderShim
from spacy_bert.models.pretraining_heads import Heads, add_pooler, build_heads, start_heads
from spacy_bert.models.shim import TorchShim
from spacy_bert.pretraining.batches import BatchMaker, BatchSettings, PreTrainingBatch
from spacy_bert.pretraining.masking import Masking, Unit
from spacy_bert.pretraining.objective import Losses, pretraining_losses

DocObjective = Literal["mlm+nsp", "mlm"]
PretrainingModel: TypeAlias = Model[list[Doc], Losses]


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """What is made of Docs.

    Attributes:
        objective: "mlm+nsp", or "mlm" without next sentences.
        shape: of the sequences. `batch_pieces` is what the network takes at once.
        masking: of the pieces.
        seed: of pairs, masks and fresh heads.
    """

    objective: DocObjective = "mlm+nsp"
    shape: BatchSettings = field(default_factory=BatchSettings)
    masking: Masking = field(default_factory=Masking)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what the parts have not refused.

        Raises:
            ValueError: names the setting.
        """
        if self.objective not in get_args(DocObjective):
            known = " or ".join(get_args(DocObjective))
            raise ValueError(f"objective must be {known}, got {self.objective!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")


def build_pretraining(
    objective: DocObjective = "mlm+nsp",
    sequence_length: int = 128,
    short_share: float = 0.1,
    share: float = 0.15,
    mask: float = 0.8,
    random: float = 0.1,
    unit: Unit = "piece",
    seed: int = 0,
) -> Callable[[Vocab, Model[list[Doc], Any]], PretrainingModel]:
    """The architecture `spacy_bert.PretrainBert.v1`, for `[pretraining.objective]`.

    The sentences of a Doc are `doc.sents` where they are set, otherwise the lines of its text. Next
    sentences that do not follow are exchanged with other Docs of the same batch: in half of the
    pairs, nearly, if there are a dozen or more. A batch in which only one Doc has text trains the
    masked language model alone.

    Args:
        objective: "mlm+nsp" as in the paper, or "mlm".
        sequence_length: most pieces of a sequence, [CLS] and [SEP] included.
        short_share: share of the sequences that are deliberately short.
        share: share of the pieces that are predicted.
        mask: share of these that become [MASK].
        random: share of these that become a random piece; the rest stay as they are.
        unit: what is masked together: a "piece", a "word" or a "span" of words.
        seed: of pairs, masks (new ones for each batch) and fresh heads. A resumed run starts again
            with the first batch's: give it another seed.

    Returns:
        The function that `spacy pretrain` calls with a vocabulary and the model to train.

    Raises:
        ValueError: names the setting that is out of range.
    """
    try:
        settings = ObjectiveSettings(
            objective=objective,
            shape=BatchSettings(
                sequence_length=sequence_length,
                batch_pieces=2 * sequence_length,
                short_share=short_share,
            ),
            masking=Masking(share=share, mask=mask, random=random, unit=unit),
            seed=seed,
        )
    except ValueError as error:
        raise ValueError(f"[pretraining.objective] {error}") from None

    def create(vocab: Vocab, tok2vec: Model[list[Doc], Any]) -> PretrainingModel:
        return build_model(tok2vec, settings)

    return create


def build_model(tok2vec: Model[list[Doc], Any], settings: ObjectiveSettings) -> PretrainingModel:
    """The encoder inside a model, with the heads of pre-training: Docs -> their mean losses.

    Args:
        tok2vec: has one `spacy_bert.Encoder.v1` in it, and is initialized. It is the reference
            "tok2vec", all that `spacy pretrain` saves.
        settings: what is made of the Docs.

    Raises:
        ValueError: if there is no such encoder, or it cannot read such sequences.
    """
    found = [s for node in tok2vec.walk() for s in node.shims if isinstance(s, EncoderShim)]
    if len(found) != 1:
        raise ValueError(
            "[pretraining] component and layer must name a model with one spacy_bert.Encoder.v1 in "
            f'it, such as component = "bert" and layer = ""; {tok2vec.name!r} has {len(found)}'
        )
    config = found[0].network.config
    if settings.shape.sequence_length > config.max_position_embeddings:
        raise ValueError(
            f"[pretraining.objective] sequence_length is {settings.shape.sequence_length}, the "
            f"network has positions for {config.max_position_embeddings}"
        )
    if config.type_vocab_size < 2:
        raise ValueError(
            f"[pretraining.objective] makes pairs of segments, the network knows only "
            f"{config.type_vocab_size} (type_vocab_size)"
        )
    pretraining = Pretraining(found[0], settings)
    model: PretrainingModel = Model(
        "bert_pretraining",
        pretraining,
        layers=[tok2vec],
        shims=[pretraining.heads],
        refs={"tok2vec": tok2vec},
        attrs={"dropout_rate": 0.1, "loss": total_loss},
    )
    return model


def total_loss(ops: Any, docs: Iterable[Doc], losses: Losses) -> tuple[float, float]:
    """The loss of a batch and the gradient by it, as `spacy pretrain` asks for them."""
    return float(losses.total), 1.0


class Pretraining:
    """The forward pass of the model.

    Attributes:
        encoder: the encoder. The pooler is a part of it, so that it is saved.
        heads: the heads for masked pieces and next sentences; the parameters of the encoder, to
            whose embeddings the decoder is tied, are not among theirs. They are made for the first
            batch: only then has the encoder the weights from which a run is resumed.
    """

    def __init__(self, encoder: EncoderShim, settings: ObjectiveSettings) -> None:
        self.encoder = encoder
        self.heads = TorchShim(build_heads)
        self._settings = settings
        self._batches = 0

    def __call__(
        self, model: PretrainingModel, docs: Iterable[Doc], is_train: bool
    ) -> tuple[Losses, Callable[[float], list[Doc]]]:
        """Mean losses of the Docs, scalars; backward takes the gradient by their sum.

        The gradients are computed here, for one part of the batch after the other: one part's
        graph is alive at a time, however large the batch.
        """
        docs = list(docs)
        self._complete()
        parts = self.draw(docs)
        gradients: dict[nn.Parameter, Tensor] = {}
        with ExitStack() as stack:
            shims = (self.encoder, self.heads)
            bert, heads = (
                stack.enter_context(shim.training() if is_train else shim.predicting())
                for shim in shims
            )
            assert isinstance(bert, BertModel)
            assert isinstance(heads, Heads)
            bert.set_dropout(model.attrs["dropout_rate"])
            network = BertForPreTraining(bert.config, bert=bert, mlm=heads.mlm, nsp=heads.nsp)
            wanted = gradients if is_train else None
            losses = mean_losses(network, parts, wanted, encoder=self.encoder)

        def backprop(gradient: float) -> list[Doc]:
            for parameter, value in gradients.items():
                earlier = 0.0 if parameter.grad is None else parameter.grad
                parameter.grad = earlier + gradient * value
            return docs

        return losses, backprop

    def draw(self, docs: Sequence[Doc]) -> list[PreTrainingBatch]:
        """Pairs with masks, in parts that the network can take at once; fresh at each call."""
        rng = np.random.default_rng(
            np.random.SeedSequence(self._settings.seed, spawn_key=(self._batches,))
        )
        self._batches += 1
        shape, wordpiece = self._settings.shape, self.encoder.wordpiece
        # A sentence for half of a sequence at most: of a longer one the rest would never be read.
        split = corpus_in_memory(docs, wordpiece, longest=shape.max_pieces // 2)
        if not split.document_count:
            return []
        budget = self.encoder.settings.pieces_at_once(self.encoder.device)
        maker = BatchMaker(
            split,
            wordpiece,
            settings=replace(shape, batch_pieces=max(budget, shape.batch_pieces)),
            masking=self._settings.masking,
            seed=self._settings.seed,
            # With nobody to exchange with, "it follows" would be learned by heart.
            objective=self._settings.objective if split.document_count > 1 else "mlm",
        )
        pairs = maker.pairs(np.arange(split.document_count), rng)
        return list(maker.whole_pairs(pairs, rng))

    def _complete(self) -> None:
        """Add to the encoder what is missing for the objective."""
        encoder, seed = self.encoder, self._settings.seed
        if not self.heads.is_loaded:
            self.heads.place(start_heads(encoder, seed=seed), encoder.network.config.to_dict())
        if self._settings.objective == "mlm+nsp" and encoder.network.pooler is None:
            add_pooler(encoder, seed=seed)


def mean_losses(
    network: BertForPreTraining,
    parts: list[PreTrainingBatch],
    gradients: dict[nn.Parameter, Tensor] | None,
    *,
    encoder: EncoderShim,
) -> Losses:
    """The mean losses of a batch that comes in parts, detached.

    Args:
        network: the encoder with its heads.
        parts: of the batch; of none the loss is 0.
        gradients: where those of the sum of the losses are put; None if they are not wanted.
        encoder: says in which precision, and where.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    predictions = sum(len(part.targets) for part in parts)
    sequences = sum(len(part.packed.lengths) for part in parts)
    mlm, nsp = [torch.zeros((), device=encoder.device)], []
    for part in parts:
        with encoder.autocast():
            losses = pretraining_losses(network, part.to(encoder.device))
        share_of_mlm = losses.mlm * (len(part.targets) / predictions)
        mlm.append(share_of_mlm.detach())
        share_of_nsp = None
        if losses.nsp is not None:
            share_of_nsp = losses.nsp * (len(part.packed.lengths) / sequences)
            nsp.append(share_of_nsp.detach())
        if gradients is None:
            continue
        total = Losses(share_of_mlm, share_of_nsp).total
        found = torch.autograd.grad(total, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                # Laid out as the parameter is: fused optimizers count on it.
                earlier = gradients.get(parameter)
                gradients[parameter] = (
                    gradient.contiguous() if earlier is None else earlier + gradient
                )
    return Losses(torch.stack(mlm).sum(), torch.stack(nsp).sum() if nsp else None)
