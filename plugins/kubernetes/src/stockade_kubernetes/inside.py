"""What is looked at from inside before anything of the caller's runs, by the supervisor itself:
no program of the image has a say."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import attrs

from stockade.config import SandboxConfig
from stockade.errors import SandboxStartError
from stockade.file_backend import FileCall
from stockade.toolkit.supervised import LinkLost
from stockade.toolkit.supervised.files import SupervisedFiles
from stockade.toolkit.supervised.link import Link
from stockade_kubernetes.errors import AdmissionError, OpenNetworkError

__all__ = ["Surroundings", "check_closed", "check_held", "check_kernel"]

_READ_BYTES = 1 << 20
_ASK_SECONDS = 20.0
#: A policy may take a moment to be enforced for a new pod; so long it is asked again.
_AGAIN_SECONDS = 5.0
_PAUSE_SECONDS = 0.25
#: What the clouds and the usual add-ons have, whatever cluster this is.
_METADATA = ("169.254.169.254", "fd00:ec2::254")
_LOCAL_NAMES = "169.254.20.10"
_WORLD = ("tcp/1.1.1.1/443", "tcp/8.8.8.8/53", "udp/8.8.8.8/53", "tcp/2606:4700:4700::1111/443")
#: A node's own: its kubelet, its shell, its name server.
_NODE = ("tcp/{}/10250", "tcp/{}/22", "tcp/{}/53", "udp/{}/53", "tcp/{}/80")
#: A port that nobody listens on: whoever refuses was reached.
_NOBODY = 9
_MOST = 60
#: What the kernel inside says of a program, by its kind. One in user space filters its own calls
#: and shows nothing of it; Kata's filters none, unless it is set up to: a machine stands around it.
_SHOWN: dict[str, dict[str, str]] = {
    "node": {"NoNewPrivs": "1", "Seccomp": "2"},
    "kata": {"NoNewPrivs": "1"},
    "gvisor": {},
}
#: Where machines without the cpu's flag say so; and words, one of which must stand in the last two.
_ON_HYPERVISOR = "/sys/hypervisor/type"
_HYPERVISORS_OWN = ("/sys/class/dmi/id/sys_vendor", "/proc/device-tree/hypervisor/compatible")
_HYPERVISORS = ("qemu", "kvm", "cloud-hypervisor", "firecracker")
_GVISOR = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"


@attrs.frozen
class Surroundings:
    """What there is beside the pod, as far as this process knows."""

    server: str  #: the API server's URL
    service: tuple[str, int] | None = None  #: its address in the cluster, as pods see it
    nodes: tuple[str, ...] = ()  #: the node's addresses
    pods: tuple[str, ...] = ()  #: of other pods

    def targets(self, gateways: Sequence[str]) -> list[str]:
        """What must not answer, in the words of the supervisor's ``reach``."""
        found: list[str] = []
        parts = urlsplit(self.server)
        port = parts.port or 443
        found += [f"tcp/{address}/{port}" for address in _addresses(parts.hostname or "")]
        if self.service is not None:
            address, port = self.service
            found.append(f"tcp/{address}/{port}")
            with contextlib.suppress(ValueError):
                # Where clusters have their name server, by an old custom.
                first = ipaddress.ip_address(address)
                names = f"{first + 9}" if int(first) % 256 == 1 else address
                found += [f"udp/{names}/53", f"tcp/{names}/53"]
        for node in dict.fromkeys((*self.nodes, *gateways)):
            found += [text.format(node) for text in _NODE]
        found += [f"tcp/{address}/80" for address in _METADATA]
        found += [f"udp/{_LOCAL_NAMES}/53", *_WORLD]
        found += [f"tcp/{pod}/{_NOBODY}" for pod in self.pods]
        return list(dict.fromkeys(found))[:_MOST]


def _addresses(host: str) -> list[str]:
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return []


def _read(link: Link, path: str) -> str:
    """A file of the kernel's, inside; empty where there is none."""
    files = SupervisedFiles(link.builtin)
    call = FileCall(_ASK_SECONDS)
    with contextlib.suppress(OSError):
        data = files.read(path, call, offset=0, length=None, max_bytes=_READ_BYTES)
        return data.decode("utf-8", "replace")
    return ""


def check_closed(link: Link, around: Surroundings, seconds: float) -> None:
    """See to it that nothing outside answers. Raises OpenNetworkError, LinkLost."""
    gateways = _gateways(_read(link, "/proc/net/route"))
    gateways += _gateways_of_v6(_read(link, "/proc/net/ipv6_route"))
    targets = around.targets(gateways)
    until = time.monotonic() + _AGAIN_SECONDS
    while reached := _reached(link, targets, seconds):
        if time.monotonic() > until:
            raise OpenNetworkError(
                "network_enabled=False was asked, and from inside the pod these answered: "
                f"{', '.join(reached)}. Nothing of yours ran in it. Have the cluster's network "
                "plugin enforce the policy of deploy/kubernetes/networkpolicy.yaml (Calico and "
                "Cilium do, flannel does not), or state network_enabled=true where the code may "
                "reach all of that.",
                retryable=False,
            )
        time.sleep(_PAUSE_SECONDS)


def _reached(link: Link, targets: Sequence[str], seconds: float) -> list[str]:
    said = bytearray()
    command = ["reach", str(int(seconds * 1000)), *targets]
    code, words = link.builtin(command, receive=said.extend, timeout=seconds + _ASK_SECONDS)
    if code:
        why = words.decode("utf-8", "replace").strip()
        raise LinkLost(f"what the pod reaches could not be looked at: {why or code}")
    return [line.partition(" ")[0] for line in said.decode().splitlines()]


def _gateways(table: str) -> list[str]:
    """The routers of /proc/net/route."""
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) > 2 and words[2] != "00000000":
            with contextlib.suppress(ValueError):
                found.append(socket.inet_ntoa(bytes.fromhex(words[2])[::-1]))
    return list(dict.fromkeys(found))


def _gateways_of_v6(table: str) -> list[str]:
    """The routers of /proc/net/ipv6_route. One with an address of the link alone is a node, whose
    other addresses are tried: an address without its device leads nowhere."""
    found = []
    for line in table.splitlines():
        words = line.split()
        if len(words) > 4:
            with contextlib.suppress(ValueError):
                router = ipaddress.IPv6Address(bytes.fromhex(words[4]))
                if not router.is_unspecified and not router.is_link_local:
                    found.append(str(router))
    return list(dict.fromkeys(found))


def check_held(link: Link, config: SandboxConfig, kind: str) -> None:
    """See to it that what the pod states is in force: a runtime may not know all of it.
    ``kind``: gvisor, kata or node. Raises SandboxStartError."""
    status = dict(
        line.split(":", 1) for line in _read(link, "/proc/self/status").splitlines() if ":" in line
    )
    wrong = [
        f"{name} is {status[name].strip()}"
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")
        if name in status and int(status[name], 16)
    ]
    wrong += [
        f"{name} is {status.get(name, 'unknown').strip()}"
        for name, value in _SHOWN[kind].items()
        if status.get(name, "").strip() != value
    ]
    if wrong:
        raise AdmissionError(
            f"the node's runtime does not hold the pod's security context: {', '.join(wrong)}.",
            retryable=False,
        )
    if config.disk_mb is not None and kind != "gvisor":
        _check_bounds(link, config, config.disk_mb)


def _check_bounds(link: Link, config: SandboxConfig, disk_mb: int) -> None:
    """Older kubelets take the size of an emptyDir in memory and give it none (E2)."""
    bounds: dict[str, str] = {}
    for line in _read(link, "/proc/self/mounts").splitlines():
        words = line.split()
        if len(words) > 3:
            bounds[words[1]] = words[3]
    for place in (config.working_dir, "/tmp", "/var/tmp", "/dev/shm"):
        options = bounds.get(place.replace(" ", "\\040"), "")
        if "size=" not in options:
            raise SandboxStartError(
                f"{place} has no bound of its own in the pod, and disk_mb={disk_mb} was asked: the "
                "kubelets must know SizeMemoryBackedVolumes (on since 1.22). Or state "
                "disk_mb=none: what is written counts in memory_mb all the same.",
                retryable=False,
            )


def check_kernel(link: Link, link_kernel: str, kind: str, runtime_class: str, version: str) -> None:
    """See to it that a RuntimeClass is what its name says. Raises AdmissionError.

    ``link_kernel``: what the kernel inside says it is; ``version``: the node's own, or empty.
    """
    if kind == "gvisor" and not link_kernel.startswith(_GVISOR):
        raise AdmissionError(
            f"the RuntimeClass {runtime_class!r} was to be gVisor, and the kernel inside is "
            f"{link_kernel[:60]!r}. Nothing ran in it.",
            retryable=False,
        )
    if kind != "kata":
        return
    if not version:
        raise AdmissionError(
            f"whether the RuntimeClass {runtime_class!r} is Kata cannot be seen: who opens "
            "sessions may not read nodes, whose kernel it must differ from. Apply "
            "deploy/kubernetes/kata.yaml, or state kernel=node.",
            retryable=False,
        )
    if version in link_kernel.split() or not _on_hypervisor(link):
        raise AdmissionError(
            f"the RuntimeClass {runtime_class!r} was to be Kata, and the kernel inside is "
            f"{link_kernel[:60]!r}, where the node's own is {version}. Nothing ran in it.",
            retryable=False,
        )


def _on_hypervisor(link: Link) -> bool:
    """The cpu's flag on x86, a machine's firmware or device tree elsewhere."""
    if "hypervisor" in _read(link, "/proc/cpuinfo").split() or _read(link, _ON_HYPERVISOR):
        return True
    said = " ".join(_read(link, path) for path in _HYPERVISORS_OWN).lower()
    return any(word in said for word in _HYPERVISORS)
