"""Commands in processes of their own, some at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn


class Processes:
    """Runs commands of `python -m`; when the block is left by an error, none goes on running.

    Args:
        at_once: How many run at a time. Of several, each writes to its log file and has its share
            of the cores.

    Raises:
        ValueError: If `at_once` is less than 1.
    """

    def __init__(self, at_once: int) -> None:
        if at_once < 1:
            raise ValueError(f"jobs must be at least 1, got {at_once}")
        self.at_once = at_once
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._is_stopped = False
        self._handler: Any = None

    def __enter__(self) -> Processes:
        """Take SIGTERM as a reason to end the commands, too."""
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGTERM, _leave)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End what still runs, and wait for it: pre-training writes a checkpoint first."""
        self._stop()
        if kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit)):
            sys.stderr.write("stopped; the same command goes on from what is done\n")
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)

    def run(self, arguments: Sequence[str], log: Path, *, shown: bool = True) -> None:
        """Run `python -m arguments` and wait for it.

        Args:
            arguments: Module and arguments.
            log: Takes its output, if several commands run at a time or it is not to be shown.
            shown: Whether its output is for people, where it stands alone.

        Raises:
            ChildProcessError: If it fails, or another has failed before; names the log.
        """
        environment = dict(os.environ)
        if self.at_once == 1 and shown:
            self._wait(arguments, environment, None)
            return
        if self.at_once > 1:
            threads = max(1, (os.cpu_count() or 1) // self.at_once)
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            self._wait(arguments, environment, stream)

    def map(self, works: Iterable[Callable[[], None]]) -> None:
        """Call what calls `run`, so that as many commands run at a time as may.

        Raises:
            ChildProcessError: The first error; what has not begun is left.
        """
        pool = ThreadPoolExecutor(self.at_once)
        try:
            for done in as_completed([pool.submit(self._begin, work) for work in works]):
                done.result()
        except BaseException:
            self._stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _begin(self, work: Callable[[], None]) -> None:
        if not self._is_stopped:
            work()

    def _wait(self, arguments: Sequence[str], environment: dict[str, str], stream: Any) -> None:
        with self._lock:  # so that `_stop` sees whatever was begun
            if self._is_stopped:
                raise ChildProcessError(f"`python -m {' '.join(arguments)}` was not begun")
            # A session of its own: Ctrl-C comes to us alone, so that no command is asked twice.
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=None if stream is None else subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
        code = process.wait()
        self._running.discard(process)
        if code:
            self._is_stopped = True
            where = "see above" if stream is None else f"see {stream.name}"
            raise ChildProcessError(f"`python -m {' '.join(arguments)}` failed ({code}), {where}")

    def _stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
