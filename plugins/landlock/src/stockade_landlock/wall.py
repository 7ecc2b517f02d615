"""The Landlock wall: namespaces, a root made of mounts, Landlock and seccomp.

No daemon, no image and no program of anybody else's: the kernel's calls are made from here.
Every session has a keeper process (keeper.py), a fork of which becomes the sandbox's first
process, the supervisor (birth.py).
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence

import attrs

from stockade.capabilities import Isolation
from stockade.system.installing import install
from stockade.toolkit.local import (
    KeeperProcess,
    LocalWall,
    Plan,
    closed,
    host,
    kernel,
    landlock,
    supervisor,
)
from stockade.toolkit.local.bare import keeper_command
from stockade.wall import Check
from stockade_landlock import versions
from stockade_landlock.birth import PROGRAM, Birth

__all__ = ["LandlockWall"]

_TRY_SECONDS = 20.0
_PACKAGES = ("stockade_landlock",)


class LandlockWall(LocalWall):
    """``landlock[:rootfs][?options]``."""

    name = "landlock"
    isolation = Isolation.PROCESS
    summary = "namespaces, Landlock and seccomp on the host's kernel; no daemon, no image"

    def separate_user(self) -> bool:
        return kernel.has_user_namespaces()

    def launch(self, plan: Plan) -> KeeperProcess:
        birth = Birth(
            as_root=os.geteuid() == 0,
            user_namespace=self.separate_user(),
            inside=plan.inside,
            outside=plan.outside,
            steps=plan.root.steps(),
            writable=[
                [folder.place, folder.mode, folder.shares] for folder in plan.root.writable()
            ],
            size=plan.root.size(plan.root.disk_mb),
            shm=plan.root.size(plan.root.shm_mb),
            abi=landlock.abi(),
            filter=plan.filter.hex(),
            network=plan.network,
        )
        spec = plan.spec._replace(argv=["stockade-supervisor", "serve"], extra=birth.to_message())
        return KeeperProcess(
            spec,
            {PROGRAM: supervisor.descriptor()},
            module="stockade_landlock.keeper",
            packages=_PACKAGES,
        )

    # -- probing -------------------------------------------------------------------

    def checks(self) -> Sequence[Check]:
        found = [host.machine_check(), _landlock_check()]
        if all(check.ok for check in found):
            found.append(_namespace_check())
        return found


def _landlock_check() -> Check:
    version = landlock.abi()
    release = platform.release()
    if version:
        return Check("Landlock", True, f"interface version {version} (Linux {release})")
    return Check(
        "Landlock",
        False,
        f"Linux {release} has it not, or it is not among the active security modules",
        "boot with lsm=landlock,… on Linux 5.13 or newer, or use the bubblewrap wall: "
        + install("stockade-bubblewrap"),
    )


def _namespace_check() -> Check:
    """Make one sandbox as a session would have it, and end it."""
    try:
        done = subprocess.run(
            keeper_command("stockade_landlock.attempt", 0, _PACKAGES),
            stdin=supervisor.descriptor(),
            capture_output=True,
            text=True,
            timeout=_TRY_SECONDS,
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Check(
            "namespaces",
            False,
            f"no process could be started to see whether they can be had: {error}",
            "try again once this machine has processes and memory to spare",
            transient=True,
        )
    if done.returncode == 0:
        return Check("namespaces", True, "user, mount, pid, ipc, uts, net, cgroup")
    said = (done.stdout or done.stderr).strip() or f"code {done.returncode}"
    found = closed.namespace_check(said.splitlines()[-1], 0)
    # What is refused is said by name: nothing weaker stands in for it.
    return attrs.evolve(found, detail=f"{found.detail}; {versions.words(landlock.abi())}")
