"""The kata wall: the container wall with a Kata runtime, proved from inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from stockade.capabilities import Isolation
from stockade.errors import SandboxStartError
from stockade.executions._output import BoundedOutput
from stockade.results import Stream
from stockade.wall import Check, ExecRequest, Form, OpenRequest, Option
from stockade_docker.create import Shape
from stockade_docker.engine import EngineInfo
from stockade_docker.sandbox import ContainerSandbox
from stockade_docker.wall import CAPABILITIES, OPTIONS, ContainerWall

__all__ = ["KataWall"]

#: The names that engines commonly know Kata by, the newest way first.
RUNTIMES = ("io.containerd.kata.v2", "kata", "kata-runtime")
_ADD_IT = (
    "install Kata Containers and add its shim to the engine's runtimes; it needs a machine with "
    "/dev/kvm. See https://katacontainers.io"
)


def _name(text: str) -> str:
    if not text or text.startswith("-") or any(char.isspace() for char in text):
        raise ValueError("a runtime's name, as the engine's configuration has it, is needed")
    return text


class KataWall(ContainerWall):
    """``kata[:image][?options]``."""

    isolation = Isolation.VM
    summary = "a virtual machine for each container, through the engine's Kata runtime"
    options: ClassVar[Mapping[str, Option]] = {
        **OPTIONS,
        "runtime": Option(_name, None, f"the engine's name for Kata; else {', '.join(RUNTIMES)}"),
    }
    capabilities = CAPABILITIES.with_(
        memory=("native", "of the machine, its kernel included"),
        process_hardening=("native", "in the guest; the machine stands around it"),
    )

    def runtime(self, info: EngineInfo) -> str | None:
        if self.chosen["runtime"]:
            return str(self.chosen["runtime"])
        return next((name for name in RUNTIMES if name in info.runtimes), RUNTIMES[0])

    def runtime_checks(self, info: EngineInfo) -> list[Check]:
        if info.is_podman:
            return [
                Check(
                    "runtime",
                    False,
                    "podman's API takes a runtime and ignores it",
                    "use Docker Engine with a Kata shim",
                )
            ]
        name = self.runtime(info)
        # A containerd shim's full name needs no entry in the engine's configuration,
        # and then the engine does not list it either.
        there = name in info.runtimes
        known = ", ".join(info.runtimes)
        detail = f"{name}" if there else f"the engine lists no Kata runtime, only {known}"
        return [Check("runtime", there, detail, "" if there else _ADD_IT)]

    def shape(self, request: OpenRequest, info: EngineInfo) -> Shape:
        # How the machine's root reaches the host differs from one Kata to the next.
        return attrs.evolve(super().shape(request, info), own_kernel=True)

    def verify(self, sandbox: ContainerSandbox, info: EngineInfo) -> None:
        """Another kernel than the engine's, on a hypervisor; else nothing may run in it."""
        kernel = sandbox.hello.kernel.split()
        inside = kernel[2] if len(kernel) > 2 else ""
        if not inside or inside == info.kernel:
            raise SandboxStartError(
                f"the engine was asked for the runtime {self.runtime(info)!r} and ran another: "
                f"the kernel inside is the host's own ({info.kernel}). Nothing ran in it."
            )
        if not _on_hypervisor(sandbox):
            raise SandboxStartError(
                f"the kernel inside ({inside}) sees no hypervisor, so this is no virtual machine. "
                "Nothing ran in it."
            )


def _on_hypervisor(sandbox: ContainerSandbox) -> bool:
    """The cpu's hypervisor flag on x86, a machine's device tree or firmware elsewhere."""
    output = BoundedOutput(65536)
    line = (
        "grep -qw hypervisor /proc/cpuinfo || [ -e /sys/hypervisor/type ] || "
        "grep -qsi -e qemu -e kvm -e cloud-hypervisor -e firecracker "
        "/sys/class/dmi/id/sys_vendor /proc/device-tree/hypervisor/compatible && echo yes"
    )
    request = ExecRequest(
        execution_id="verify", form=Form.SHELL, script=line, working_dir="/", timeout_seconds=10
    )
    sandbox.start(request, output).wait()
    return output.data(Stream.STDOUT).strip() == b"yes"
