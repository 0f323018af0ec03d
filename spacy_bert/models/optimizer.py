"""AdamW as BERT is trained with, in the form of a thinc optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from thinc.optimizers import FloatOrSeq, KeyT, Optimizer
from thinc.types import FloatsXd
from torch import nn

if TYPE_CHECKING:
    from spacy_bert.models.shim import TorchShim


class AdamW(Optimizer):
    """Decoupled weight decay (Loshchilov & Hutter 2019) with BERT's parameter groups.

    The parameters of our torch modules take one fused step together, after one clip of their
    global norm; biases and LayerNorm are not decayed (Devlin et al. 2018, appendix A.2). Shims
    hand in their modules in `finish_update`; the step is taken in `step_schedules()`, as
    `spacy train` calls it, or, if nobody calls that, when a handed-in module is used again.
    Arrays of thinc's own layers are stepped one by one, as thinc does (its clip is per array).
    """

    L2: float

    def __init__(
        self,
        learn_rate: FloatOrSeq,
        *,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        grad_clip: float,
        layer_decay: float,
    ) -> None:
        if not 0.0 < layer_decay <= 1.0:
            raise ValueError(
                f"[training.optimizer] layer_decay must be in (0, 1], got {layer_decay}"
            )
        super().__init__(
            learn_rate,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            L2=weight_decay,
            grad_clip=grad_clip,
            L2_is_weight_decay=True,
        )
        self.layer_decay = layer_decay
        self._handed_in: dict[int, TorchShim] = {}
        self._known: set[nn.Parameter] = set()
        self._torch: torch.optim.AdamW | None = None

    def __call__(
        self, key: KeyT, weights: FloatsXd, gradient: FloatsXd, *, lr_scale: float = 1.0
    ) -> tuple[FloatsXd, FloatsXd]:
        """Step one array of a thinc layer; vectors (biases, LayerNorm) are not decayed."""
        decay: float = self.L2
        self.L2 = decay if weights.ndim > 1 else 0.0
        # Averages of thinc's layers beside the last weights of ours would not fit each other.
        self.averages = None
        try:
            return super().__call__(key, weights, gradient, lr_scale=lr_scale)  # type: ignore[no-any-return]
        finally:
            self.L2 = decay
            self.averages = {}

    def hand_in(self, shim: TorchShim) -> None:
        """Note a module whose gradients are ready, or will be by the next step."""
        self._handed_in[shim.id] = shim

    def step_schedules(self) -> None:
        """Step all modules handed in, then move the schedules on."""
        self._step()
        super().step_schedules()

    def settle(self, shim: TorchShim) -> bool:
        """Take the step now if `shim` still waits for one; not in the midst of an update.

        Returns:
            Whether it waits no longer.
        """
        if shim.id in self._handed_in:
            # An annotating head predicts while listeners still have to answer the encoder.
            if any(other.is_awaiting for other in self._handed_in.values()):
                return False
            self.step_schedules()
        return True

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: the settings; a copied module has other parameters, whose moments are 0."""
        if self._handed_in:
            self.step_schedules()
        slots = (name for name in Optimizer.__slots__ if hasattr(self, name))
        settings = {name: getattr(self, name) for name in slots}
        return {**settings, **self.__dict__, "_known": set(), "_torch": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the settings, which thinc keeps in slots."""
        for name, value in state.items():
            setattr(self, name, value)

    def _step(self) -> None:
        shims = list(self._handed_in.values())
        self._handed_in.clear()
        parameters = [p for shim in shims for p in shim.average_gradients()]
        if not parameters:
            return
        optimizer = self._optimizer_for(shims)
        if self.grad_clip:
            nn.utils.clip_grad_norm_(parameters, self.grad_clip)
        for group in optimizer.param_groups:
            group["lr"] = float(self.learn_rate) * self.layer_decay ** group["depth"]
            group["betas"] = (self.b1, self.b2)
            group["eps"] = self.eps
            group["weight_decay"] = self.L2 if group["decayed"] else 0.0
        optimizer.step()
        # The fused step does not count as a change, by which copies and caches know their age.
        torch.autograd.graph.increment_version(parameters)
        for parameter in parameters:
            parameter.grad = None

    def _optimizer_for(self, shims: list[TorchShim]) -> torch.optim.AdamW:
        """Torch's optimizer, which has come to know the shims' parameters with gradients."""
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for shim in shims:
            for name, parameter in shim.module.named_parameters():
                if parameter.grad is not None and parameter not in self._known:
                    depth = shim.depth(name) if self.layer_decay < 1.0 else 0
                    groups.setdefault((depth, parameter.ndim > 1), []).append(parameter)
        for (depth, decayed), parameters in groups.items():
            group: dict[str, Any] = {"params": parameters, "depth": depth, "decayed": decayed}
            if self._torch is None:
                self._torch = torch.optim.AdamW([group], fused=True)
            else:
                self._torch.add_param_group(group)
            self._known.update(parameters)
        assert self._torch is not None
        return self._torch


def build_adamw(
    learn_rate: FloatOrSeq = 5e-5,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    grad_clip: float = 1.0,
    layer_decay: float = 1.0,
) -> Optimizer:
    """The optimizer `spacy_bert.AdamW.v1`.

    Args:
        learn_rate: a number or a schedule. The paper's range for base is 2e-5 to 5e-5; small
            networks want more (about 5e-4 for a tiny one).
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled decay; biases and LayerNorm are spared.
        grad_clip: largest global norm of the torch parameters' gradients; 0 switches it off.
        layer_decay: factor of the learning rate from one layer of the encoder to the next below
            (Clark et al. 2020, "ELECTRA", appendix B); heads learn at the full rate, the top layer
            at `layer_decay` times it, the embeddings slowest. 1 switches it off.
    """
    return AdamW(
        learn_rate,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        weight_decay=weight_decay,
        grad_clip=grad_clip,
        layer_decay=layer_decay,
    )
