"""A service that has no room, or fails: tried again, and not for ever."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator

import pytest

import stockade
from plugins.e2b.conftest import need_parts
from stockade.errors import SandboxStartError

need_parts()


class Busy(http.server.ThreadingHTTPServer):
    """It lists nothing, and answers each creation with the same status."""

    daemon_threads = True
    status = 503

    def __init__(self) -> None:
        self.created: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Busy

    def do_GET(self) -> None:
        self._answer(200, [])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.created.append(self.headers["idempotency-key"])
        self._answer(self.server.status, {"code": self.server.status, "message": "no room"})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    with Busy() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("E2B_DOMAIN", "E2B_SANDBOX_URL", "E2B_DEBUG"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("E2B_API_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("E2B_API_KEY", "e2b_any")
        yield server
        server.shutdown()


@pytest.mark.parametrize("status", [429, 503, 500])
def test_it_is_tried_again_and_then_raised_as_worth_another_try(busy: Busy, status: int) -> None:
    busy.status = status
    began = time.monotonic()
    with pytest.raises(SandboxStartError, match="no room") as error:
        stockade.open("e2b", agent_id="a")
    assert error.value.retryable
    assert time.monotonic() - began < 50
    # The SDK tries four times where it may, and core a few times where nothing had begun.
    assert 1 <= len(busy.created) <= 20, busy.created
    # By the same key, so that no two come of it.
    assert len(set(busy.created)) == 1


def test_what_is_refused_is_asked_once(busy: Busy) -> None:
    busy.status = 403
    with pytest.raises(SandboxStartError, match="no room") as error:
        stockade.open("e2b", agent_id="a")
    assert not error.value.retryable and len(busy.created) == 1
