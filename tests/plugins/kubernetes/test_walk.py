"""A short walk through what people do with a cluster: for each version of the official client."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from typing import Any
from urllib.request import urlopen

import pytest

import stockade
from plugins.kubernetes.conftest import HOME

clusters: Any = pytest.importorskip("stockade_kubernetes.cluster")
streams: Any = pytest.importorskip("stockade_kubernetes.streams")

pytestmark = pytest.mark.slow


def stockade_says(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stockade.cli", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **env}
    )


#: `http.server` is not in every image's Python.
_SERVE = """
import socket
listener = socket.create_server(("127.0.0.1", 8000))
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + open("/workspace/page", "rb").read())
    connection.close()
"""


def test_programs_code_files_and_ports(on_cluster: str) -> None:
    with stockade.open(on_cluster, ports=(8000,)) as session:
        assert session.run(["cat"], stdin=b"in and out").stdout == "in and out"
        assert session.code("print(6 * 7)", language="python").stdout == "42\n"
        session.files.write("/workspace/page", b"a page")
        assert session.files.read("/workspace/page") == b"a page"
        session.start(["python3", "-c", _SERVE], timeout=None)
        host, port = session.port(8000)
        assert _fetched(f"http://{host}:{port}/") == b"a page"


def _fetched(url: str) -> bytes:
    until = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), urlopen(url, timeout=5) as answer:
            found: bytes = answer.read()
            if found:
                return found
        assert time.monotonic() < until
        time.sleep(0.1)


#: What tells the pods of one test from those of what runs beside it.
MARK_MB = 1027


def marked_pods(admin: Any) -> list[str]:
    from kubernetes.utils import parse_quantity

    found = admin.ask("GET", admin.pods, seconds=10)["items"]
    disk = {
        pod["metadata"]["name"]: pod["spec"]["containers"][0]["resources"]["limits"]
        for pod in found
    }
    return [
        name
        for name, limits in disk.items()
        if parse_quantity(limits["ephemeral-storage"]) == MARK_MB << 20
    ]


def test_the_command_line_runs_with_a_kubeconfig(on_cluster: str, admin: Any) -> None:
    marked = f"{on_cluster}&ephemeral_mb={MARK_MB}"
    done = stockade_says("run", "-p", marked, "--", "python3", "-c", "print(6 * 7)")
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr
    # From the environment, as people have it.
    plain = marked.replace(f"kubeconfig={HOME}/kubeconfig&", "")
    assert "kubeconfig" not in plain
    line = ("run", "-p", plain, "--", "sh", "-c", "exit 7")
    assert stockade_says(*line, KUBECONFIG=f"{HOME}/kubeconfig").returncode == 7
    assert stockade_says(*line, KUBECONFIG="/nonexistent", HOME="/nonexistent").returncode > 7
    said = stockade_says("doctor", "-p", on_cluster)
    assert said.returncode == 0 and re.search(r"Kubernetes v\d", said.stdout), said.stdout
    assert marked_pods(admin) == []


def test_a_session_of_a_warm_pool_takes_four_calls(
    on_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none of them between hand-out and end; what a process asks for all is counted apart."""
    calls: list[tuple[str, str]] = []
    lock = threading.Lock()
    request, connected = clusters.Cluster._request, streams._connected

    def counted(self: Any, method: str, path: str, body: Any, seconds: float, query: Any) -> Any:
        with lock:
            calls.append(
                (method, f"{path.rpartition('/')[2]}{'?watch' * ('watch' in (query or {}))}")
            )
        return request(self, method, path, body, seconds, query)

    def stream(cluster: Any, path: str, seconds: float) -> Any:
        with lock:
            calls.append(("GET", path.partition("?")[0].rpartition("/")[2]))
        return connected(cluster, path, seconds)

    with stockade.Pool(on_cluster, size=1) as pool:
        pool.wait_ready(60)  # who asks, the policy, and other pods: known from now on
        with pool.open() as first:
            first.run(["true"])
        pool.wait_ready(60)
        monkeypatch.setattr(clusters.Cluster, "_request", counted)
        monkeypatch.setattr(streams, "_connected", stream)
        with pool.open() as session:
            name = session._record.sandbox.name  # type: ignore[union-attr]
            for number in range(10):
                session.run(["true"])
                session.files.write(f"/workspace/{number}", b"x")
        pool.wait_ready(60)  # the next one is made of what this one was made of
    mine = [call for call in calls if call == ("DELETE", name)]
    rest = sorted(call for call in calls if call[0] != "DELETE")
    looks = [call for call in rest if call == ("GET", "pods")]
    assert mine == [("DELETE", name)] and len(looks) <= 1
    made = [call for call in rest if call not in looks]
    assert made == [("GET", "attach"), ("GET", "pods?watch"), ("POST", "pods")], calls
