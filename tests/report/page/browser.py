"""A headless Chromium, spoken to through two pipes: opens pages, clicks, keeps what they complain of."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium on this machine: `bash .ci/install-browser` installs one"
)
LIMIT = 240.0
# The browser reads commands from descriptor 3 and answers on 4.
_LAUNCH = """
import os, sys
read, write = (os.dup(int(n)) for n in sys.argv[1:3])
read, write = (os.dup(n) if n in (3, 4) else n for n in (read, write))
os.dup2(read, 3); os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip


class Page:
    """One page in a browser. `complaints` are errors of scripts, of the console, of the page's own policy."""

    def __init__(self, process: subprocess.Popen[bytes], read: int, write: int) -> None:
        self._process, self._read, self._write = process, read, write
        self._number, self._rest = 0, b""
        self.complaints: list[str] = []
        target = self._command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """The size of the window in its own pixels."""
        scale = 2 if phone else 1
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def open(self, path: Path) -> None:
        """Load a page and wait until the first figures are drawn."""
        self.send("Page.navigate", url=path.as_uri())
        self.until("document.readyState === 'complete' && document.body.dataset.drawn === 'yes'")

    def offline(self) -> None:
        """No network from here on; files are read all the same."""
        self.send(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is, promises awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + LIMIT
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never true: {expression}; {self.complaints}"
            time.sleep(0.02)

    def picture(self, path: Path, *, whole: bool = True) -> Path:
        """A screenshot."""
        content = self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(content))
        return path

    def printed(self) -> bytes:
        """The page as a PDF."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"])

    def send(self, method: str, **params: Any) -> Any:
        """A command to the page."""
        return self._command(method, self._session, **params)

    def _command(self, method: str, session: str | None = None, **params: Any) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], LIMIT)
            assert ready, f"the browser said nothing for {LIMIT:.0f} s"
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        first, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(first)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"]))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser with an empty profile, ended when the block is left."""
    assert BROWSER is not None
    (there, write), (read, back) = os.pipe(), os.pipe()
    command = [sys.executable, "-c", _LAUNCH, str(there), str(back), BROWSER, *_FLAGS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(command, pass_fds=(there, back), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    os.close(there)
    os.close(back)
    try:
        yield Page(process, read, write)
    finally:
        # The browser ends by itself when nobody holds the other ends.
        os.close(write)
        os.close(read)
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
