"""docker-py's way over a local socket, closing what it could not connect.

docker-py forgets a socket on which nobody answers: it stays open until the garbage
collector finds it, in whatever code runs by then.
"""

from __future__ import annotations

import socket
from typing import Any

import docker
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool

__all__ = ["make"]

_SCHEME = "http+docker://"


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(self.timeout)
            made.connect(self.unix_socket)
        except BaseException:
            made.close()
            raise
        self.sock = made


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        timeout: Any = self.timeout
        return _Connection(self.base_url, self.socket_path, timeout)


class _Adapter(UnixHTTPAdapter):
    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        with self.pools.lock:
            pool: Any = self.pools.get(url)
            if pool is None:
                pool = _Pool(url, self.socket_path, self.timeout, maxsize=self.max_pool_size)
                self.pools[url] = pool
            return pool


def make(**settings: Any) -> docker.APIClient:
    """A client; ``version`` must be among the settings, so that it asks nothing yet."""
    client: Any = docker.APIClient(**settings)
    theirs = client.adapters.get(_SCHEME)
    if isinstance(theirs, UnixHTTPAdapter):
        ours = _Adapter(
            theirs.socket_path, theirs.timeout, settings["num_pools"], theirs.max_pool_size
        )
        client._custom_adapter = ours
        client.mount(_SCHEME, ours)
        theirs.close()
    made: docker.APIClient = client
    return made
