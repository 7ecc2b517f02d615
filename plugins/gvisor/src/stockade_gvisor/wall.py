"""The gvisor wall: the container wall with runsc as its runtime, proved from inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from stockade.capabilities import Isolation
from stockade.errors import SandboxStartError
from stockade.wall import Check, OpenRequest, Option
from stockade_docker import versions
from stockade_docker.create import Shape
from stockade_docker.engine import EngineInfo, is_local
from stockade_docker.sandbox import ContainerSandbox
from stockade_docker.wall import CAPABILITIES, OPTIONS, ContainerWall

__all__ = ["GVisorWall"]

#: gVisor shows one version to every program, whatever the host's; it is a part of
#: its interface since 2016 and differs from every kernel that runs an engine.
_KERNEL = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"
_ADD_IT = (
    "install runsc, then `runsc install` and restart the engine; see "
    "https://gvisor.dev/docs/user_guide/install/"
)


def _name(text: str) -> str:
    if (
        not text
        or text.startswith("-")
        or not text.replace(".", "").replace("-", "").replace("_", "").isalnum()
    ):
        raise ValueError("a runtime's name, as the engine's configuration has it, is needed")
    return text


_PROCESSES = (
    "by the engine's limit on gVisor's own processes, some nine for each inside: far past the "
    "limit the session ends"
)


class GVisorWall(ContainerWall):
    """``gvisor[:image][?options]``."""

    isolation = Isolation.KERNEL
    summary = "containers with a kernel of their own in user space (gVisor's runsc)"
    options: ClassVar[Mapping[str, Option]] = {
        **OPTIONS,
        "runtime": Option(_name, "runsc", "the name that the engine knows runsc by"),
    }
    capabilities = CAPABILITIES.with_(
        process_hardening=(
            "native",
            "gVisor filters its own system calls; it shows none of that inside",
        ),
        memory=("native", "one kernel holds all: past the limit the session ends so"),
        processes=("emulated", _PROCESSES),
        terminal=("native", "keys such as ^C make no signal in gVisor: send one (D18)"),
    )

    def runtime(self, info: EngineInfo) -> str | None:
        name: str = self.chosen["runtime"]
        return name

    def runtime_checks(self, info: EngineInfo) -> list[Check]:
        name = self.chosen["runtime"]
        if info.is_podman:
            return [
                Check(
                    "runtime",
                    False,
                    "podman's API takes a runtime and ignores it",
                    "use Docker Engine for gVisor",
                )
            ]
        there = name in info.runtimes
        known = ", ".join(info.runtimes)
        detail = f"{name}" if there else f"the engine has no runtime {name!r}, only {known}"
        found = [Check("runtime", there, detail, "" if there else _ADD_IT)]
        if there:
            local = is_local(self._client())
            found.append(versions.runsc_check(info, name, local=local))
        return found

    def shape(self, request: OpenRequest, info: EngineInfo) -> Shape:
        shape = super().shape(request, info)
        return attrs.evolve(shape, processes_each=_HOST_PROCESSES, own_kernel=True)

    def verify(self, sandbox: ContainerSandbox, info: EngineInfo) -> None:
        """An engine may take a runtime's name and run another: ask the kernel itself."""
        sandbox.resizes_silently = True
        kernel = sandbox.hello.kernel
        if not kernel.startswith(_KERNEL):
            raise SandboxStartError(
                f"the engine was asked for the runtime {self.chosen['runtime']!r} and ran another: "
                f"the kernel inside is {kernel[:60]!r}, not gVisor's. Nothing ran in it."
            )


#: Host processes that gVisor needs for one of the sandbox's, and for itself (measured: 9, 40).
_HOST_PROCESSES = (10, 120)
