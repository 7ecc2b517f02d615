"""What a server keeps on disk, so that its next start finds durable sandboxes again.

A folder, for its user alone: a file for each durable sandbox, one random secret, a lock. Tokens are
made of the secret and the sandbox's id, so none is kept. Variables of a caller's are, since later
commands need them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
from typing import Any

import attrs

from stockade.config import Limits
from stockade.errors import ConfigError
from stockade_server.errors import Refused
from stockade_server.network import Rules
from stockade_server.wanted import Wanted

__all__ = ["Record", "State"]

_log = logging.getLogger("stockade.server")

_VERSION = 1
_NAME = re.compile(r"[a-z0-9-]{16,64}\.json")
_MOST_BYTES = 4 << 20


@attrs.frozen(kw_only=True)
class Record:
    """One durable sandbox."""

    sandbox_id: str
    owner: str
    template: str  #: its name
    wanted: Wanted = attrs.field(repr=False)
    started_at: float  #: Unix time
    ends_at: float  #: Unix time
    latest_end: float  #: past which it cannot be kept
    limits: Limits | None = None  #: None while it is being made
    #: Whether somebody was handed it. Of one that was being made nobody knows.
    handed: bool = True

    def text(self) -> str:
        wanted = attrs.asdict(self.wanted, filter=lambda field, _: field.name != "snapshot")
        fields = attrs.asdict(self, recurse=False)
        limits = None if self.limits is None else attrs.asdict(self.limits)
        return json.dumps({**fields, "wanted": wanted, "limits": limits, "version": _VERSION})

    @classmethod
    def of(cls, text: str) -> Record:
        """Raises ValueError, TypeError or KeyError for what is none."""
        fields: dict[str, Any] = json.loads(text)
        if fields.pop("version") != _VERSION:
            raise ValueError("another version of stockade-server wrote it")
        wanted = fields.pop("wanted")
        rules = wanted.pop("rules")
        hosts = rules.pop("hosts")
        rules = Rules(hosts=None if hosts is None else tuple(hosts), **rules)
        limits = fields.pop("limits")
        limits = None if limits is None else Limits(**limits)
        return cls(wanted=Wanted(rules=rules, **wanted), limits=limits, **fields)


class State:
    """The folder of one server. Without a path nothing is kept, and tokens are this start's."""

    def __init__(self, path: str | None) -> None:
        """Raises ConfigError where the folder cannot be used, or is another server's."""
        self._path = path
        self._lock: int | None = None
        self._secret = secrets.token_bytes(32)
        if path is None:
            return
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            self._check(path)
            self._lock = _locked(path)
            self._secret = _secret_in(path)
        except OSError as error:
            raise ConfigError(
                f"the folder {path} cannot be used: {error.strerror}; name another as state."
            ) from None

    @staticmethod
    def _check(path: str) -> None:
        info = os.stat(path)
        if info.st_uid != os.geteuid():
            raise ConfigError(f"the folder {path} is user {info.st_uid}'s; name one of your own.")
        if stat.S_IMODE(info.st_mode) & 0o077:
            raise ConfigError(f"others may look into {path}; run: chmod 700 {path}")

    @property
    def keeps(self) -> bool:
        """Whether there is a folder."""
        return self._path is not None

    def token(self, kind: str, sandbox_id: str) -> str:
        """That of a sandbox for one kind of use; the same after a restart."""
        words = f"{kind}:{sandbox_id}".encode()
        return hmac.new(self._secret, words, hashlib.sha256).hexdigest()

    # -- records --------------------------------------------------------------------

    def write(self, record: Record) -> None:
        """Keep a record, whole or not at all: a process that is killed leaves no half of one.

        Raises Refused where it cannot be written; the log says why.
        """
        if self._path is None:
            return
        target = self._place(record.sandbox_id)
        half = f"{target}.new"
        try:
            with open(half, "w", encoding="utf-8", opener=_private) as file:
                file.write(record.text())
            os.replace(half, target)
        except OSError as error:
            _log.error("%s cannot be written: %s", target, error.strerror)
            raise Refused(503, "the server cannot keep the sandbox; its log says why") from None

    def remove(self, sandbox_id: str) -> None:
        """Forget a record; where there is none, nothing."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.remove(self._place(sandbox_id))

    def records(self) -> list[Record]:
        """All that are kept. What is none is left where it is, and logged."""
        found: list[Record] = []
        try:
            names = sorted(os.listdir(self._path)) if self._path is not None else []
        except OSError as error:
            _log.error("%s cannot be read: %s", self._path, error.strerror)
            return []
        for name in names:
            if _NAME.fullmatch(name):
                place = os.path.join(self._path or "", name)
                try:
                    with open(place, encoding="utf-8") as file:
                        found.append(Record.of(file.read(_MOST_BYTES)))
                except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                    _log.error("%s is no record of a sandbox: %s", place, error)
        return found

    def _place(self, sandbox_id: str) -> str:
        name = f"{sandbox_id}.json"
        assert _NAME.fullmatch(name), sandbox_id  # ids are core's own
        return os.path.join(self._path or "", name)

    def close(self) -> None:
        """Let another server have the folder; may be called again."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _locked(path: str) -> int:
    """The kernel lets go of it when the process ends, however it ends."""
    lock = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(
            f"another server uses the folder {path}; end it, or name another folder as state."
        ) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _secret_in(path: str) -> bytes:
    place = os.path.join(path, "secret")
    with contextlib.suppress(FileNotFoundError):
        with open(place, "rb") as file:
            found = file.read(64)
        if len(found) != 32:
            raise ConfigError(f"{place} is no secret of a server; remove it, and tokens are new.")
        return found
    made = secrets.token_bytes(32)
    half = f"{place}.new"
    with open(half, "wb", opener=_private) as file:
        file.write(made)
    os.replace(half, place)
    return made
