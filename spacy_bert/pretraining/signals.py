"""Stopping between two steps: Ctrl-C, and SIGTERM as cluster schedulers send it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether the run was asked to stop.

    Attributes:
        signal: The first signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    def leave(self) -> None:
        """End the process as the signal would have.

        Raises:
            KeyboardInterrupt: For Ctrl-C.
            SystemExit: For SIGTERM, with code 143.
        """
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Note the first SIGINT or SIGTERM instead of dying of it; the second one acts at once.

    Outside the main thread, where Python allows no handlers, nothing is noted.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handled = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in handled}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: FrameType | None) -> None:
        stop.signal = signal.Signals(number)
        restore()

    for number in handled:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
