"""Which keys a host has, by the files of this machine's user (``known_hosts``)."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterator

from stockade.config import Secret
from stockade.errors import SecretError
from stockade_secrets.ssh.wire import Fields, MalformedError

__all__ = ["known_keys"]

_USUAL = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts")
_PORT = 22
_MAX_BYTES = 16 << 20
_REVOKED = "@revoked"


def known_keys(secret: Secret, name: str, port: int) -> tuple[bytes, ...]:
    """The keys of a host, as they travel: of the secret's own file, else of the usual ones.

    Keys that are revoked are none, and authorities for hosts' keys do not count. Raises
    SecretError where there is none, or the file cannot be read.
    """
    place = name if port == _PORT else f"[{name}]:{port}"
    found: dict[bytes, None] = {}
    revoked: set[bytes] = set()
    for marker, kind, key in _lines(secret, place):
        if marker == _REVOKED:
            revoked.add(key)
        elif not marker and _is_of(key, kind):
            found[key] = None
    keys = tuple(key for key in found if key not in revoked)
    if not keys:
        port_word = "" if port == _PORT else f"-p {port} "
        raise SecretError(
            f"the secret {secret.name!r} cannot be used: {_places(secret)} names no key of {place}."
            f" Look at what ssh-keyscan {port_word}{name} says, and keep it there if it is right."
        )
    return keys


def _places(secret: Secret) -> str:
    return secret.known_hosts or _USUAL[0]


def _is_of(key: bytes, kind: str) -> bool:
    """Whether it begins with its kind, as a key that was cut does not."""
    try:
        return Fields(key).text() == kind.encode()
    except MalformedError:
        return False


def _lines(secret: Secret, place: str) -> Iterator[tuple[str, str, bytes]]:
    """Marker, kind and key of each line about that host that has all of them."""
    for text in _texts(secret):
        for line in text.splitlines():
            words = line.split()
            marker = words.pop(0) if words and words[0].startswith("@") else ""
            if len(words) < 3 or words[0].startswith("#") or not _names(words[0], place):
                continue
            try:
                yield marker, words[1], base64.b64decode(words[2], validate=True)
            except binascii.Error:
                continue


def _texts(secret: Secret) -> Iterator[str]:
    for path in (secret.known_hosts,) if secret.known_hosts else _USUAL:
        try:
            with open(os.path.expanduser(path), encoding="utf-8", errors="replace") as file:
                yield file.read(_MAX_BYTES)
        except OSError as error:
            if secret.known_hosts:
                raise SecretError(
                    f"the secret {secret.name!r} cannot be used: the file {path} cannot be read: "
                    f"{error.strerror}."
                ) from None


def _names(hosts: str, place: str) -> bool:
    """Whether a line is about that host: patterns, one that begins with ``!`` above all."""
    if hosts.startswith("|1|"):
        return _hashed(hosts, place)
    patterns = [pattern.lower() for pattern in hosts.split(",")]
    if any(_like(place, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_like(place, pattern) for pattern in patterns)


def _like(place: str, pattern: str) -> bool:
    """With ``*`` and ``?``; brackets stand for themselves."""
    if "*" not in pattern and "?" not in pattern:  # nearly all, and compiling each takes its time
        return place == pattern
    return fnmatch.fnmatchcase(place, pattern.replace("[", "[[]"))


def _hashed(hosts: str, place: str) -> bool:
    try:
        salt, known = (base64.b64decode(word, validate=True) for word in hosts.split("|")[2:4])
    except ValueError:
        return False
    found = hmac.new(salt, place.encode(), hashlib.sha1).digest()
    return hmac.compare_digest(found, known)
