"""A headless Chromium, driven by its DevTools protocol over a pipe."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
WAIT = 60.0  # seconds; a busy machine starts it in many
_FLAGS = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # as root it does not start otherwise
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # there is no network
]


class Browser:
    """One tab, which keeps what it asks for and what it complains of.

    Args:
        profile: An empty directory for its files.
    """

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # The browser reads from descriptor 3 and writes to 4, where a shell puts them.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
        start = f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}'
        flags = [*_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", start, "bash", CHROMIUM, *flags],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (*ends, theirs_in, theirs_out):
            os.close(end)
        self._buffer, self._number, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._call(f"{domain}.enable")
        self._call("Emulation.setDeviceMetricsOverride", **_screen(1000, 900))

    def open(self, page: Path, *, theme: str = "light", scripts: bool = True) -> None:
        """Load a file, with nothing kept of the one before."""
        media = [{"name": "prefers-color-scheme", "value": theme}]
        self._call("Emulation.setEmulatedMedia", features=media)
        self._call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._call("Page.navigate", url="about:blank")
        self.requests.clear()
        self.complaints.clear()
        self._call("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + WAIT
        while not self.run(script):
            assert time.monotonic() < until, f"never came true: {script}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press a key, such as "ArrowRight", where the focus is."""
        code = {"ArrowLeft": 37, "ArrowRight": 39, "End": 35, "Home": 36}[key]
        for kind in ("keyDown", "keyUp"):
            keys = {"key": key, "code": key, "windowsVirtualKeyCode": code}
            self._call("Input.dispatchKeyEvent", type=kind, **keys)

    def screenshot(self) -> bytes:
        """The whole page as a PNG."""
        height = self.run("document.documentElement.scrollHeight")
        self._call("Emulation.setDeviceMetricsOverride", **_screen(1000, height))
        return base64.b64decode(self._call("Page.captureScreenshot")["data"])

    def media(self, kind: str) -> None:
        """Look at the page as on a "screen", or as in "print"."""
        self._call("Emulation.setEmulatedMedia", media=kind)

    def close(self) -> None:
        """End it."""
        try:
            self._call("Browser.close")
            self._process.wait(WAIT)
        finally:
            self._process.kill()
            os.close(self._in)
            os.close(self._out)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + WAIT
        while True:
            answer = self._read(until)
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                found: dict[str, Any] = answer["result"]
                return found
            handle = _EVENTS.get(answer.get("method", ""))
            if handle is not None:
                handle(self, answer["params"])

    def _read(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._in, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _screen(width: int, height: int) -> dict[str, Any]:
    return {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}


def _asked(browser: Browser, event: dict[str, Any]) -> None:
    if event["request"]["url"] != "about:blank":
        browser.requests.append(event["request"]["url"])


def _logged(browser: Browser, event: dict[str, Any]) -> None:
    if event["entry"]["level"] in ("warning", "error"):
        browser.complaints.append(event["entry"]["text"])


def _said(browser: Browser, event: dict[str, Any]) -> None:
    if event["type"] in ("warning", "error", "assert"):
        browser.complaints.append(str([arg.get("value") for arg in event["args"]]))


def _thrown(browser: Browser, event: dict[str, Any]) -> None:
    browser.complaints.append(str(event["exceptionDetails"]))


_EVENTS: dict[str, Callable[[Browser, dict[str, Any]], None]] = {
    "Network.requestWillBeSent": _asked,
    "Log.entryAdded": _logged,
    "Runtime.consoleAPICalled": _said,
    "Runtime.exceptionThrown": _thrown,
}
