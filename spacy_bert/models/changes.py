"""Noticing that a network's weights have changed."""

from __future__ import annotations

import weakref

from torch import nn


class Changes:
    """Remembers the weights of the network that was last seen, by what torch counts of them."""

    def __init__(self) -> None:
        self._network: weakref.ref[nn.Module] | None = None
        self._versions = 0

    def seen(self, network: nn.Module) -> bool:
        """Whether this is another network than the last time, or its weights have changed."""
        # Torch counts the changes of a tensor in place, such as those of load_state_dict.
        versions = sum(parameter._version for parameter in network.parameters())
        if self._network is not None and self._network() is network and self._versions == versions:
            return False
        self._network, self._versions = weakref.ref(network), versions
        return True
