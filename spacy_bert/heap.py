"""Memory that was freed, but that the C library keeps.

Batches of ever other sizes leave holes in glibc's heap that the next ones seldom fit: a training on
a CPU grows to several times what it needs. What is free is given back before it gets much.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

MB = 1 << 20
STATM = Path("/proc/self/statm")


class Heap:
    """Keeps the resident memory of a process near what one step of its work needs.

    Only where there is glibc on Linux; elsewhere it does nothing.

    Args:
        resident: Gives the resident memory, in bytes; None where it cannot be told.
        trim: Gives free memory back to the system; None where there is no such thing.
    """

    LEAST = 256 * MB  # growth that is let be
    SHARE = 0.25  # of what one step needs, if that is more

    def __init__(
        self, resident: Callable[[], int] | None = None, trim: Callable[[], object] | None = None
    ) -> None:
        self._resident = _find_resident() if resident is None else resident
        self._trim = _find_trim() if trim is None else trim
        self._before = 0  # since the last trim; 0: not known yet

    def tidy(self) -> None:
        """Give back what is free, if much has gathered. To be called between two steps of work.

        To give back means that the next step has to ask for it again, which takes time: it is
        not done at every step.
        """
        if self._resident is None or self._trim is None:
            return
        now = self._resident()
        if not self._before:
            self._before = now
        elif now > self._before + max(self.LEAST, int(self.SHARE * self._before)):
            self._trim()
            self._before = 0


def _find_resident() -> Callable[[], int] | None:
    if not STATM.is_file():
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    return lambda: int(STATM.read_bytes().split()[1]) * page


def _find_trim() -> Callable[[], object] | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # Windows; macOS, musl
        return None
    return lambda: trim(ctypes.c_size_t(0))
