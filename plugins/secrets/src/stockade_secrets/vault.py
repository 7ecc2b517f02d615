"""Values, read when they are needed and kept for a stated time, in this process's memory alone."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

import attrs

from stockade.config import Secret
from stockade.errors import SecretError
from stockade.system.installing import install

__all__ = ["Vault", "read"]

_COMMAND_SECONDS = 30.0
#: A shorter one would be found by chance in answers, and guessed by trying.
_SHORTEST, _LONGEST = 8, 8192
#: Of a file; a private key is longer than a header may be.
_MAX_FILE = 64 * 1024
#: What a header can carry, whatever the server. No line break: answers are cut at these.
_PLAIN = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?\Z")
#: The newest values of a secret, which are taken out of answers: the one in use, and older ones.
_REMEMBERED = 16


@attrs.define(repr=False)
class _Kept:
    value: str
    until: float


class Vault:
    """The values of one session's secrets. Safe from any thread; shows none, and pickles not."""

    def __init__(
        self, secrets: Iterable[Secret], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._secrets = {secret.name: secret for secret in secrets}
        self._clock = clock
        self._locks = {name: threading.Lock() for name in self._secrets}
        self._kept: dict[str, _Kept] = {}
        #: By name, the one in use last; each is written by whoever holds the name's lock.
        self._known: dict[str, tuple[str, ...]] = dict.fromkeys(self._secrets, ())

    def __repr__(self) -> str:
        return f"<Vault of {', '.join(self._secrets)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("values of secrets are not pickled")

    def value(self, name: str) -> str:
        """The value of the secret of this name. Raises SecretError, which does not show it."""
        secret = self._secrets[name]
        with self._locks[name]:
            kept = self._kept.get(name)
            if kept is None or kept.until <= self._clock():
                value = _checked(secret, read(secret))
                kept = _Kept(value, self._clock() + secret.cache_seconds)
                self._kept[name] = kept
                self._remember(name, value)
            return kept.value

    def forget(self, name: str) -> None:
        """Read it anew next time: a server refused what was kept."""
        with self._locks[name]:
            self._kept.pop(name, None)

    def known(self) -> tuple[str, ...]:
        """Every value that may come back in an answer."""
        return tuple(value for values in self._known.values() for value in values)

    def _remember(self, name: str, value: str) -> None:
        older = (known for known in self._known[name] if known != value)
        self._known[name] = (*older, value)[-_REMEMBERED:]


def read(secret: Secret) -> str:
    """What the secret's source gives. Raises SecretError, which does not show it."""
    source = secret.source
    if callable(source):
        try:
            value = source()
        except Exception as error:
            # Its words may hold the value, and so may its traceback's.
            raise _failed(secret, f"its callable raised {type(error).__name__}") from None
        if not isinstance(value, str):
            raise _failed(secret, f"its callable gave {type(value).__name__} and not text")
        return value
    if (command := secret.command()) is not None:
        return _said_by(secret, command)
    assert isinstance(source, str)
    kind, _, where = source.partition(":")
    return _READERS[kind](secret, where)


def _of_environment(secret: Secret, where: str) -> str:
    try:
        return os.environ[where]
    except KeyError:
        raise _failed(secret, f"the variable {where} is not set here") from None


def _of_file(secret: Secret, where: str) -> str:
    try:
        with open(os.path.expanduser(where), "rb") as file:
            return file.read(_MAX_FILE).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise _failed(secret, f"the file {where} holds no text") from None
    except OSError as error:
        raise _failed(secret, f"the file {where} cannot be read: {error.strerror}") from None


def _of_keyring(secret: Secret, where: str) -> str:
    service, slash, user = where.rpartition("/")
    if not slash:
        raise _failed(secret, "write keyring:SERVICE/USER")
    try:
        import keyring
    except ImportError:
        raise _failed(
            secret, f"the keyring is an extra: {install('stockade-secrets', 'keyring')}"
        ) from None
    try:
        value = keyring.get_password(service, user)
    except Exception as error:
        raise _failed(secret, f"the keyring failed: {type(error).__name__}") from None
    if value is None:
        raise _failed(secret, f"the keyring has nothing for {where}")
    return str(value)


_READERS: dict[str, Callable[[Secret, str], str]] = {
    "env": _of_environment,
    "file": _of_file,
    "keyring": _of_keyring,
}


def _said_by(secret: Secret, command: tuple[str, ...]) -> str:
    """What a command prints. What it says on standard error is not repeated: nobody knows
    whether the value is in it."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        words = f"its command {command[0]!r} took longer than {_COMMAND_SECONDS:g} s"
        raise _failed(secret, words) from None
    except OSError as error:
        words = f"its command {command[0]!r} cannot be run: {error.strerror}"
        raise _failed(secret, words) from None
    if done.returncode:
        raise _failed(secret, f"its command {command[0]!r} ended with code {done.returncode}")
    try:
        return done.stdout.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise _failed(secret, f"its command {command[0]!r} printed no text") from None


def _checked(secret: Secret, value: str) -> str:
    if not _SHORTEST <= len(value) <= _LONGEST:
        raise _failed(
            secret,
            f"its value has {len(value)} characters, and {_SHORTEST} to {_LONGEST} are needed",
        )
    if not _PLAIN.match(value):
        raise _failed(secret, "its value is not one line of printable ASCII")
    return value


def _failed(secret: Secret, words: str) -> SecretError:
    return SecretError(f"the secret {secret.name!r} cannot be read: {words}.")
