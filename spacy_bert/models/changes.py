"""Noticing that a network's weights have changed."""

from __future__ import annotations

import weakref
from typing import TypeAlias

from torch import nn

Place: TypeAlias = tuple[weakref.ref[nn.Module], str, weakref.ref[nn.Parameter]]


class Changes:
    """Remembers the weights of the network that was last seen, by what torch counts of them.

    The parameters are looked up once: to go through all modules takes as long as a layer does for a
    short text.
    """

    def __init__(self) -> None:
        self._network: weakref.ref[nn.Module] | None = None
        self._places: list[Place] = []
        self._state: tuple[int, int] | None = None

    def seen(self, network: nn.Module) -> bool:
        """Whether this is another network than the last time, or its weights have changed."""
        is_known = self._network is not None and self._network() is network
        if is_known and self._count() == self._state:
            return False
        self._network = weakref.ref(network)
        self._places = [
            (weakref.ref(module), name, weakref.ref(parameter))
            for module in network.modules()
            for name, parameter in module._parameters.items()
            if parameter is not None
        ]
        self._state = self._count()
        return True

    def _count(self) -> tuple[int, int] | None:
        """How often they were changed in place, and where they lie; None if one was replaced."""
        changes = addresses = 0
        for owner, name, reference in self._places:
            module, parameter = owner(), reference()
            if module is None or parameter is None or module._parameters.get(name) is not parameter:
                return None
            changes += parameter._version
            addresses += parameter.data_ptr()
        return changes, addresses
