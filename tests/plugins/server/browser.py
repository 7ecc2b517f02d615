"""A browser without a window, driven by its own protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Page", "browsing"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")


class Page:
    """One page, what it complained of, and what it asked for."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._last = 0
        self.complaints: list[str] = []
        self.asked: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        self._last += 1
        wanted = self._last
        message = {"id": wanted, "method": method, "params": parameters}
        self._socket.send(json.dumps(message))
        while True:
            found = json.loads(self._socket.recv(30))
            if found.get("id") == wanted:
                assert "error" not in found, found
                return found["result"]
            self._heard(found)

    def _heard(self, message: dict[str, Any]) -> None:
        method, about = message.get("method"), message.get("params", {})
        if method == "Log.entryAdded":
            self.complaints.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"]))
        elif method == "Network.requestWillBeSent":
            self.asked.append(about["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self._last += 1
            answer = {"id": self._last, "method": "Page.handleJavaScriptDialog"}
            self._socket.send(json.dumps({**answer, "params": {"accept": True}}))

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str, seconds: float = 30) -> Any:
        """Wait until a script gives what is true; while a page loads it may fail."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):
                if found := self.value(script):
                    return found
            assert time.monotonic() < end, (
                script,
                self.complaints,
                self.value("document.body.innerText"),
            )
            time.sleep(0.1)

    def picture(self, file: Path) -> None:
        size = {"width": 1180, "height": 760, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        data = self.call("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browsing() -> Iterator[Page]:
    """Skips where no browser is here."""
    from websockets.sync.client import connect

    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no browser is here; run: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [
            *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--remote-debugging-port=0", f"--user-data-dir={folder}", "--disable-dev-shm-usage"),
            *("--disable-background-networking", "--no-proxy-server", "about:blank"),
        ]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            with connect(_address(process), max_size=None, proxy=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)
            assert process.stderr is not None
            process.stderr.close()


def _address(process: subprocess.Popen[str]) -> str:
    import urllib.request

    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"listening on ws://([^/]+)/", line):
            break
    else:
        pytest.fail("the browser did not start")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + 30
    while True:
        with opener.open(f"http://{found[1]}/json/list", timeout=30) as answer:
            pages = [one for one in json.load(answer) if one["type"] == "page"]
        if pages:
            return str(pages[0]["webSocketDebuggerUrl"])
        assert time.monotonic() < until
        time.sleep(0.1)
