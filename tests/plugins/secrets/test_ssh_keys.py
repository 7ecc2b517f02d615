"""What servers show, which keys are known, and how secrets that sign are written (E11)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
import threading
import time
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from plugins.secrets.servers import gateway
from plugins.secrets.shells import Host, keygen
from stockade.config import Secret
from stockade.errors import ConfigError, SecretError
from stockade_secrets.ssh import Desk
from stockade_secrets.ssh.keys import parse_key, verify
from stockade_secrets.ssh.known import known_keys

NUMBER = b"n" * 32


# -- keys, and what is known of hosts --------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "more", "flags"),
    [("ed25519", (), 0), ("rsa", (), 2), ("rsa", ("-m", "PEM"), 4)]
    + [("ecdsa", ("-b", bits), 0) for bits in ("256", "384", "521")],
)
def test_every_kind_signs_so_that_it_is_verified(
    tmp_path: Path, kind: str, more: tuple[str, ...], flags: int
) -> None:
    secret = Secret("a", "env:A", hosts=["a@b"])
    key = parse_key(secret, keygen(tmp_path / "key", kind, *more).read_text())
    line = (tmp_path / "key.pub").read_text().split()
    assert key.blob == base64.b64decode(line[1])
    verify(key.blob, key.sign(b"data", flags), b"data")
    with pytest.raises(InvalidSignature):
        verify(key.blob, key.sign(b"data", flags), b"other")


def test_rsa_with_sha1_is_not_signed_with(tmp_path: Path) -> None:
    secret = Secret("a", "env:A", hosts=["a@b"])
    key = parse_key(secret, keygen(tmp_path / "key", "rsa").read_text())
    with pytest.raises(ValueError, match="SHA-1"):
        key.sign(b"data", 0)


def test_what_is_no_key_is_named_without_it(tmp_path: Path) -> None:
    secret = Secret("mine", "env:A", hosts=["a@b"])
    locked = tmp_path / "locked"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "a password", "-f", str(locked)], check=True
    )
    short = tmp_path / "short"
    made = keygen(tmp_path / "long", "rsa", "-m", "PEM")
    short.write_bytes(
        rsa.generate_private_key(65537, 1024).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    broken = made.read_text().replace("A", "B", 40)
    for value, word in (
        ("no key at all, and " * 5, "no private key"),
        (locked.read_text(), "passphrase"),
        (short.read_text(), "shorter than 2048"),
        (broken, "mine"),
        ((tmp_path / "long.pub").read_text(), "no private key"),
    ):
        with pytest.raises(SecretError, match=word) as caught:
            parse_key(secret, value)
        assert value[40:80] not in str(caught.value)


def _hashed(place: str) -> str:
    salt = b"s" * 20
    found = hmac.new(salt, place.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(found).decode()}"


@pytest.mark.parametrize(
    ("hosts", "port", "known"),
    [
        ("a.example", 22, True),
        ("A.Example,b", 22, True),
        ("*.example", 22, True),
        ("?.example", 22, True),
        ("*.example,!a.example", 22, False),
        ("b.example", 22, False),
        ("a.example", 2222, False),
        ("[a.example]:2222", 2222, True),
        ("[a.example]:2222", 22, False),
        ("[*.example]:2222", 2222, True),
        (_hashed("a.example"), 22, True),
        (_hashed("[a.example]:2222"), 2222, True),
        (_hashed("b.example"), 22, False),
        ("|1|x|y", 22, False),
        ("@cert-authority a.example", 22, False),
        ("@revoked a.example", 22, False),
        ("# a.example", 22, False),
    ],
)
def test_known_hosts_are_read_as_ssh_reads_them(
    tmp_path: Path, hosts: str, port: int, known: bool
) -> None:
    host, file = Host(tmp_path, "one"), tmp_path / "known"
    file.write_text(f"\n{hosts} {host.line}\nno line\nx ssh-rsa !!!\n")
    secret = Secret("mine", "env:A", hosts=["a@a.example"], known_hosts=str(file))
    if known:
        assert known_keys(secret, "a.example", port) == (host.blob,)
        file.write_text(f"{file.read_text()}@revoked * {host.line}\n")
    with pytest.raises(SecretError, match="ssh-keyscan"):
        known_keys(secret, "a.example", port)


def test_a_key_that_is_not_whole_is_not_known(tmp_path: Path) -> None:
    host, file = Host(tmp_path, "one"), tmp_path / "known"
    kind, whole = host.line.split()[:2]
    secret = Secret("mine", "env:A", hosts=["a@a.example"], known_hosts=str(file))
    for line in (f"{kind} AAAA", f"{kind} {whole[:8]}", f"ssh-rsa {whole}"):
        file.write_text(f"a.example {line}\n")
        with pytest.raises(SecretError, match="ssh-keyscan"):
            known_keys(secret, "a.example", 22)


def test_what_is_not_known_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    key = keygen(tmp_path / "key")
    for known, word in ((str(tmp_path / "none"), "cannot be read"), (str(key), "ssh-keyscan")):
        secret = Secret("mine", f"file:{key}", hosts=["git@a.example"], known_hosts=known)
        with pytest.raises(SecretError, match=word):
            gateway(secret)


# -- how it is said --------------------------------------------------------------------------


def test_the_short_form() -> None:
    found = Secret.parse("deploy=ssh:file:~/.ssh/a@b@git@github.com,git@gitlab.com:2222=10.0.0.0/8")
    hosts = ["git@github.com", "git@gitlab.com:2222=10.0.0.0/8"]
    assert found == Secret("deploy", "file:~/.ssh/a@b", hosts=hosts)
    assert found.signs and not found.env
    assert Secret.parse("deploy=ssh:env:KEY@git@a.org") == Secret(
        "deploy", env="KEY", hosts=["git@a.org"]
    )
    assert Secret("deploy", "ssh:env:KEY", hosts=["git@a.org"]).source == "env:KEY"
    assert not Secret.parse("key=command:op read me@corp@api.example").signs
    argv = Secret("a", ["op", "read", "x@y"], hosts=["git@a.org"], known_hosts="/a b;c")
    for secret in (found, argv):
        assert Secret.parse(str(secret)) == secret


WRONG: dict[str, dict[str, object]] = {
    "half of them": {"hosts": ["git@a.org", "b.org"]},
    "two users": {"hosts": ["a@b@c.org"]},
    "an empty user": {"hosts": ["@c.org"]},
    "a pattern": {"hosts": ["*@c.org"]},
    "an option of ssh's": {"hosts": ["-oProxyCommand=x@c.org"]},
    "a header": {"header": "X"},
    "paths": {"paths": ["/a"]},
    "a variable": {"env": "OTHER"},
    "a prefix": {"prefix": "sk-"},
    "a value's file of hosts": {"hosts": ["a.org"], "known_hosts": "/a"},
    "no user": {"hosts": ["a.org"], "source": "ssh:env:A"},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)
def test_what_is_no_key_for_logins_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Secret(**{"name": "a", "source": "env:A", "hosts": ["git@a.org"], **fields})  # type: ignore[arg-type]


def test_a_host_is_for_ssh_or_for_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "a-value-of-16-ch")
    both = Secret("a", "env:A", hosts=["a.org:22"]), Secret("b", "env:A", hosts=["git@a.org"])
    with pytest.raises(ConfigError, match="its own port"):
        gateway(*both)


def test_more_hosts_than_there_are_places_for_is_refused(tmp_path: Path) -> None:
    secret = Secret("a", f"file:{keygen(tmp_path / 'key')}", hosts=[f"a@h{n}" for n in range(61)])
    with pytest.raises(ConfigError, match="60 are the most"):
        gateway(secret)


def test_a_host_with_two_ports_is_one_host(tmp_path: Path) -> None:
    """For ssh, which looks for settings by the name alone."""
    host, known = Host(tmp_path, "one"), tmp_path / "known"
    known.write_text(f"a.example,[a.example]:2222 {host.line}\n")
    hosts = ["git@a.example", "git@a.example:2222"]
    source = f"file:{keygen(tmp_path / 'key')}"
    served = gateway(Secret("a", source, hosts=hosts, known_hosts=str(known)))
    assert served.opener is not None and served.opener.desk is not None
    addresses = {("a.example", 22): ("127.0.0.2", 999), ("a.example", 2222): ("127.0.0.2", 2222)}
    config, texts = served.opener.desk.files("/tmp/x", "/tmp/y", addresses)
    assert texts[config].count(b"Host ") == 1 and b"Port 999" in texts[config]
    assert set(texts["/tmp/x.known_hosts"].decode().splitlines()) == {
        f"a.example {host.line.rpartition(' ')[0] if host.line.count(' ') > 1 else host.line}"
    }


def test_a_source_is_read_by_one_at_a_time(tmp_path: Path) -> None:
    """However many programs ask."""
    host, known = Host(tmp_path, "one"), tmp_path / "known"
    known.write_text(f"a.example {host.line}\n")
    text = keygen(tmp_path / "key").read_text()
    at_once, most = [0], [0]

    def source() -> str:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.02)
        at_once[0] -= 1
        return text

    secret = Secret("a", source, hosts=["a@a.example"], known_hosts=str(known), cache_seconds=0)
    opener = gateway(secret).opener
    assert opener is not None
    desk = opener.desk
    assert isinstance(desk, Desk)
    threads = [threading.Thread(target=desk.keys, args=(None,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1]
