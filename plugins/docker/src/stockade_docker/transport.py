"""Clients of docker-py over connections that are real sockets, and are closed in the end.

docker-py forgets a local socket on which nobody answers: it stays open until the garbage
collector finds it, in whatever code runs by then. Over ssh it hands out no socket at
all, but pipes that know no timeout. Both are replaced here; TLS is docker-py's own.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import urllib.parse
from collections.abc import Callable
from typing import Any

import docker
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
from requests.adapters import HTTPAdapter

from stockade.errors import ConfigError
from stockade.system.threads import start_thread

__all__ = ["REMOTE", "make", "ssh_command"]

#: What docker-py takes the address of an engine behind ssh for.
REMOTE = "http+docker://remote"
_SCHEME = "http+docker://"


def _local(path: str, timeout: Any) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(timeout)
        made.connect(path)
    except BaseException:
        made.close()
        raise
    return made


def ssh_command(url: str) -> list[str]:
    """What reaches the engine's socket on the other machine, as the docker command does."""
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname or parts.password or parts.path.strip("/") or parts.query:
        raise ConfigError(f"engine={url!r:.200}: ssh://[USER@]HOST[:PORT] is needed, and no more.")
    words = ["ssh", "-T", "-o", "ConnectTimeout=30"]
    words += ["-l", urllib.parse.unquote(parts.username)] if parts.username else []
    words += ["-p", str(parts.port)] if parts.port else []
    return [*words, "--", parts.hostname, "docker", "system", "dial-stdio"]


def _through(command: list[str], timeout: Any) -> socket.socket:
    """A program's standard streams as a socket: it has timeouts, and can be waited for."""
    ours, theirs = socket.socketpair()
    try:
        # A session of its own: Ctrl-C is for this program, whose sessions end over it.
        end = theirs.fileno()
        process = subprocess.Popen(command, stdin=end, stdout=end, start_new_session=True)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    try:
        start_thread(threading.Thread(target=process.wait, daemon=True, name="stockade-ssh"))
    except BaseException:
        process.kill()
        process.wait()
        ours.close()
        raise
    ours.settimeout(timeout)
    return ours


class _Connection(UnixHTTPConnection):
    reach: Callable[[Any], socket.socket]

    def connect(self) -> None:
        self.sock = self.reach(self.timeout)


class _Pool(UnixHTTPConnectionPool):
    reach: Callable[[Any], socket.socket]

    def _new_conn(self) -> Any:
        timeout: Any = self.timeout
        made = _Connection(self.base_url, self.socket_path, timeout)
        made.reach = self.reach
        return made


class _Adapter(UnixHTTPAdapter):
    reach: Callable[[Any], socket.socket]

    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        # One pool for all: docker-py has one for each container's every path, so that a
        # connection was kept for each and used again by none.
        with self.pools.lock:
            pool: Any = self.pools.get(_SCHEME)
            if pool is None:
                pool = _Pool(_SCHEME, self.socket_path, self.timeout, maxsize=self.max_pool_size)
                pool.reach = self.reach
                self.pools[_SCHEME] = pool
            return pool


class _Pinned(HTTPAdapter):
    """With the authority that was named, whatever REQUESTS_CA_BUNDLE says."""

    def __init__(self, client: Any, pool: int) -> None:
        super().__init__(pool, pool)
        self._trust = {"verify": client.verify, "cert": client.cert}

    def send(self, *args: Any, **options: Any) -> Any:
        return super().send(*args, **{**options, **self._trust})


def make(
    base_url: str | None = None, *, version: str, timeout: float, pool: int, tls: Any = None
) -> docker.APIClient:
    """A client that speaks ``version``; nothing is asked yet. Raises ConfigError, and what
    docker-py raises for what is no address."""
    command = ssh_command(base_url) if base_url and base_url.startswith("ssh://") else None
    client: Any = docker.APIClient(
        "unix:///over-ssh" if command else base_url,
        version=version,
        timeout=timeout,  # type: ignore[arg-type]
        tls=tls or False,
        user_agent="stockade",
        num_pools=pool,
        max_pool_size=pool,
    )
    theirs = client.adapters.get(_SCHEME)
    if isinstance(theirs, UnixHTTPAdapter):
        path = theirs.socket_path
        ours = _Adapter(path, timeout, pool, pool)  # type: ignore[arg-type]
        ours.reach = lambda seconds: (
            _through(command, seconds) if command else _local(path, seconds)
        )
        client._custom_adapter = ours
        client.mount(_SCHEME, ours)
        theirs.close()
        client.base_url = REMOTE if command else client.base_url
    else:
        client.mount(client.base_url, _Pinned(client, pool) if tls else HTTPAdapter(pool, pool))
    made: docker.APIClient = client
    return made
