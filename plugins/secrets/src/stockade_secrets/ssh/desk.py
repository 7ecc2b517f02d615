"""All keys of one session that sign: where they sign, and what programs inside are given."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from stockade.config import Secret
from stockade.errors import SecretError
from stockade.toolkit.egress import Limits, RefusedError
from stockade.wall import RequestWatch
from stockade_secrets.ssh.agent import Agent, Bound
from stockade_secrets.ssh.greeting import Greeting
from stockade_secrets.ssh.keys import Key, parse_key
from stockade_secrets.ssh.known import known_keys
from stockade_secrets.ssh.wire import Fields
from stockade_secrets.vault import read

__all__ = ["Desk"]

_log = logging.getLogger(__name__)

_Place = tuple[str, int]
#: For one host; ``ssh`` heeds what comes first.
_CONFIG = """\
Host {name}
  HostName {address}
  Port {port}
  HostKeyAlias {name}
  UserKnownHostsFile {known}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  UpdateHostKeys no
  IdentityAgent {agent}
  ServerAliveInterval 30
"""


@attrs.define(repr=False)
class _Kept:
    key: Key
    until: float


class Desk:
    """See :class:`stockade.toolkit.egress.Desk`."""

    def __init__(
        self,
        secrets: Mapping[_Place, Sequence[tuple[Secret, str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``secrets``: by name and port of a host, each with a user that it signs for. Reads every
        key, and what is known of the hosts, so that what is missing is an error before anything
        starts. Raises SecretError."""
        self._secrets = secrets
        self._clock = clock
        self._lock = threading.Lock()
        names = {secret.name for those in secrets.values() for secret, _ in those}
        self._reading = {name: threading.Lock() for name in names}
        self._kept: dict[str, _Kept] = {}
        self._open: dict[bytes, Bound] = {}  # by the server's signature
        #: By secret and host the keys that the host has.
        self._known: dict[tuple[str, _Place], tuple[bytes, ...]] = {}
        for place, those in secrets.items():
            for secret, _ in those:
                self._known[secret.name, place] = known_keys(secret, *place)
                self._key(secret)

    @property
    def places(self) -> Sequence[_Place]:
        return tuple(self._secrets)

    # -- tunnels ---------------------------------------------------------------------

    @contextlib.contextmanager
    def tunnel(self, name: str, port: int) -> Iterator[Greeting]:
        """What watches a server in a tunnel to that host, which counts as open meanwhile."""
        mine: list[Bound] = []

        def shown(key: bytes, signature: bytes) -> None:
            of_host = (self._known[secret.name, (name, port)] for secret in self._of(name, port))
            if not any(key in known for known in of_host):
                raise RefusedError(
                    f"the server shows a key that is not known as one of {name}'s: "
                    "nobody was logged in"
                )
            bound = Bound(name, port, key, signature)
            with self._lock:
                if signature in self._open:
                    raise RefusedError("the server shows the same signature twice")
                self._open[signature] = bound
            mine.append(bound)

        try:
            yield Greeting(shown)
        finally:
            with self._lock:
                for bound in mine:
                    self._open.pop(bound.signature, None)

    def _of(self, name: str, port: int) -> list[Secret]:
        return list(dict.fromkeys(secret for secret, _ in self._secrets[name, port]))

    # -- what agents ask -------------------------------------------------------------

    def tunnel_of(self, signature: bytes) -> Bound | None:
        with self._lock:
            return self._open.get(signature)

    def keys(self, bound: Bound | None) -> list[tuple[Secret, Key]]:
        places = self._secrets if bound is None else [(bound.name, bound.port)]
        found: list[tuple[Secret, Key]] = []
        for secret in dict.fromkeys(one for place in places for one in self._of(*place)):
            try:
                found.append((secret, self._key(secret)))
            except SecretError as error:
                _log.warning("%s", error)
        return found

    def users(self, secret: Secret, bound: Bound) -> list[str]:
        place = bound.name, bound.port
        if bound.key not in self._known.get((secret.name, place), ()):
            return []
        return [user for known, user in self._secrets[place] if known == secret]

    def serve(self, program: socket.socket, watch: RequestWatch, limits: Limits) -> None:
        """Be the agent of one connection, until it ends. Never raises."""
        Agent(self, watch).serve(program, limits)

    def _key(self, secret: Secret) -> Key:
        """Read when it is needed, and kept for the secret's time. Raises SecretError."""
        # One at a time: how often a program asks is its own choice, and a source may be a command.
        with self._reading[secret.name]:
            kept = self._kept.get(secret.name)
            if kept is None or kept.until <= self._clock():
                key = parse_key(secret, read(secret))
                kept = _Kept(key, self._clock() + secret.cache_seconds)
                self._kept[secret.name] = kept
            return kept.key

    # -- what programs inside are given ------------------------------------------------

    def files(
        self, folder: str, agent: str, addresses: Mapping[_Place, tuple[str, int]]
    ) -> tuple[str, dict[str, bytes]]:
        """The path of ssh's configuration, and what is to be written, by path. ``addresses``:
        where inside each host is reached; ``agent``: the path of the agent's socket."""
        known = f"{folder}.known_hosts"
        hosts: dict[str, str] = {}
        lines = []
        for place, (address, port) in addresses.items():
            # Of a host with several ports the first is the one of logins that name none.
            hosts.setdefault(
                place[0],
                _CONFIG.format(name=place[0], address=address, port=port, known=known, agent=agent),
            )
            keys = dict.fromkeys(
                key for one in self._of(*place) for key in self._known[one.name, place]
            )
            lines += [f"{place[0]} {_line(key)}" for key in keys]
        return f"{folder}.config", {
            known: "".join(f"{line}\n" for line in lines).encode(),
            f"{folder}.config": "".join(hosts.values()).encode(),
        }


def _line(key: bytes) -> str:
    return f"{Fields(key).text().decode('ascii', 'replace')} {base64.b64encode(key).decode()}"
