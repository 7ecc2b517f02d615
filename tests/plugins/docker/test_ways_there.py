"""Where an engine may be: a socket, an address with TLS, a machine behind ssh, a context."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest

import stockade
from core.threads import few_threads
from plugins.docker.conftest import BUSYBOX, until
from plugins.docker.own_engine import own_engine
from stockade.errors import CapacityError, ConfigError, ProviderUnavailableError, SandboxLostError
from stockade_docker import engine as engines
from stockade_docker import transport

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("engine")]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def works(string: str) -> None:
    """All that goes over the connection: executions that overlap, much output, input, the end."""
    with stockade.open(string) as session:
        assert session.run(["echo", "there"]).stdout == "there\n"
        data = os.urandom(3 << 20)
        result = session.run(["cat"], stdin=data, output_limit_bytes=4 << 20, timeout=60)
        assert result.stdout_bytes == data
        executions = [session.start(["cat"], stdin=b"%d" % n) for n in range(4)]
        assert [e.result(60).stdout for e in executions] == ["0", "1", "2", "3"]
        running = session.start(["sleep", "60"], timeout=1)
        assert running.result(30).killed
        record = session._record
    assert record.sandbox is None


# -- TLS ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate for 127.0.0.1, a client's, by the names docker has."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        "req",
        "-x509",
        *new,
        "-keyout",
        "ca-key.pem",
        "-out",
        "ca.pem",
        "-days",
        "2",
        "-subj",
        "/CN=authority",
    )
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
    for name, files in (("server", "server-"), ("client", "")):
        openssl(
            "req", *new, "-keyout", f"{files}key.pem", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca-key.pem",
            "-CAcreateserial",
            "-days",
            "2",
            "-out",
            f"{files}cert.pem",
            "-extfile",
            f"{name}.ext",
        )
    return folder


@pytest.fixture(scope="module")
def address(certificates: Path, engine: docker.APIClient) -> Iterator[str]:
    """Where an engine listens that answers to known certificates alone."""
    port = free_port()
    options = (
        "-H",
        f"tcp://127.0.0.1:{port}",
        "--tlsverify",
        f"--tlscacert={certificates}/ca.pem",
        f"--tlscert={certificates}/server-cert.pem",
        f"--tlskey={certificates}/server-key.pem",
    )
    with own_engine(engine, *options):
        yield f"tcp://127.0.0.1:{port}"
        engines.forget()


@pytest.mark.slow
def test_tls(address: str, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
    works(f"docker:{BUSYBOX}?engine={quote(address, safe='')}")
    assert engines.client(address) is engines.client(address)  # not one for each session
    monkeypatch.setenv("DOCKER_HOST", address)
    with stockade.open(f"docker:{BUSYBOX}") as session:
        assert not engines.is_local(engines.client(None))
        assert session.code("echo x", "sh").stdout == "x\n"
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates / "none"))
    with pytest.raises(ConfigError, match="certificates"):
        stockade.open(f"docker:{BUSYBOX}")


@pytest.mark.slow
def test_a_missing_certificate_is_reported(address: str) -> None:
    with pytest.raises(ProviderUnavailableError, match="no engine answers at tcp://127"):
        stockade.open(f"docker:{BUSYBOX}?engine={quote(address, safe='')}")


@pytest.mark.slow
def test_a_context(
    address: str, certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    keys = ",".join(f"{word}={certificates}/{word}.pem" for word in ("ca", "cert", "key"))
    subprocess.run(
        ["docker", "context", "create", "away", "--docker", f"host={address},{keys}"],
        check=True,
        capture_output=True,
    )
    (tmp_path / "config.json").write_text('{"currentContext": "away"}')
    with stockade.open(f"docker:{BUSYBOX}") as session:  # the current one
        assert session.run(["echo", "there"]).stdout == "there\n"
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONTEXT", "away")
    assert str(engines.client(None).base_url) == address.replace("tcp", "https")
    monkeypatch.delenv("DOCKER_CONTEXT")
    with stockade.open(f"docker:{BUSYBOX}?engine=away") as session:  # by its name
        assert session.run(["echo", "there"]).stdout == "there\n"
    with pytest.raises(ProviderUnavailableError, match="no docker context has that name"):
        stockade.open(f"docker:{BUSYBOX}?engine=nowhere")


# -- ssh ---------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """This machine by ssh, with a daemon, keys and a client's settings of the test's own."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or shutil.which("ssh") is None or os.geteuid() != 0:
        pytest.skip("ssh and sshd are needed, and root to start it")
    port = free_port()
    for name in ("host", "mine"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True
        )
    shutil.copy(tmp_path / "mine.pub", tmp_path / "allowed")
    (tmp_path / "known").write_text(f"[localhost]:{port} {(tmp_path / 'host.pub').read_text()}")
    (tmp_path / "config").write_text(
        f"IdentityFile {tmp_path}/mine\nUserKnownHostsFile {tmp_path}/known\n"
        "IdentitiesOnly yes\nBatchMode yes\n"
    )
    (tmp_path / "bin").mkdir()
    client = tmp_path / "bin" / "ssh"
    client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/config "$@"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    Path("/run/sshd").mkdir(exist_ok=True)  # it wants the folder
    with (tmp_path / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [
                sshd,
                "-D",
                "-e",
                "-f",
                "/dev/null",
                "-p",
                str(port),
                "-h",
                str(tmp_path / "host"),
                "-o",
                "ListenAddress=127.0.0.1",
                "-o",
                f"AuthorizedKeysFile={tmp_path}/allowed",
                "-o",
                "StrictModes=no",
                "-o",
                "PidFile=none",
                "-o",
                "MaxStartups=100",
                "-o",
                "PermitRootLogin=prohibit-password",
            ],
            stderr=log,
        )

    def answers() -> bool:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True

    assert until(answers), (tmp_path / "log").read_text()
    yield f"ssh://root@localhost:{port}"
    engines.forget()
    daemon.terminate()
    daemon.wait(10)


def test_ssh(machine: str) -> None:
    string = f"docker:{BUSYBOX}?engine={quote(machine, safe='')}"
    works(string)
    assert not engines.is_local(engines.client(machine))
    session = stockade.open(string)
    running = session.start(["sleep", "60"])
    engines.client(machine).kill(session._record.sandbox.container)  # type: ignore[union-attr]
    with pytest.raises(SandboxLostError):
        running.result(30)
    session.close()
    engines.forget()
    # Each connection was a program; none is left.
    waiting = [thread for thread in threading.enumerate() if thread.name == "stockade-ssh"]
    assert until(lambda: not any(thread.is_alive() for thread in waiting)), waiting


def test_no_thread_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end would be noticed by nobody."""
    made: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def keep(*args: Any, **kwargs: Any) -> Any:
        made.append(popen(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr("stockade_docker.transport.subprocess.Popen", keep)
    with few_threads(), pytest.raises(CapacityError):
        transport._through(["sleep", "60"], 5)
    assert [process.returncode for process in made] == [-9]


@pytest.mark.parametrize(
    "url", ["ssh://", "ssh://user:secret@host", "ssh://host/run/docker.sock", "ssh://host?x=1"]
)
def test_addresses_that_make_no_sense(url: str) -> None:
    with pytest.raises(ConfigError, match="HOST"):
        transport.ssh_command(url)


def test_a_hosts_name_is_no_option() -> None:
    words = transport.ssh_command("ssh://me@-oProxyCommand=x")
    assert words.index("--") < words.index("-oproxycommand=x")


def test_docker_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    with pytest.raises(ProviderUnavailableError, match="nobody"):
        stockade.open(f"docker:{BUSYBOX}")
    monkeypatch.setenv("DOCKER_HOST", "unix:///var/run/docker.sock")
    with stockade.open(f"docker:{BUSYBOX}") as session:
        assert session.run(["true"]).success
