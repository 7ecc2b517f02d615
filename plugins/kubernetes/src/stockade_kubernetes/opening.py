"""Sessions opened and attached to."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from stockade.errors import DestroyError, SandboxLostError, SandboxStartError, StockadeError
from stockade.toolkit.egress import WayOut
from stockade.toolkit.supervised import LinkLost
from stockade.wall import AttachRequest, OpenRequest, Sandbox
from stockade_kubernetes import inside, script, waiting
from stockade_kubernetes.cluster import Cluster, ClusterError
from stockade_kubernetes.compare import changes
from stockade_kubernetes.deaths import death_of
from stockade_kubernetes.durable import AttachedPod
from stockade_kubernetes.errors import AdmissionError
from stockade_kubernetes.pod import CONTAINER, INIT, LABEL, Shape, manifest, name_of
from stockade_kubernetes.sandbox import PodSandbox, remove_pod
from stockade_kubernetes.streams import PodTransport, attached
from stockade_kubernetes.waiting import events_of, refusal, until_runs

__all__ = ["Opening"]

_ASK_SECONDS = 20.0
#: How long what other pods there are is known.
_NEIGHBOURS_SECONDS = 60.0
_MOST_NEIGHBOURS = 16
#: So many are asked for, since some have no address yet.
_NEIGHBOURS_PAGE = 4 * _MOST_NEIGHBOURS
_POLICY_SECONDS = 600.0
_LINE_BYTES = 4096


@attrs.frozen
class Opening:
    """How one wall opens sessions in one cluster."""

    cluster: Cluster
    shape: Shape
    kind: str  #: what the pod's kernel must be: gvisor, kata, node
    probe_seconds: float

    def opened(self, request: OpenRequest, way_out: WayOut | None) -> Sandbox:
        """A new pod with its supervisor. Raises as ``Wall.open``, and leaves none (C5)."""
        until = time.monotonic() + request.config.startup_timeout_seconds
        if _closed(request):
            self._have_policy()
        pod = self._made(request, until)
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        try:
            sandbox = self._started(request, pod, way_out, until)
        except BaseException as error:
            with contextlib.suppress(DestroyError):  # gc finds it
                remove_pod(self.cluster, name, uid)
            if isinstance(error, ClusterError):
                said = events_of(self.cluster, pod)
                raise SandboxStartError(f"the pod could not be reached: {error}.{said}") from error
            raise
        return AttachedPod(self.cluster, name, uid, sandbox) if request.config.durable else sandbox

    def attached(self, request: AttachRequest, way_out: WayOut | None) -> Sandbox:
        """Over a pod that runs already. Raises as ``Wall.attach``."""
        name = name_of(request.session_id)
        try:
            pod = self.cluster.ask("GET", f"{self.cluster.pods}/{name}", seconds=_ASK_SECONDS)
        except ClusterError as error:
            if error.gone:
                raise SandboxLostError(
                    f"the pod of session {request.session_id} is gone; open a new session."
                ) from None
            raise SandboxStartError(f"the cluster does not answer: {error}.") from error
        if dead := death_of(pod):
            raise SandboxLostError(f"{dead.reason}; destroy the session and open a new one.")

        def reach() -> PodSandbox:
            until = time.monotonic() + request.config.startup_timeout_seconds
            try:
                return self._joined(request, pod, way_out, until)
            except SandboxLostError:
                raise
            except (ClusterError, StockadeError) as error:
                raise SandboxLostError(
                    f"the pod does not answer: {error}; destroy the session and open a new one."
                ) from error

        return AttachedPod(self.cluster, name, pod["metadata"]["uid"], reach)

    # -- making it -------------------------------------------------------------------

    def _made(self, request: OpenRequest, until: float) -> Any:
        """The pod as the cluster took it, which is as it was sent (or it is removed)."""
        sent = manifest(request, self.shape)
        name = sent["metadata"]["name"]
        left = max(1.0, until - time.monotonic())
        try:
            got = self.cluster.ask("POST", self.cluster.pods, sent, seconds=left)
        except ClusterError as error:
            got = self._made_already(name, request) if error.reason == "AlreadyExists" else None
            if got is None:
                if error.soon and not error.unreached:
                    # Whether it came to be is not known.
                    with contextlib.suppress(DestroyError):
                        remove_pod(self.cluster, name)
                raise refusal(error) from error
        try:
            self._check_unchanged(sent, got)
        except BaseException:
            with contextlib.suppress(DestroyError):
                remove_pod(self.cluster, name, got["metadata"]["uid"])
            raise
        return got

    def _made_already(self, name: str, request: OpenRequest) -> Any:
        """By a request of this session's whose answer was lost; else None."""
        with contextlib.suppress(ClusterError):
            found = self.cluster.ask("GET", f"{self.cluster.pods}/{name}", seconds=_ASK_SECONDS)
            marks = found["metadata"].get("annotations") or {}
            same = marks.get(f"{LABEL}session") == request.session_id
            if same and marks.get(f"{LABEL}owner") == request.owner:
                return found
        return None

    def _check_unchanged(self, sent: Mapping[str, Any], got: Mapping[str, Any]) -> None:
        wrong = changes(sent["spec"], got["spec"])
        if wrong:
            raise AdmissionError(
                "the cluster changed what makes the pod a wall, so it was removed and nothing ran "
                f"in it: {'; '.join(wrong[:6])}. Leave pods with the label {LABEL}session out of "
                "what your admission controllers change.",
                retryable=False,
            )

    def _started(
        self, request: OpenRequest, pod: Any, way_out: WayOut | None, until: float
    ) -> PodSandbox:
        name = pod["metadata"]["name"]
        look = self._looker(name)
        if request.config.durable:
            until_runs(self.cluster, pod, INIT, until)
            transport = attached(self.cluster, name, INIT, until=until, look=look)
            try:
                self._deliver(transport, pod)
            finally:
                transport.close()
        seen = until_runs(self.cluster, pod, CONTAINER, until)
        self._check_unchanged({"spec": _kept(pod["spec"])}, seen)
        if request.config.durable:
            return self._joined(request, seen, way_out, until)
        transport = attached(self.cluster, name, CONTAINER, until=until, look=look)
        try:
            service = self._deliver(transport, seen)
            return self._over(request, seen, transport, service, way_out, shared=False)
        except BaseException:
            transport.close()
            raise

    def _looker(self, name: str) -> Callable[[], None]:
        return functools.partial(waiting.look, self.cluster, name)

    def _joined(
        self, request: OpenRequest, pod: Any, way_out: WayOut | None, until: float
    ) -> PodSandbox:
        command = script.joined(request.config)
        name = pod["metadata"]["name"]
        transport = attached(
            self.cluster, name, CONTAINER, command=command, until=until, look=self._looker(name)
        )
        try:
            service = self._ready(transport, pod)
            return self._over(request, pod, transport, service, way_out, shared=True)
        except BaseException:
            transport.close()
            raise

    # -- the supervisor --------------------------------------------------------------

    def _deliver(self, transport: PodTransport, pod: Any) -> tuple[str, int] | None:
        """Write the supervisor, and wait until it is there."""
        try:
            transport.send(script.content())
        except OSError as error:
            raise self._silent(transport, pod, error) from error
        return self._ready(transport, pod)

    def _ready(self, transport: PodTransport, pod: Any) -> tuple[str, int] | None:
        """Wait for the line that comes before the supervisor; the API server's address in it."""
        said = b""
        try:
            while b"\n" not in said and len(said) < _LINE_BYTES:
                piece = transport.receive()
                if not piece:
                    raise self._silent(transport, pod, None)
                said += piece
        except OSError as error:
            raise self._silent(transport, pod, error) from error
        if not said.startswith(script.READY):
            raise SandboxStartError(f"the pod's shell said {said[:200]!r}.", retryable=False)
        words = said.decode("ascii", "replace").split()
        if len(words) >= 3 and words[1] != "-" and words[2].isdigit():
            return words[1], int(words[2])
        return None

    def _silent(
        self, transport: PodTransport, pod: Any, error: BaseException | None
    ) -> SandboxStartError:
        words = transport.stderr.decode("utf-8", "replace").strip()
        said = "; ".join(filter(None, (words, transport.status, str(error or ""))))
        dead = None
        with contextlib.suppress(ClusterError):
            name = pod["metadata"]["name"]
            now = self.cluster.ask("GET", f"{self.cluster.pods}/{name}", seconds=_ASK_SECONDS)
            dead = death_of(now)
        if dead is not None and dead.out_of_memory:
            return SandboxStartError(
                "the memory limit ended the pod before it was up; raise memory_mb.",
                retryable=False,
            )
        return SandboxStartError(
            f"the pod of {self.shape.image} started and its supervisor did not: "
            f"{said or (dead.reason if dead else 'it said nothing')}.{events_of(self.cluster, pod)}"
        )

    def _over(
        self,
        request: OpenRequest,
        pod: Any,
        transport: PodTransport,
        service: tuple[str, int] | None,
        way_out: WayOut | None,
        *,
        shared: bool,
    ) -> PodSandbox:
        try:
            sandbox = PodSandbox(self.cluster, pod, transport, request, shared=shared)
        except LinkLost as error:
            raise self._silent(transport, pod, error) from error
        try:
            self._verify(request, pod, sandbox, service)
            sandbox.complete(request, way_out)
        except BaseException as error:
            sandbox.release()
            if isinstance(error, LinkLost):
                raise self._silent(transport, pod, error) from error
            raise
        return sandbox

    # -- looking from inside ---------------------------------------------------------

    def _verify(
        self, request: OpenRequest, pod: Any, sandbox: PodSandbox, service: tuple[str, int] | None
    ) -> None:
        """Before anything of the caller's runs. Raises SandboxStartError."""
        sandbox.resizes_silently = self.kind == "gvisor"
        version = self._node_kernel(pod) if self.kind == "kata" else ""
        inside.check_kernel(
            sandbox.link,
            sandbox.hello.kernel,
            self.kind,
            self.shape.runtime_class or "",
            version,
        )
        inside.check_held(sandbox.link, request.config, self.kind)
        if _closed(request):
            around = inside.Surroundings(
                server=self.cluster.server,
                service=service,
                nodes=_addresses(pod, "host"),
                pods=self._neighbours(pod),
            )
            inside.check_closed(sandbox.link, around, self.probe_seconds)

    def _neighbours(self, pod: Any) -> tuple[str, ...]:
        """Addresses of other sessions' pods: those opened here last, before any others."""
        known: dict[str, tuple[str, ...]] | None = self.cluster.known("pods", _NEIGHBOURS_SECONDS)
        if known is None:
            known = {}
            with contextlib.suppress(ClusterError):
                # A page is enough: of a fleet's pods a few are tried.
                query = {"labelSelector": f"{LABEL}session", "limit": _NEIGHBOURS_PAGE}
                said = self.cluster.ask("GET", self.cluster.pods, query=query, seconds=_ASK_SECONDS)
                for one in said["items"]:
                    if addresses := _addresses(one, "pod"):
                        known[one["metadata"]["uid"]] = addresses
            self.cluster.keep("pods", known)
        others = dict(known)  # other threads open sessions meanwhile, and add theirs
        uid = pod["metadata"]["uid"]
        others.pop(uid, None)
        if addresses := _addresses(pod, "pod"):
            known[uid] = addresses
        return tuple(itertools.chain.from_iterable(others.values()))[-_MOST_NEIGHBOURS:]

    def _node_kernel(self, pod: Any) -> str:
        name = (pod.get("spec") or {}).get("nodeName")
        with contextlib.suppress(ClusterError):
            node = self.cluster.ask("GET", f"/api/v1/nodes/{name}", seconds=_ASK_SECONDS)
            return str(node["status"]["nodeInfo"]["kernelVersion"])
        return ""

    def _have_policy(self) -> None:
        """Write the policy that closes the network, once in a while, where that is allowed."""
        if self.cluster.known("policy", _POLICY_SECONDS):
            return
        path = f"/apis/networking.k8s.io/v1/namespaces/{self.cluster.namespace}/networkpolicies"
        policy = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "stockade-closed"},
            "spec": {
                "podSelector": {"matchLabels": {f"{LABEL}network": "off"}},
                "policyTypes": ["Ingress", "Egress"],
            },
        }
        with contextlib.suppress(ClusterError):  # what counts is what is reached from inside
            self.cluster.ask("POST", path, policy, seconds=_ASK_SECONDS, again=False)
        self.cluster.keep("policy", True)


def _closed(request: OpenRequest) -> bool:
    """Whether nothing is to be reached: hosts by name are, over the session's connection."""
    return not request.config.network_enabled


def _addresses(pod: Mapping[str, Any], whose: str) -> tuple[str, ...]:
    """Of a ``pod`` or its ``host``, of both versions of IP where the cluster has both."""
    status = pod.get("status") or {}
    found = [status.get(f"{whose}IP"), *(one.get("ip") for one in status.get(f"{whose}IPs") or ())]
    return tuple(dict.fromkeys(filter(None, found)))


def _kept(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Of a pod that was made what may not differ later: its node is given to it then."""
    free = ("nodeName", "tolerations", "priority", "preemptionPolicy", "schedulerName")
    return {name: value for name, value in spec.items() if name not in free}
