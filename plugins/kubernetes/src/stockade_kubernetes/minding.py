"""One thread of a process looks after all its pods in a cluster.

A stream shows the end of a container, but not that of its node: then nothing comes any more.
And proxies on the way end a connection that is silent. So each stream is asked for a sign of
life, and the API server, in one call for all, what has become of the pods.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any, Protocol

from stockade.system.forks import FreshLock, in_child
from stockade.system.threads import start_thread
from stockade_kubernetes.cluster import Cluster, ClusterError
from stockade_kubernetes.pod import LABEL
from stockade_kubernetes.streams import PodTransport

__all__ = ["begin", "end", "listed"]

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 15.0
#: So long a stream may be silent although it was asked.
_SILENT_SECONDS = 45.0
_ASK_SECONDS = 20.0
_PAGE = 500


class Minded(Protocol):
    """What is looked after: a session's sandbox."""

    uid: str
    owner_label: str
    transport: PodTransport

    def mourn(self, why: str) -> None: ...

    def see(self, pod: Mapping[str, Any] | None) -> None: ...


_lock = FreshLock()
_minders: weakref.WeakKeyDictionary[Cluster, _Minder] = weakref.WeakKeyDictionary()


def _forget() -> None:
    _minders.clear()


in_child(_forget)


def begin(cluster: Cluster, sandbox: Minded) -> None:
    """Look after it from now on."""
    with _lock:
        minder = _minders.get(cluster)
        if minder is None:
            minder = _minders[cluster] = _Minder(cluster)
        minder.begin(sandbox)


def end(cluster: Cluster, sandbox: Minded) -> None:
    """Its session is over."""
    with _lock:
        minder = _minders.get(cluster)
        if minder is not None:
            minder.end(sandbox)


def listed(cluster: Cluster, selector: str) -> list[Any]:
    """All pods with these labels, in pages. Raises ClusterError."""
    found: list[Any] = []
    query: dict[str, Any] = {"labelSelector": selector, "limit": _PAGE}
    while True:
        said = cluster.ask("GET", cluster.pods, query=query, seconds=_ASK_SECONDS)
        found += said["items"]
        following = (said.get("metadata") or {}).get("continue")
        if not following:
            return found
        query = {**query, "continue": following}


class _Minder:
    def __init__(self, cluster: Cluster) -> None:
        # The registry of minders is weak in the cluster, which sessions hold.
        self._cluster = weakref.ref(cluster)
        # Several may be of one pod: a durable one that this process attached to again.
        self._all: set[Minded] = set()
        self._wake = threading.Condition()
        self._runs = False

    def begin(self, sandbox: Minded) -> None:
        with self._wake:
            if not self._runs:
                start_thread(
                    threading.Thread(target=self._run, daemon=True, name="stockade-kubernetes")
                )
                self._runs = True
            self._all.add(sandbox)

    def end(self, sandbox: Minded) -> None:
        with self._wake:
            self._all.discard(sandbox)
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                until = time.monotonic() + _LOOK_SECONDS
                while self._all and time.monotonic() < until:
                    self._wake.wait(until - time.monotonic())
                if not self._all:
                    self._runs = False
                    return
                sandboxes = list(self._all)
            self._look(sandboxes)

    def _look(self, sandboxes: list[Minded]) -> None:
        for sandbox in sandboxes:
            if time.monotonic() - sandbox.transport.heard > _SILENT_SECONDS:
                sandbox.mourn("nothing is heard of it any more")
                continue
            with contextlib.suppress(OSError):
                sandbox.transport.ping()
        cluster = self._cluster()
        if cluster is None:
            return
        owners = {sandbox.owner_label for sandbox in sandboxes}
        try:
            selector = f"{LABEL}owner in ({','.join(sorted(owners))})"
            found = {pod["metadata"]["uid"]: pod for pod in listed(cluster, selector)}
        except ClusterError as error:
            _log.debug("the pods could not be looked at: %s", error)
            return
        for sandbox in sandboxes:
            sandbox.see(found.get(sandbox.uid))
