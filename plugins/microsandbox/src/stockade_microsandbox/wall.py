"""``microsandbox:target[?options]``: what it can do, and whether it can here."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, ClassVar

from stockade.capabilities import Capabilities, Isolation
from stockade.errors import ConfigError
from stockade.system.installing import install
from stockade.toolkit import kvm
from stockade.wall import Availability, Check, OpenRequest, Option, Sandbox, Wall
from stockade_microsandbox import images

__all__ = ["MicrosandboxWall"]

_RESERVED = ("/", "/tmp", "/proc", "/sys", "/dev", "/.msb")


def _pull(text: str) -> str:
    if text not in ("missing", "always", "never"):
        raise ValueError("one of missing, always, never is needed")
    return text


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 9:
        raise ValueError("seconds from 0.1 to 9 are needed")
    return value


class MicrosandboxWall(Wall):
    """A virtual machine for each session, from an image or a root folder."""

    isolation = Isolation.VM
    summary = "full Linux microVMs by the microsandbox package; needs KVM, no daemon, no root"
    options: ClassVar[Mapping[str, Option]] = {
        "pull": Option(
            _pull, "missing", "when an image named by its name is pulled: missing, always, never"
        ),
        "kill_seconds": Option(
            _seconds,
            0.9,
            "seconds that a killed program may take to end before its VM is ended; more than the "
            "contract's one is for machines that are emulated",
        ),
    }
    capabilities = Capabilities(
        {
            "argv": "native",
            "shell": "native",
            "code": "native",
            "stateful": "native",
            "notebook": "native",
            "background": "native",
            "files": ("emulated", "by the supervisor inside"),
            "watch": "native",
            "memory": ("native", "a control group in the guest, in a VM of little more"),
            "cpu": ("native", "a control group in the guest, in a VM of so many cpus"),
            "processes": ("native", "a control group in the guest"),
            "disk": ("native", "a tmpfs for each folder, counted as memory"),
            "network-off": (
                "native",
                "the VM's network device is detached before any program runs",
            ),
            "network": ("unsupported", "nobody has held the package's networks to the contract"),
            "allow-list": ("unsupported", "as the network"),
            "read-only-root": (
                "emulated",
                "root's files, and the code is not root; what all may write is 16 MiB in memory",
            ),
            "writable-root": ("unsupported", "the code is never root"),
            "user": "native",
            "working-dir": "native",
            "snapshot": ("emulated", "an archive of what the supervisor brings out"),
            "pause": "native",
            "process-hardening": (
                "unsupported",
                "no capability and no_new_privs, but no seccomp filter: the VM is the wall",
            ),
            "mounts": ("unsupported", "copy files in with session.files"),
            "live-input": "native",
            "signals": "native",
            "merged-output": "native",
            "execution-user": "native",
            "terminal": "native",
            "ports": ("unsupported", "there is no network"),
            "durable": ("unsupported", "the VM ends with the process that opened it"),
        }
    )

    def __init__(self, target: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(target, options)
        self.image = images.check_target(target) if target else None

    def probe(self) -> Availability:
        if importlib.util.find_spec("microsandbox") is None:
            remedy = install("stockade-microsandbox")
            return Availability((Check("microsandbox", False, "is not installed", remedy),))
        found = [Check("microsandbox", True, "installed, with its kernel and monitor")]
        found += kvm.checks()
        if self.image is not None:
            found += images.target_checks(self.image)
        return Availability(tuple(found))

    def open(self, request: OpenRequest) -> Sandbox:
        from stockade_microsandbox.sandbox import VmSandbox

        folder = request.config.working_dir
        if folder in _RESERVED or folder.startswith(tuple(f"{path}/" for path in _RESERVED[1:])):
            raise ConfigError(
                f"working_dir={folder!r} cannot be a folder of its own; use /workspace or another "
                "place outside of /tmp, /proc, /sys and /dev."
            )
        image = images.reference(images.check_target(self.target))
        return VmSandbox.start_vm(request, image, str(self.chosen["pull"]))
