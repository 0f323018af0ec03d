"""Noticing that a network's weights have changed."""

from __future__ import annotations

import weakref

from torch import nn


class Changes:
    """Remembers the weights of the network that was last seen, by what torch counts of them.

    The parameters are looked up once: to go through all modules takes as long as a layer does for a
    short text.
    """

    def __init__(self) -> None:
        self._network: weakref.ref[nn.Module] | None = None
        self._parameters: list[weakref.ref[nn.Parameter]] = []
        self._versions = 0

    def seen(self, network: nn.Module) -> bool:
        """Whether this is another network than the last time, or its weights have changed."""
        is_known = self._network is not None and self._network() is network
        if is_known and self._count() == self._versions:
            return False
        self._network = weakref.ref(network)
        self._parameters = [weakref.ref(parameter) for parameter in network.parameters()]
        self._versions = self._count()
        return True

    def _count(self) -> int:
        """How often they were changed in place, as by load_state_dict; -1 if one was replaced."""
        total = 0
        for reference in self._parameters:
            parameter = reference()
            if parameter is None:
                return -1
            total += parameter._version
        return total
