"""Servers of SSH: a real one, and the first words of one that a test makes up."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import until
from plugins.secrets.servers import Watch
from stockade.config import Secret
from stockade.toolkit.egress import Desk, Gateway
from stockade_secrets.ssh.keys import PrivateKey, parse_key
from stockade_secrets.ssh.wire import Fields, text

__all__ = [
    "NEW_KEYS",
    "Asking",
    "Host",
    "Sshd",
    "bind",
    "keygen",
    "list_keys",
    "login",
    "packet",
    "public",
    "reasons",
    "sign",
    "tunnel",
]

NEW_KEYS = b"\x15"


def keygen(path: Path, kind: str = "ed25519", *more: str) -> Path:
    words = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path), *more]
    subprocess.run(words, check=True, capture_output=True)
    return path


def public(path: Path) -> str:
    return path.with_name(path.name + ".pub").read_text().strip()


class Sshd:
    """A real one, which lets in whoever has the key ``mine``; its folder has ``known_hosts``."""

    def __init__(self, folder: Path, name: str = "host.example", kind: str = "ed25519") -> None:
        daemon = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        if daemon is None or os.geteuid() != 0:
            pytest.skip("sshd is needed, and root to start it")
        folder.mkdir(exist_ok=True)
        Path("/run/sshd").mkdir(exist_ok=True)  # it wants the folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.folder, self.name, self.user = folder, name, getpass.getuser()
        self.mine = keygen(folder / "mine", kind)
        self._host = keygen(folder / "host")
        self.known = folder / "known_hosts"
        self.known.write_text(f"[{name}]:{self.port} {public(self._host)}\n")
        allowed = folder / "allowed"
        allowed.write_text(public(self.mine) + "\n")
        settings = {
            "ListenAddress": "127.0.0.1",
            "AuthorizedKeysFile": str(allowed),
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "StrictModes": "no",
            "PidFile": "none",
            "LogLevel": "VERBOSE",
            "PermitRootLogin": "prohibit-password",
        }
        words = [word for item in settings.items() for word in ("-o", "=".join(item))]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    daemon,
                    *["-D", "-e", "-f", "/dev/null", "-p"],
                    str(self.port),
                    "-h",
                    str(self._host),
                    *words,
                ],
                stderr=log,
            )
        assert until(self._answers), self.log.read_text()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    @property
    def login(self) -> str:
        """As a secret names it."""
        return f"{self.user}@{self.name}:{self.port}=loopback"

    def secret(self, name: str = "deploy", **fields: object) -> Secret:
        given = {"hosts": [self.login], "known_hosts": str(self.known), **fields}
        return Secret(name, f"file:{self.mine}", **given)  # type: ignore[arg-type]

    def repository(self) -> str:
        """One with a file ``hello``, by its path."""
        bare, work = self.folder / "repository", self.folder / "work"
        line = (
            'git init -q --bare "$1" && git init -q "$2" && cd "$2" && echo hello > hello && '
            "git add . && git -c user.name=a -c user.email=a@example.org commit -q -m first && "
            'git push -q "$1" HEAD:refs/heads/main && git -C "$1" symbolic-ref HEAD refs/heads/main'
        )
        words = ["sh", "-c", line, "sh", str(bare), str(work)]
        subprocess.run(words, check=True, capture_output=True)
        return str(bare)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


def packet(payload: bytes) -> bytes:
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


class Host:
    """A server's key, and what it would send."""

    def __init__(self, folder: Path, name: str, kind: str = "ed25519") -> None:
        path = keygen(folder / f"host-{name}-{kind}", kind)
        self.line = public(path)
        self._key: PrivateKey = parse_key(Secret("a", "env:A", hosts=["a@b"]), path.read_text())
        self.blob = self._key.blob

    def sign(self, number: bytes) -> bytes:
        return self._key.sign(number, 4)

    def reply(self, number: bytes, kind: int = 31) -> bytes:
        """Its version, its key and its signature."""
        fields = text(self.blob) + text(b"public") + text(self.sign(number))
        return (
            b"SSH-2.0-test\r\n" + packet(bytes([20]) + bytes(40)) + packet(bytes([kind]) + fields)
        )


def bind(host: Host, number: bytes, *, signed: bytes | None = None, forwarding: int = 0) -> bytes:
    signature = host.sign(number) if signed is None else signed
    fields = text(host.blob) + text(number) + text(signature) + bytes([forwarding])
    return b"\x1b" + text(b"session-bind@openssh.com") + fields


def login(
    number: bytes,
    user: str,
    key: bytes,
    *,
    server: bytes | None = None,
    service: bytes = b"ssh-connection",
    algorithm: bytes = b"ssh-ed25519",
) -> bytes:
    """What a client of SSH has signed; ``server``: as OpenSSH has it, with that one's key."""
    method = b"publickey" if server is None else b"publickey-hostbound-v00@openssh.com"
    data = text(number) + b"\x32" + text(user.encode()) + text(service) + text(method) + b"\x01"
    data += text(algorithm) + text(key)
    return data if server is None else data + text(server)


def sign(key: bytes, data: bytes, flags: int = 0) -> bytes:
    return b"\x0d" + text(key) + text(data) + struct.pack(">I", flags)


class Asking:
    """A program that has connected to the agent of a session."""

    def __init__(self, served: Gateway) -> None:
        self.sock, far = socket.socketpair()
        self.sock.settimeout(20)
        threading.Thread(target=served.serve_agent, args=(far,), daemon=True).start()

    def ask(self, message: bytes) -> bytes:
        """The answer; empty where the connection was ended."""
        self.sock.sendall(text(message))
        head = self._read(4)
        return self._read(struct.unpack(">I", head)[0]) if head else b""

    def close(self) -> None:
        self.sock.close()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (piece := self.sock.recv(count - len(data))):
            data += piece
        return data


def list_keys(answer: bytes) -> list[tuple[bytes, bytes]]:
    fields = Fields(answer)
    assert fields.byte() == 12, answer
    return [(fields.text(), fields.text()) for _ in range(fields.number())]


@contextlib.contextmanager
def tunnel(served: Gateway, host: Host, number: bytes, place: tuple[str, int]) -> Iterator[Desk]:
    """One that is open, whose server has shown that it is ``host``."""
    assert served.opener is not None and served.opener.desk is not None
    desk = served.opener.desk
    with desk.tunnel(*place) as greeting:
        greeting(host.reply(number))
        greeting(packet(NEW_KEYS))
        assert greeting.over
        yield desk


def reasons(watch: Watch, count: int) -> list[str | None]:
    return [watch.next()[3] for _ in range(count)]
