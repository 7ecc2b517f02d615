"""One session: one pod, whose program is the supervisor, over one attached connection."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

from stockade.errors import DestroyError, SandboxLostError
from stockade.toolkit.egress import WayOut
from stockade.toolkit.supervised import Link, LinkLost, SupervisedSandbox
from stockade.wall import OpenRequest
from stockade_kubernetes import minding
from stockade_kubernetes.cluster import Cluster, ClusterError
from stockade_kubernetes.deaths import PodDeath, death_of
from stockade_kubernetes.pod import LABEL
from stockade_kubernetes.streams import PodTransport

__all__ = ["PodSandbox", "remove_pod"]

_log = logging.getLogger(__name__)

_ASK_SECONDS = 10.0
#: How long a kubelet may take to report that a container has ended.
_SETTLE_SECONDS = 5.0
_REMOVE_SECONDS = 20.0
#: How long a node may take to end a pod, and how often it is asked.
_NODE_SECONDS = 10.0
_LOOK_SECONDS = 0.2


def remove_pod(cluster: Cluster, name: str, uid: str = "", *, certain: bool = False) -> None:
    """Delete a pod; gone already is well too. Raises DestroyError.

    At once, and its node ends it a moment later; ``certain``: first wait until the node says
    that it is over, for a pod that others use too.
    """
    body: dict[str, Any] = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
    if uid:
        body["preconditions"] = {"uid": uid}
    path = f"{cluster.pods}/{name}"
    try:
        if certain:
            cluster.ask("DELETE", path, {**body, "gracePeriodSeconds": 1}, seconds=_REMOVE_SECONDS)
            _until_gone(cluster, path, uid)
        cluster.ask("DELETE", path, body, seconds=_REMOVE_SECONDS)
    except ClusterError as error:
        # 409: it is another pod by now, of the same name.
        if not error.gone and error.status != 409:
            raise DestroyError(
                f"the pod {name} could not be deleted: {error}; try again when the cluster answers."
            ) from error


def _until_gone(cluster: Cluster, path: str, uid: str) -> None:
    """Wait for the node's word, not for ever: it may be lost. Raises ClusterError, also where
    the pod is gone."""
    until = time.monotonic() + _NODE_SECONDS
    while time.monotonic() < until:
        if cluster.ask("GET", path, seconds=_ASK_SECONDS)["metadata"]["uid"] != uid:
            return
        time.sleep(_LOOK_SECONDS)


class PodSandbox(SupervisedSandbox):
    """Over a supervisor that has begun; whoever made the pod deletes it where this raises."""

    def __init__(
        self,
        cluster: Cluster,
        pod: Mapping[str, Any],
        transport: PodTransport,
        request: OpenRequest,
        *,
        shared: bool,
    ) -> None:
        """``shared``: others may use the pod too. Raises LinkLost."""
        self.cluster = cluster
        self.transport = transport
        self.name: str = pod["metadata"]["name"]
        self.uid: str = pod["metadata"]["uid"]
        self.owner_label: str = pod["metadata"]["labels"][f"{LABEL}owner"]
        self._shared = shared
        self._seen_dead: PodDeath | None = None
        # What an attached container writes goes through its log, line by line.
        transport.one_line = not shared
        link = Link(transport)
        try:
            link.begin_handshake()
            super().__init__(link, startup_seconds=request.config.startup_timeout_seconds)
        except BaseException:
            link.close()
            raise

    def complete(self, request: OpenRequest, way_out: WayOut | None) -> None:
        """What a session has beside programs. Raises SandboxStartError."""
        if way_out is not None:
            self.open_egress(way_out)
        if request.config.ports:
            self.publish(request.config.ports)
        if not self._shared:
            self.expire_at(request.expires_at)
        minding.begin(self.cluster, self)

    # -- what SupervisedSandbox asks for -----------------------------------------------

    def post_mortem(self, *, settle: bool) -> PodDeath | None:
        if self._seen_dead is not None:
            return self._seen_dead
        until = time.monotonic() + (_SETTLE_SECONDS if settle else 0.0)
        while True:
            try:
                pod = self._pod()
            except ClusterError as error:
                return PodDeath(f"the cluster does not answer: {error}")
            if found := death_of(pod):
                return found
            if time.monotonic() > until:
                return None
            time.sleep(0.1)

    def _pod(self) -> Any:
        """What the API server says of it; None where it is gone. Raises ClusterError."""
        try:
            found = self.cluster.ask(
                "GET", f"{self.cluster.pods}/{self.name}", seconds=_ASK_SECONDS
            )
        except ClusterError as error:
            if error.gone:
                return None
            raise
        return found if found["metadata"]["uid"] == self.uid else None

    def see(self, pod: Mapping[str, Any] | None) -> None:
        """What the API server says of it now; None: it has no such pod. Never raises."""
        found = death_of(pod)
        if found is not None and not self.link.lost:
            self._seen_dead = found
            self.link.fail(LinkLost(found.reason))

    def mourn(self, why: str) -> None:
        """Nothing can come of it any more; never raises."""
        self.link.fail(LinkLost(why))

    def loss(self, error: BaseException) -> SandboxLostError:
        lost = super().loss(error)
        kind = getattr(self._death, "error", SandboxLostError)
        return lost if kind is SandboxLostError else kind(*lost.args)

    def force_end(self) -> None:
        with contextlib.suppress(DestroyError):
            remove_pod(self.cluster, self.name, self.uid)

    def release(self) -> None:
        minding.end(self.cluster, self)
        super().release()

    def detach(self) -> None:
        self.transport.wind_down(1.0)
        self.release()

    def destroy(self) -> None:
        remove_pod(self.cluster, self.name, self.uid, certain=self._shared)
