"""The shim: a torch module as thinc sees it.

It differs from thinc's own `PyTorchShim` where BERT needs it to: one optimizer step over all
torch parameters (global-norm clip, parameter groups), weights as safetensors with the
configuration that rebuilds the module, evaluation mode unless training, building on first use.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import srsly
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from thinc.api import Optimizer, get_torch_default_device, torch2xp, xp2torch
from thinc.shims import Shim
from torch import Tensor, nn

if TYPE_CHECKING:
    from spacy_bert.models.optimizer import AdamW

Config = dict[str, Any]

# Several threads may ask for a module that has not been built yet.
LOADING = threading.RLock()

# `nlp.pipe(n_process=2)` forks, OpenMP's threads do not survive it, and a child that waits for them
# waits for ever. One thread each is also the fastest when there are several processes. Nor does a
# thread survive that holds the lock: it is waited for.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
    os.register_at_fork(
        before=LOADING.acquire, after_in_child=LOADING.release, after_in_parent=LOADING.release
    )


class LateGradient(Protocol):
    """A gradient that others still add to, as the listeners of a shared encoder do."""

    @property
    def has_begun(self) -> bool:
        """Whether anybody has added to it."""

    def backpropagate(self) -> None:
        """Run the backward pass with what has been added."""

    def forget(self) -> None:
        """Wait for nobody any longer."""


class TorchShim(Shim):
    """Holds a torch module, which is built when first asked for.

    Args:
        build: makes the module from a configuration, which must be plain data.
        config: that configuration; None until it is known.
    """

    def __init__(self, build: Callable[[Config], nn.Module], config: Config | None = None) -> None:
        super().__init__(None, config)
        self._build = build
        self._handed_to: AdamW | None = None
        self._late: LateGradient | None = None
        self._asking: Optimizer | None = None
        self._first_size = 0
        self._shares = 0.0

    @property
    def module(self) -> nn.Module:
        """The module, built if need be.

        Raises:
            ValueError: if there is nothing to build it from.
        """
        if self._model is None:
            with LOADING, torch.inference_mode(False):
                if self._model is None:  # another thread may have been first
                    self.load()
        module: nn.Module = self._model
        return module

    @property
    def is_loaded(self) -> bool:
        """Whether the module stands."""
        return self._model is not None

    def load(self) -> None:
        """Build the module from the configuration."""
        if not self.cfg:
            raise ValueError("The component is not initialized: call nlp.initialize() first")
        self.begin(self.cfg)

    def begin(self, config: Config) -> None:
        """Build the module anew, with fresh weights."""
        # What is made in inference mode, in which a program may run as a whole, stays of that kind.
        with torch.inference_mode(False):
            self.place(self._build(config), config)

    def place(self, module: nn.Module, config: Config) -> None:
        """Take a module, in fp32, and the configuration that describes it."""
        self.cfg = config
        # In fp32, whatever torch has been told to make tensors of.
        self._model = module.float().to(get_torch_default_device()).eval()

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.module.parameters()).device

    @contextlib.contextmanager
    def predicting(self) -> Iterator[nn.Module]:
        """The module in evaluation mode, without gradients."""
        # An annotating component predicts before the listeners answer: the update is under way.
        if self._late is None or self._late.has_begun:
            self.settle()
        with torch.inference_mode(), self._without_autocast():
            if self.module.training:  # to go through all modules takes longer than a head does
                self.module.eval()
            yield self.module

    @contextlib.contextmanager
    def training(self, *, again: bool = False) -> Iterator[nn.Module]:
        """The module in training mode; evaluation mode again afterwards.

        Args:
            again: for a second pass in the same update, which must not end the update.
        """
        if not again:
            self.settle()
        try:
            with self._without_autocast():
                yield self.module.train()
        finally:
            self.module.eval()

    def backward(self, outputs: Tensor, gradient: Tensor) -> None:
        """Run the backward pass of what the module gave; there is none if nothing is trained."""
        if outputs.requires_grad:
            with self._without_autocast():
                outputs.backward(gradient)

    def _without_autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Switches off an autocast around the pipeline: the precision is the config's matter."""
        kind = self.device.type
        if torch.is_autocast_enabled(kind):
            return torch.autocast(kind, enabled=False)
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def unlearning(self) -> Iterator[None]:
        """Backward passes under this leave no trace: gradients and shares are then as before."""
        self.settle()
        parameters = list(self.module.parameters())
        gradients = [parameter.grad for parameter in parameters]
        shares = self._first_size, self._shares
        self._shares = 0.0
        for parameter in parameters:
            parameter.grad = None
        try:
            yield
        finally:
            self._first_size, self._shares = shares
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient

    def expect(self, gradient: LateGradient | None) -> None:
        """Note a gradient that others will add to, and that must be run by the next step.

        It may stay unfinished: a frozen component listens, but does not answer. None: it is done.
        """
        self._late = gradient

    def finish_late_update(self) -> None:
        """Take the step that an optimizer asked for before the late gradient was there."""
        if self._asking is not None:
            optimizer, self._asking = self._asking, None
            self.finish_update(optimizer)

    @property
    def is_awaiting(self) -> bool:
        """Whether others may still add to a gradient."""
        return self._late is not None

    def finish_late_gradient(self) -> None:
        """Run the backward pass that nobody has run, if anything was added to its gradient."""
        if self._late is not None and self._late.has_begun:
            late, self._late = self._late, None
            late.backpropagate()

    def share(self, size: int) -> float:
        """The weight of a sub-batch of `size` rows beside the first one since the last step.

        Whoever runs a backward pass multiplies its gradient by this; `average_gradients` divides
        by the sum. So several sub-batches (`accumulate_gradient`) give the gradient of the mean
        loss, whatever their sizes, and a single one is left as it is.
        """
        if not self._shares:
            self._first_size = size
        share = size / self._first_size
        self._shares += share
        return share

    def average_gradients(self) -> list[nn.Parameter]:
        """The parameters that have a gradient, after it was averaged over the sub-batches."""
        self.finish_late_gradient()
        parameters = [p for p in self.module.parameters() if p.grad is not None]
        if self._shares > 1.0:
            for parameter in parameters:
                cast(Tensor, parameter.grad).div_(self._shares)
        self._shares = 0.0
        return parameters

    def depth(self, name: str) -> int:
        """How many layers lie above a parameter, for layer-wise decay of the learning rate."""
        return 0

    def forget_copies(self) -> None:
        """The weights have changed without torch counting it: what was made of them is old."""

    def finish_update(self, optimizer: Optimizer) -> None:
        """Hand the gradients in to our AdamW, or step with any thinc optimizer."""
        from spacy_bert.models.optimizer import AdamW

        if isinstance(optimizer, AdamW):
            optimizer.hand_in(self)
            self._handed_to = optimizer
            return
        if self._late is not None and not self._late.has_begun:
            # A bare `nlp.update` asks before the listeners have answered. What a step changed now,
            # their backward pass would still need.
            self._asking = optimizer
            return
        with_gradient = set(self.average_gradients())
        for name, parameter in self.module.named_parameters():
            if parameter not in with_gradient:
                continue
            arrays = torch2xp(parameter.data), torch2xp(cast(Tensor, parameter.grad))
            weights, _ = optimizer((self.id, name), *cast(tuple[Any, Any], arrays))
            # Under the stock `transformer` a backward pass may still come, which torch would refuse
            # after a change that it counts.
            parameter.data.copy_(xp2torch(weights, device=parameter.device))
            parameter.grad = None
        self.forget_copies()

    @contextlib.contextmanager
    def use_params(self, params: dict[tuple[int, str], Any]) -> Iterator[None]:
        """Put in the averages that a thinc optimizer has kept, if any, and take them out again."""
        own = dict(self.module.named_parameters()) if self.is_loaded and params else {}
        averaged = {name: params[self.id, name] for name in own if (self.id, name) in params}
        kept = {name: own[name].detach().clone() for name in averaged}
        with torch.no_grad():
            for name, average in averaged.items():
                own[name].copy_(xp2torch(average, device=own[name].device))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in kept.items():
                    own[name].copy_(value)

    def to_device(self, device_type: str, device_id: int) -> None:
        """Move the module, if it stands."""
        if self._model is not None:
            self._model.to("cpu" if device_type == "cpu" else f"cuda:{device_id}")

    def to_bytes(self) -> bytes:
        """Configuration and weights (safetensors, fp32)."""
        self.settle()
        state = {k: v.detach().cpu().contiguous() for k, v in self.module.state_dict().items()}
        message: bytes = srsly.msgpack_dumps(
            {"config": self.cfg, "weights": save_safetensors(state)}
        )
        return message

    def from_bytes(self, data: bytes) -> TorchShim:
        """Rebuild the module from its configuration and fill in the weights.

        Raises:
            ValueError: if the bytes are damaged or of another kind of module.
        """
        try:
            message = srsly.msgpack_loads(data)
            config, state = message["config"], load_safetensors(message["weights"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"The saved weights are damaged or not spacy_bert's ({error})"
            ) from None
        # Shapes come from the bytes, values too: initial weights would be drawn for nothing.
        with torch.inference_mode(False):
            with torch.device("meta"):
                module = self._build(config)
            module.to_empty(device="cpu").float().load_state_dict(state)
            self.place(module, config)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchShim:
        """A shim of its own with its own weights, not handed in anywhere."""
        self.settle()
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(self.__dict__)
        Shim.__init__(copied, None, dict(self.cfg))
        copied._shares = 0.0
        if self._model is not None:
            copied.from_bytes(self.to_bytes())
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: the weights as `to_bytes` gives them, and no optimizer."""
        self.settle()
        weights = self.to_bytes() if self.is_loaded else None
        return {**self.__dict__, "_model": None, "_weights": weights}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the module that was pickled."""
        weights = state.pop("_weights")
        self.__dict__.update(state)
        if weights is not None:
            self.from_bytes(weights)

    def settle(self) -> None:
        """Let the optimizer take a step that nobody asked for (a bare `nlp.update` does not).

        Whoever reads weights past `predicting` and `training` calls this first.
        """
        self.finish_late_gradient()
        if self._late is not None:
            self._late.forget()
            self._late = self._asking = None
        if self._handed_to is not None and self._handed_to.settle(self):
            self._handed_to = None
