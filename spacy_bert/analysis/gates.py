"""Gates: how much each attention head matters to a task (Michel et al. 2019)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from spacy.language import Language
from spacy.training import Example
from spacy.util import minibatch
from torch import Tensor

from spacy_bert.analysis.backward import loss_gradients
from spacy_bert.analysis.decisions import BATCH, annotated
from spacy_bert.analysis.inside import find_shim, refuse_features
from spacy_bert.analysis.task_head import TaskHead
from spacy_bert.bert import BertModel, PackedBatch
from spacy_bert.models.batch import Chunks
from spacy_bert.models.encoder import EncoderShim
from spacy_bert.models.intervention import Intervention
from spacy_bert.models.layout import DocLayout

_TINY = 1e-20  # added to a layer's norm: one whose heads are all closed or pruned stays at 0


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadImportance:
    """How much the loss of a component depends on each head.

    Attributes:
        component: Its name.
        raw: The mean over the examples of |dL(x) / d xi_h|, in nats, (layers, heads) float64;
            Michel et al. 2019, section 4.1. 0 for pruned heads.
        examples: How many there were.
        pruned: Which heads are not there any more, (layers, heads) bool.
    """

    component: str
    raw: np.ndarray
    examples: int
    pruned: np.ndarray

    @property
    def by_layer(self) -> np.ndarray:
        """Divided by the L2 norm of each layer, as the authors compare heads, (layers, heads)."""
        norms = np.linalg.norm(self.raw, axis=1, keepdims=True) + _TINY
        return np.asarray(self.raw / norms)

    @property
    def scaled(self) -> np.ndarray:
        """`by_layer`, moved and stretched so that it runs from 0 to 1, (layers, heads)."""
        values = self.by_layer
        low, high = values.min(), values.max()
        return np.asarray((values - low) / ((high - low) or 1.0))


def head_importance(
    nlp: Language,
    examples: Iterable[Example],
    component: str | None = None,
    *,
    gates: np.ndarray | None = None,
    progress: Callable[[int], object] = lambda more: None,
) -> HeadImportance:
    """How much a component's loss depends on each attention head.

    Each example has gates of its own, so that absolute values are taken example by example, though
    they are computed in batches; a Doc that is read in several windows has one set of gates in all
    of them. Nothing is dropped out, and no weight or gradient of a weight changes.

    Args:
        nlp: The pipeline.
        examples: Gold standard; those that say nothing to the component do not count.
        component: Its name; None for the only one.
        gates: Where the derivative is taken, (layers, heads); by default all at 1.
        progress: Called with the number of examples that were done.

    Raises:
        ValueError: If there is no such component, or nothing is annotated.
    """
    head = TaskHead.find(nlp, component)
    config = head.shim.network.config
    pruned = np.ones((config.num_hidden_layers, config.num_attention_heads), dtype=bool)
    for layer in range(config.num_hidden_layers):
        pruned[layer, config.kept_heads(layer)] = False
    if gates is not None:
        _require_shape(gates, pruned.shape)
    used, _ = annotated(head, examples)
    total = np.zeros(pruned.shape)
    for batch in minibatch(used, BATCH):
        total += np.abs(gate_gradients(head, batch, gates=gates)).sum(axis=0)
        progress(len(batch))
    return HeadImportance(
        component=head.name, raw=total / len(used), examples=len(used), pruned=pruned
    )


def gate_gradients(
    head: TaskHead, examples: Sequence[Example], *, gates: np.ndarray | None = None
) -> np.ndarray:
    """dL(x) / d xi of each example and head, with its sign, (examples, layers, heads) float64.

    Args:
        head: The component.
        examples: Gold standard; each Doc has tokens.
        gates: Where the derivative is taken, (layers, heads); by default all at 1.
    """
    docs = [example.predicted for example in examples]
    data = head.encode(docs, Intervention() if gates is None else gated(gates))
    losses = loss_gradients(head, examples, data)
    layouts = [layout for layout in head.shim.lay_out(docs) if layout is not None]
    hidden = torch.from_numpy(np.concatenate([each.hidden for each in losses]))
    of_windows = window_gradients(head.shim, layouts, hidden, gates=gates)
    owners = np.repeat(np.arange(len(docs)), [len(layout.lengths) for layout in layouts])
    found = np.zeros((len(docs), *of_windows.shape[1:]))
    np.add.at(found, owners, of_windows)
    return found


def window_gradients(
    shim: EncoderShim,
    layouts: Sequence[DocLayout],
    hidden: Tensor,
    *,
    gates: np.ndarray | None = None,
) -> np.ndarray:
    """From the gradient of the last hidden states to that of gates, one set for each window.

    Args:
        shim: The encoder.
        layouts: What it reads.
        hidden: The gradient, (total pieces, hidden size).
        gates: Where the derivative is taken, (layers, heads); by default all at 1.

    Returns:
        (windows, layers, heads) float64.
    """
    budget = shim.budget(training=True)
    chunks = Chunks.build(
        layouts, max_pieces=budget.pieces, max_scores=budget.scores, device=shim.device
    )
    shim.settle()
    dtype = shim.network.embeddings.piece.weight.dtype
    config = shim.network.config
    shape = (config.num_hidden_layers, config.num_attention_heads)
    start = torch.ones(shape) if gates is None else torch.from_numpy(np.asarray(gates))
    found = np.zeros((sum(len(layout.lengths) for layout in layouts), *shape))
    parts = chunks.arrange(hidden.to(shim.device, dtype))
    for batch, windows, gradient in zip(chunks.batches, chunks.windows, parts, strict=True):
        own = start.to(shim.device, dtype).repeat(len(windows), 1, 1).requires_grad_()
        with torch.enable_grad():
            output = shim.network(batch, gates=own).last_hidden_state
        (d_gates,) = torch.autograd.grad(
            output, own, gradient, allow_unused=True, materialize_grads=True
        )
        found[windows] = d_gates.double().cpu().numpy()
    return found


def gated(gates: np.ndarray | Tensor) -> Intervention:
    """Each head's output times its gate.

    Args:
        gates: (layers, heads), of all heads that there were before any pruning.
    """
    values = torch.as_tensor(gates)

    def run(network: BertModel, batch: PackedBatch, windows: np.ndarray) -> Tensor:
        weight = network.embeddings.piece.weight
        own = values.to(weight.device, weight.dtype)
        hidden: Tensor = network(batch, gates=own).last_hidden_state
        return hidden

    return Intervention(run=run)


@contextlib.contextmanager
def with_gates(
    nlp: Language, gates: np.ndarray | Tensor, component: str | None = None
) -> Iterator[None]:
    """Let a pipeline predict under gates: a head whose gate is 0 says nothing.

    Args:
        nlp: The pipeline.
        gates: (layers, heads).
        component: Of the encoder that is meant, or one that reads it; None for the only encoder.

    Raises:
        ValueError: If there is no such encoder, it does not reach the component, or the gates have
            another shape.

    Example:
        >>> with with_gates(nlp, gates):  # doctest: +SKIP
        ...     doc = nlp("Time flies like an arrow.")
    """
    shim = find_shim(nlp, component)
    if component is not None:
        refuse_features(nlp, component)
    config = shim.network.config
    _require_shape(gates, (config.num_hidden_layers, config.num_attention_heads))
    with shim.intervening(gated(gates)):
        yield


def _require_shape(gates: np.ndarray | Tensor, shape: tuple[int, ...]) -> None:
    if tuple(gates.shape) != shape:
        raise ValueError(f"gates have shape {tuple(gates.shape)}; (layers, heads) is {shape}")
