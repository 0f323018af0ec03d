"""Model stitching: can one network go on from where another one has come to?

Brown et al. 2023 (arXiv 2310.14993), section 3; Bansal et al. 2021 (arXiv 2106.07682). The first
layers of one encoder, a map that is trained, and the other's remaining layers and head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from spacy.language import Language
from spacy.training import Example
from torch import Tensor, nn

from spacy_bert.analysis.backward import loss_gradients
from spacy_bert.analysis.decisions import annotated, evaluate
from spacy_bert.analysis.inside import find_shim
from spacy_bert.analysis.task_head import TaskHead
from spacy_bert.bert import BertModel, PackedBatch
from spacy_bert.models.batch import Chunks, PackedTransformerBatch
from spacy_bert.models.encoder import EncoderShim
from spacy_bert.models.intervention import Intervention

MOMENTUM = 0.9


@dataclass(frozen=True, kw_only=True)
class StitchRecipe:
    """How a stitch is trained; the defaults are the paper's but for the batch.

    Attributes:
        steps: Updates.
        warmup: Updates in which the learning rate rises; from there on it falls to 0.
        rate: Its peak, of SGD with Nesterov's momentum.
        batch_size: Examples in an update.
        norm: Whether LayerNorm follows the affine map.
        seed: Of the order of the examples.
    """

    steps: int = 2000
    warmup: int = 200
    rate: float = 1.0
    batch_size: int = 32
    norm: bool = True
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Stitching:
    """How well a stitched model does.

    Attributes:
        layer: Layers of the first encoder that it has.
        metric: The score's name.
        score: Of the stitched model.
        original: Of the second model by itself.
        losses: Mean training loss of each tenth of the steps.
    """

    layer: int
    metric: str
    score: float
    original: float
    losses: tuple[float, ...]


class Stitch(nn.Module):
    """An affine map, by default with LayerNorm behind it; the identity where the widths allow it.

    Args:
        inputs: Width of the first encoder.
        outputs: Width of the second one.
        norm: Whether LayerNorm follows.
    """

    def __init__(self, inputs: int, outputs: int, *, norm: bool = True) -> None:
        super().__init__()
        self.affine = nn.Linear(inputs, outputs)
        nn.init.eye_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)
        self.norm = nn.LayerNorm(outputs) if norm else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        """(pieces, inputs) -> (pieces, outputs)."""
        stitched: Tensor = self.norm(self.affine(hidden))
        return stitched


def stitched(front: BertModel, layer: int, stitch: nn.Module) -> Intervention:
    """Let an encoder go on from another one's layer.

    Args:
        front: The other one; it must read the same pieces.
        layer: How many of its layers come first; 0: the embeddings alone.
        stitch: Maps its vectors to the encoder's.
    """

    def run(network: BertModel, batch: PackedBatch, windows: np.ndarray) -> Tensor:
        return _run(front, network, batch, layer, stitch)

    return Intervention(run=run)


def stitch_models(
    front: Language,
    back: Language,
    train: Sequence[Example],
    test: Sequence[Example],
    layer: int,
    *,
    component: str | None = None,
    front_component: str | None = None,
    recipe: StitchRecipe | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Stitching:
    """Train a stitch after a layer, and score the stitched model on the second one's task.

    Only the stitch is trained; both encoders and the head stay as they are.

    Args:
        front: Pipeline whose first layers are taken.
        back: Pipeline whose remaining layers and head are taken; the examples are for it.
        train: Gold standard to learn from.
        test: Gold standard to score on.
        layer: How many layers of the first come before the stitch; the second goes on with as many
            left out.
        component: The component of the second pipeline whose task it is; None for the only one.
        front_component: That of the first pipeline whose encoder is meant.
        recipe: How the stitch is trained.
        progress: Called with 1 for each update.

    Raises:
        ValueError: If the encoders read different pieces or have no such layer, or nothing is
            annotated.
    """
    recipe = recipe or StitchRecipe()
    head, first = TaskHead.find(back, component), find_shim(front, front_component)
    _require_like(first, head.shim, layer)
    used, _ = annotated(head, train)
    widths = (first.network.config.hidden_size, head.shim.network.config.hidden_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        stitch = Stitch(*widths, norm=recipe.norm).to(head.shim.device)
    losses = _train(stitch, first.network.eval(), layer, head, used, recipe, progress)
    own = evaluate(head, test)
    found = evaluate(head, test, intervention=stitched(first.network, layer, stitch))
    parts = [part for part in np.array_split(np.array(losses), 10) if len(part)]
    return Stitching(
        layer=layer,
        metric=found.metric,
        score=found.score,
        original=own.score,
        losses=tuple(float(part.mean()) for part in parts),
    )


def _train(
    stitch: Stitch,
    front: BertModel,
    layer: int,
    head: TaskHead,
    examples: Sequence[Example],
    recipe: StitchRecipe,
    progress: Callable[[int], object],
) -> list[float]:
    """The losses of all updates."""
    optimizer = torch.optim.SGD(
        stitch.parameters(), lr=recipe.rate, momentum=MOMENTUM, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe))
    generator = np.random.default_rng(recipe.seed)
    order: list[int] = []
    losses = []
    for _ in range(recipe.steps):
        while len(order) < min(recipe.batch_size, len(examples)):
            order += generator.permutation(len(examples)).tolist()
        chosen, order = order[: recipe.batch_size], order[recipe.batch_size :]
        losses.append(_update(stitch, front, layer, head, [examples[i] for i in chosen]))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress(1)
    return losses


def _update(
    stitch: Stitch, front: BertModel, layer: int, head: TaskHead, examples: Sequence[Example]
) -> float:
    """The mean loss of a batch, whose gradient is added to the stitch's."""
    shim = head.shim
    docs = [example.predicted for example in examples]
    layouts = shim.lay_out(docs)
    filled = [layout for layout in layouts if layout is not None]
    budget = shim.budget(training=True)
    chunks = Chunks.build(filled, max_pieces=budget.pieces, device=shim.device)
    shim.settle()
    network = shim.network.eval()
    outputs = [_run(front, network, batch, layer, stitch) for batch in chunks.batches]
    hidden = chunks.restore(output.detach() for output in outputs)
    data = PackedTransformerBatch.build(docs, layouts, hidden, shim.wordpiece).doc_data
    found = loss_gradients(head, examples, data)
    gradient = torch.from_numpy(np.concatenate([one.hidden for one in found])) / len(found)
    for output, part in zip(outputs, chunks.arrange(gradient.to(hidden.device)), strict=True):
        parameters = list(stitch.parameters())
        for parameter, own in zip(
            parameters, torch.autograd.grad(output, parameters, part.to(output.dtype)), strict=True
        ):
            parameter.grad = own if parameter.grad is None else parameter.grad + own
    return float(np.mean([one.loss for one in found]))


def _run(
    front: BertModel, network: BertModel, batch: PackedBatch, layer: int, stitch: nn.Module
) -> Tensor:
    """Last hidden states, (total, hidden size), in the order of the batch."""
    with torch.no_grad():
        plan = front.plan(batch)
        hidden = plan.restore(front.through(front.embed(batch, plan), plan, last=layer))
    plan = network.plan(batch)
    return plan.restore(network.through(plan.arrange(stitch(hidden)), plan, first=layer))


def _rate(step: int, recipe: StitchRecipe) -> float:
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    return max(recipe.steps - step, 0) / max(recipe.steps - recipe.warmup, 1)


def _require_like(front: EncoderShim, back: EncoderShim, layer: int) -> None:
    if front.wordpiece.tokens != back.wordpiece.tokens:
        raise ValueError("the two encoders have different vocabularies: they read other pieces")
    depths = [shim.network.config.num_hidden_layers for shim in (front, back)]
    if not 0 <= layer <= min(depths):
        raise ValueError(
            f"layer is {layer}, the encoders have {depths[0]} and {depths[1]} layers: take 0 (the "
            f"embeddings) to {min(depths)}"
        )
