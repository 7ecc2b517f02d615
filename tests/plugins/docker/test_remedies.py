"""One remedy for each cause, by causing it (A8)."""

from __future__ import annotations

import http.server
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import docker
import docker.errors
import pytest

import stockade
from plugins.docker.conftest import BUSYBOX
from stockade_docker import engine as engines
from stockade_docker.create import Shape
from stockade_docker.sandbox import explain
from stockade_docker.wall import DockerWall


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    engines.forget()
    yield
    engines.forget()


def mend(engine: str | None = None) -> str:
    (check,) = DockerWall(options={"engine": engine}).probe().checks
    assert not check.ok and check.what == "engine"
    return check.remedy


def test_a_wrong_DOCKER_HOST(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = f"unix://{tmp_path}/none"
    monkeypatch.setenv("DOCKER_HOST", wrong)
    assert mend().startswith(f"there is no such socket: correct DOCKER_HOST={wrong}")
    assert "apt-get" not in mend()
    monkeypatch.setenv("DOCKER_HOST", "gopher://x")
    assert mend() == (
        "correct DOCKER_HOST=gopher://x: unix://PATH, tcp://HOST:PORT or ssh://USER@HOST is needed"
    )
    monkeypatch.setenv("DOCKER_HOST", "tcp://no-such-machine.invalid:2375")
    assert "no machine has that name: correct DOCKER_HOST=tcp://no-such" in mend()


def test_a_wrong_option(tmp_path: Path) -> None:
    assert f"correct the option engine=unix://{tmp_path}/none" in mend(f"unix://{tmp_path}/none")
    assert "docker context ls" in mend("no-such-context")


def test_a_path_that_is_too_long() -> None:
    far = f"unix:///tmp/{'far' * 40}/engine"
    assert f"107 bytes: correct the option engine={far}" in mend(far)


def test_no_engine_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = {"base_url": f"unix://{tmp_path}/none"}
    monkeypatch.setattr(engines, "_settings", lambda _: place)
    assert "install" in mend()


def test_a_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/left")
    assert "nobody listens there: start the engine" in mend(f"unix://{tmp_path}/left")


def test_no_permission() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a socket that is another's")
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        os.chmod(folder, 0o755)
        path = f"{folder}/sock"
        listener.bind(path)
        listener.listen()
        os.chmod(path, 0o600)
        os.seteuid(65534)
        try:
            assert "usermod -aG docker" in mend(f"unix://{path}")
        finally:
            os.seteuid(0)


def test_what_answers_is_no_engine() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"tcp://127.0.0.1:{server.server_address[1]}"
        assert mend(url) == f"what answers there is no engine: correct the option engine={url}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "none"))
    assert "DOCKER_CERT_PATH" in mend("tcp://127.0.0.1:2376")


@pytest.mark.parametrize("place", ["npipe:////./pipe/docker_engine", "NPIPE:////./pipe/x"])
def test_C12_named_pipes_are_refused_by_name(place: str) -> None:
    with pytest.raises(stockade.StockadeError, match="named pipe"):
        stockade.open(f"docker:{BUSYBOX}?engine={quote(place, safe='')}")
    assert "tcp://HOST:PORT" in mend(place)


@pytest.mark.parametrize(
    ("words", "mends"),
    [
        ('failed: exec: "iptables": executable file not found in $PATH', "install iptables"),
        ("netavark: unable to execute /usr/sbin/nft: No such file or directory", "nftables"),
        ('exec: "docker-init": executable file not found in $PATH', "init-path"),
        ('exec: "runc": executable file not found in $PATH', "install runc"),
    ],
)
def test_what_an_engines_machine_lacks_is_named(words: str, mends: str) -> None:
    error = docker.errors.APIError("x", explanation=words)
    message = explain("starting the container failed", error, Shape(image="x"))
    assert "the engine's machine lacks" in str(message) and mends in str(message)
    assert not message.retryable and "shell" not in str(message)
