"""Requests for pods, a scripted API server, and the cluster that `.ci/cluster up` starts."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import pytest

import stockade
from stockade.config import SandboxConfig
from stockade.errors import StockadeError
from stockade.wall import OpenRequest

HOME = os.environ.get("STOCKADE_CLUSTER", "/var/lib/stockade-cluster")
OPTIONS = f"pull=never&kubeconfig={HOME}/kubeconfig&template={HOME}/template.yaml&cpu_request=0.01"
SESSION = "Ab-0123456789abcdef0123456789abcdef"


def asked(**config: Any) -> OpenRequest:
    """A request as core makes it."""
    return OpenRequest(
        session_id=SESSION,
        agent_hash="0" * 16,
        target=None,
        config=SandboxConfig(**config),
        owner="machine boot 1 2 3",
    )


@pytest.fixture(scope="session")
def on_cluster() -> str:
    """The provider string of the cluster's Debian image."""
    provider = f"kubernetes:stockade-test/python?{OPTIONS}"
    try:
        stockade.provider(provider, check_available=True)
    except StockadeError as error:
        reason = f"there is no cluster (.ci/cluster up): {error}"
        if "kubernetes" in os.environ.get("STOCKADE_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    return provider


@pytest.fixture
def admin(on_cluster: str) -> Any:
    """The cluster, as its administrator reaches it."""
    from stockade_kubernetes.places import Where, cluster_at

    return cluster_at(Where(context="admin", kubeconfig=f"{HOME}/kubeconfig"))


def pods_of(admin: Any) -> set[str]:
    """The names of the pods in the namespace of the sessions."""
    found = admin.ask("GET", admin.pods, seconds=10)["items"]
    return {pod["metadata"]["name"] for pod in found}


@attrs.define
class Scripted:
    """An API server that gives the answers a test sets, and keeps what it was asked."""

    #: Called with method, path, body; gives status, headers and body.
    answer: Callable[[str, str, Any], tuple[int, dict[str, str], Any]]
    asked: list[tuple[str, str, Any]] = attrs.field(factory=list)
    headers: list[dict[str, str]] = attrs.field(factory=list)
    url: str = ""


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    found = Scripted(lambda method, path, body: (200, {}, {}))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            found.asked.append((self.command, self.path, body))
            found.headers.append(dict(self.headers))
            status, headers, said = found.answer(self.command, self.path, body)
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield found
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def cluster(scripted: Scripted) -> Iterator[Any]:
    """The wall's own side of the scripted server."""
    from kubernetes.client import Configuration

    from stockade_kubernetes.cluster import Cluster

    configuration = Configuration()
    configuration.host = scripted.url
    made = Cluster(configuration, "here")
    yield made
    made.close()
