"""For the operator: whether the server is ready, what it counts, and its access log.

What is written of a request holds no secret: no header, no query (signatures are in it), and of
a request to a sandbox's port no path.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stockade_server.sandboxes import Sandboxes

__all__ = ["AccessLog", "Counts", "Watched", "kind_of"]

#: The operator's own paths, which are neither counted nor logged.
_OWN = ("/ready", "/metrics")
_MOST_TEXT = 200  #: characters of what a caller sent


class AccessLog:
    """Lines of JSON at the end of a file, one a request; the file is its maker's alone."""

    def __init__(self, path: str) -> None:
        """Raises OSError where it cannot be written."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, record: dict[str, Any]) -> None:
        """A disk that is full stops no request."""
        line = json.dumps(record, separators=(",", ":")) + "\n"
        try:
            os.write(self._descriptor, line.encode())
        except OSError:
            return

    def close(self) -> None:
        os.close(self._descriptor)


class Counts:
    """What Prometheus reads."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by kind and status
        #: Until the last bytes of answers, by kind.
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._started_at = time.time()

    def add(self, kind: str, status: int, seconds: float) -> None:
        """One request that was answered."""
        self.requests[kind, status] += 1
        self.seconds[kind] += seconds

    def text(self, sandboxes: Sandboxes) -> str:
        """In Prometheus' text format."""
        return "".join(f"{line}\n" for line in self._lines(sandboxes))

    def _lines(self, sandboxes: Sandboxes) -> Iterator[str]:
        everybodys = sandboxes.everybodys()
        states = Counter((one.template.name, one.state) for one in everybodys)
        yield "# HELP stockade_server_start_time_seconds Unix time of the start."
        yield "# TYPE stockade_server_start_time_seconds gauge"
        yield f"stockade_server_start_time_seconds {self._started_at:.3f}"
        yield "# HELP stockade_server_sandboxes Sandboxes that live."
        yield "# TYPE stockade_server_sandboxes gauge"
        for (template, state), number in sorted(states.items()):
            yield f'stockade_server_sandboxes{{template="{template}",state="{state}"}} {number}'
        yield from _pools(sandboxes)
        yield "# HELP stockade_server_commands Commands and terminals that run."
        yield "# TYPE stockade_server_commands gauge"
        running = sum(one.processes.count for one in everybodys)
        yield f"stockade_server_commands {running}"
        yield "# HELP stockade_server_requests_total Requests that were answered."
        yield "# TYPE stockade_server_requests_total counter"
        for (kind, status), number in sorted(self.requests.items()):
            yield f'stockade_server_requests_total{{kind="{kind}",status="{status}"}} {number}'
        yield "# HELP stockade_server_request_seconds_total Until their answers' last bytes."
        yield "# TYPE stockade_server_request_seconds_total counter"
        for kind, seconds in sorted(self.seconds.items()):
            yield f'stockade_server_request_seconds_total{{kind="{kind}"}} {seconds:.6f}'


def _pools(sandboxes: Sandboxes) -> Iterator[str]:
    """What the pools hold, and how often one had something ready."""
    figures = list(sandboxes.pools.figures())
    if not figures:
        return
    yield "# HELP stockade_server_pool_size Sandboxes that are to be ready."
    yield "# TYPE stockade_server_pool_size gauge"
    for name, size, *_ in figures:
        yield f'stockade_server_pool_size{{template="{name}"}} {size}'
    yield "# HELP stockade_server_pool_ready Sandboxes that are ready."
    yield "# TYPE stockade_server_pool_ready gauge"
    for name, _, ready, *_ in figures:
        yield f'stockade_server_pool_ready{{template="{name}"}} {ready}'
    yield "# HELP stockade_server_pool_taken_total Sandboxes asked of a pool, ready or not."
    yield "# TYPE stockade_server_pool_taken_total counter"
    for name, _, _, hits, misses in figures:
        for start, number in (("ready", hits), ("cold", misses)):
            labels = f'template="{name}",start="{start}"'
            yield f"stockade_server_pool_taken_total{{{labels}}} {number}"


class Watched:
    """ASGI middleware: counts requests, and writes them to the log where there is one."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        counts: Counts,
        log: AccessLog | None,
        port_of: Callable[[Headers], int | None],
    ) -> None:
        """``port_of``: the sandbox's own port that a request is for."""
        self._app = app
        self._counts = counts
        self._log = log
        self._port_of = port_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in _OWN:
            await self._app(scope, receive, send)
            return
        begun, status, sent = time.monotonic(), 0, 0

        async def counting(message: Message) -> None:
            nonlocal status, sent
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = 101
            for part in ("body", "bytes", "text"):
                sent += len(message.get(part) or b"")
            await send(message)

        headers = Headers(scope=scope)
        port = self._port_of(headers)
        try:
            await self._app(scope, receive, counting)
        finally:
            seconds = time.monotonic() - begun
            kind = kind_of(scope["path"]) if port is None else "port"
            self._counts.add(kind, status, seconds)
            if self._log is not None:
                self._log.write(
                    {
                        "time": dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds"),
                        "client": (scope.get("client") or ("",))[0],
                        "owner": scope.get("stockade.owner"),
                        "sandbox": headers.get("e2b-sandbox-id", "")[:_MOST_TEXT] or None,
                        "method": scope.get("method", "WEBSOCKET"),
                        "path": scope["path"][:_MOST_TEXT] if port is None else f"port {port}",
                        "status": status,  # 0: nothing was answered
                        "bytes": sent,
                        "seconds": round(seconds, 6),
                    }
                )


def kind_of(path: str) -> str:
    """Few words: each is a series."""
    first = path.strip("/").split("/")[0]
    if first in ("process.Process", "filesystem.Filesystem", "files", "health"):
        return first
    if first == "ui":
        return first
    return "code" if first in ("execute", "contexts") else "control"
