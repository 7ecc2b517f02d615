"""Clients that would speak HTTP/2, and what they do where the gateway offers HTTP/1.1 (E11)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from plugins.secrets.gits import GitServer
from plugins.secrets.servers import KEY, KeyServer, Watch, gateway
from stockade.config import Secret
from stockade.wall import RequestOutcome


@attrs.frozen
class Door:
    """A gateway on a port of this machine, as a wall has one inside."""

    proxy: str
    place: str
    placeholder: str
    bundle: str
    watch: Watch

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "HTTPS_PROXY": self.proxy,
            "API_KEY": self.placeholder,
            **dict.fromkeys(("SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"), self.bundle),
            "NODE_EXTRA_CA_CERTS": self.bundle,
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        if shutil.which(words[0]) is None:
            pytest.skip(f"there is no {words[0]} here")
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )


def _door(port: int, folder: Path) -> Iterator[Door]:
    watch = Watch()
    place = f"api.example:{port}"
    made = gateway(Secret("key", env="API_KEY", hosts=[f"{place}=loopback"]), watch=watch)
    assert made.opener is not None
    bundle = folder / "bundle.pem"
    bundle.write_bytes(made.opener.bundle)
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=made.serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield Door(proxy, place, made.opener.placeholders["API_KEY"], str(bundle), watch)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    made.close()


@pytest.fixture
def door(server: KeyServer, tmp_path: Path) -> Iterator[Door]:
    yield from _door(server.port, tmp_path)


def test_curl_takes_what_is_offered(door: Door) -> None:
    for option in ("--http2", "--http1.1", "-s"):
        head = f"Authorization: Bearer {door.placeholder}"
        said = door.run(
            "curl", "-sS", option, "-w", " %{http_version}", "-H", head, f"https://{door.place}/key"
        )
        assert said.stdout == "welcome 1.1", said


def test_curl_that_knows_better_takes_it_too(door: Door) -> None:
    """Over TLS it asks what is spoken all the same."""
    said = door.run("curl", "-sS", "--http2-prior-knowledge", f"https://{door.place}/key")
    if "option" in said.stderr:
        pytest.skip("this curl has no HTTP/2")
    assert said.stdout == "no key", said


def test_git_takes_what_is_offered(trusted: Path, git: GitServer, tmp_path: Path) -> None:
    for door in _door(git.port, tmp_path):
        url = f"https://user:{door.placeholder}@{door.place}/repository"
        options = "-c", "http.version=HTTP/2"
        said = door.run("git", *options, "clone", "-q", url, str(tmp_path / "here"))
        assert said.returncode == 0, said
        assert (tmp_path / "here" / "hello").read_text() == "hello\n"


def test_httpx_takes_what_is_offered(door: Door) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("h2")
    import ssl

    trust = ssl.create_default_context(cafile=door.bundle)
    with httpx.Client(http2=True, proxy=door.proxy, verify=trust, trust_env=False) as client:
        given = {"Authorization": f"Bearer {door.placeholder}"}
        said = client.get(f"https://{door.place}/key", headers=given)
    assert (said.text, said.http_version) == ("welcome", "HTTP/1.1")


#: undici's own agent, which fetch is made of, is not to be had without the package; node's own
#: HTTP/2 is what libraries for gRPC are made of.
_NODE = """
const http2 = require("http2"), net = require("net"), tls = require("tls");
const [host, port] = process.argv[1].split(":"), proxy = new URL(process.env.HTTPS_PROXY);
const way = net.connect(proxy.port, proxy.hostname, () =>
  way.write(`CONNECT ${host}:${port} HTTP/1.1\\r\\n\\r\\n`));
way.once("data", () => {
  const sock = tls.connect({socket: way, servername: host, ALPNProtocols: ["h2"]});
  sock.on("secureConnect", () => { console.log("protocol", sock.alpnProtocol); process.exit(0); });
  sock.on("error", error => { console.log("error", error.code); process.exit(0); });
});
"""


def test_a_client_of_http2_alone_has_no_connection(door: Door) -> None:
    """gRPC's, say: it is an error at once, and no connection that hangs."""
    said = door.run("node", "-e", _NODE, door.place)
    assert said.stdout.startswith(("error", "protocol false")), said


def test_grpc_does_not_work(door: Door) -> None:
    grpc = pytest.importorskip("grpc")
    trust = Path(door.bundle).read_bytes()
    credentials = grpc.ssl_channel_credentials(trust)
    options = [("grpc.http_proxy", door.proxy)]
    with grpc.secure_channel(door.place, credentials, options) as channel:
        call = channel.unary_unary("/a.B/C")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=15, metadata=[("authorization", f"Bearer {door.placeholder}")])
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert KEY not in str(caught.value)
    _, outcome, _, reason = door.watch.next()
    assert outcome is RequestOutcome.FAILED and "gRPC" in (reason or "")
