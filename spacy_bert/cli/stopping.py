"""Ctrl-C and SIGTERM in a command: one line and the exit code that shells expect, no traceback."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer


class Stopped(BaseException):
    """Raised by a signal.

    After a KeyboardInterrupt Python may end as if it had never been caught.
    """


@contextmanager
def stoppable(advice: str) -> Iterator[None]:
    """Break off what the block does, at once, on Ctrl-C or SIGTERM.

    The block sees `Stopped`. Outside the main thread, where Python allows no handlers, nothing is
    changed.

    Args:
        advice: What the user is told beside "stopped".

    Raises:
        typer.Exit: With code 130 (Ctrl-C) or 143 (SIGTERM).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = signal.SIGINT

    def stop(number: int, _: FrameType | None) -> NoReturn:
        nonlocal received
        received = signal.Signals(number)
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Stopped:
        typer.echo(f"stopped; {advice}", err=True)
        raise typer.Exit(128 + received) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
