"""The Landlock wall: the kernel's own sandbox, through the ``sandlock`` package.

No daemon, no root, no image: the programs of this system run with nothing of it
but its programs and libraries in reach. Every session has a keeper process (see
keeper.py) and below it one sandboxed process tree, in which executions run (lanes.py).
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, ClassVar

from stockade.capabilities import Capabilities, Isolation
from stockade.errors import ConfigError, SandboxStartError
from stockade.hostroot import (
    SYSTEM_FOLDERS,
    SYSTEM_PATH,
    cpu_share,
    interpreter_folders,
    python_option,
)
from stockade.resident import supervisor
from stockade.wall import Availability, Check, Leftover, OpenRequest, Option, Sandbox, Usage, Wall
from stockade_landlock.seccomp import SUPPORTED

__all__ = ["LandlockWall"]

#: Sandlock's own floor; Linux 6.12 brought this version of Landlock's interface.
_MIN_ABI = 6
_NOBODY = 65534

#: Readable inside beside the system's folders, where they are there.
_READABLE = (*SYSTEM_FOLDERS, "/dev/full", "/dev/random", "/dev/urandom", "/dev/zero", "/proc")
_DEVICES = ("/dev/null",)


class LandlockWall(Wall):
    """``landlock[:rootfs][?options]``; a rootfs is a folder that becomes ``/``, read-only."""

    isolation = Isolation.PROCESS
    summary = "Landlock and seccomp on the host's kernel; no daemon, no root, no image"
    options: ClassVar[Mapping[str, Option]] = {
        "python": python_option(),
    }

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        root = os.geteuid() == 0
        return Capabilities(
            {
                "argv": "native",
                "shell": "emulated",
                "code": "emulated",
                "process-hardening": "native",
                "files": "emulated",
                "snapshot": ("emulated", "an archive made by a program inside"),
                "memory": ("emulated", "watched 100 times a second over the whole session"),
                "cpu": (
                    "emulated",
                    "whole cpus by affinity; fractions by stopping the session's processes",
                ),
                "processes": "native",
                "disk": ("native", "a tmpfs for each folder"),
                "network-off": ("native", "no socket of any kind can be made"),
                "network": ("unsupported", "this wall has no network of its own to give"),
                "read-only-root": "native",
                "writable-root": ("unsupported", "the root is the host's own"),
                "working-dir": "native",
                "user": ("native", "")
                if root
                else ("unsupported", "only root can choose; the code runs as your own user"),
                "mounts": ("unsupported", "copy files in with session.files"),
                "background": "native",
                "stateful": "emulated",
                "durable": ("unsupported", "a session ends with the process that opened it"),
            }
        )

    def probe(self) -> Availability:
        linux = platform.system() == "Linux"
        checks = [Check("Linux", linux, platform.system(), "" if linux else _ELSEWHERE)]
        if linux:
            checks += _kernel_checks()
            checks += [_private_check(), self._target_check()]
        return Availability(tuple(checks))

    def _target_check(self) -> Check:
        if self.target is None:
            return Check("programs", os.path.isfile("/bin/sh"), "/bin/sh", "apt-get install dash")
        ok = os.path.isabs(self.target) and os.path.isfile(os.path.join(self.target, "bin/sh"))
        detail = f"{self.target} holds bin/sh" if ok else f"{self.target} is no root folder with sh"
        return Check("target", ok, detail, "" if ok else "give an absolute path of a root folder")

    def open(self, request: OpenRequest) -> Sandbox:
        from stockade_landlock.session import LandlockSandbox

        private = _private_check()
        if not private.ok:  # asked again here: without it the host's /tmp would be within reach
            raise SandboxStartError(
                f"{private.detail}; {private.remedy}.", retryable=private.transient,
                nothing_began=True,
            )  # fmt: skip
        return LandlockSandbox(self._order(request))

    # -- what outlives a process ----------------------------------------------

    def leftovers(self) -> Sequence[Leftover]:
        from stockade_landlock import leftovers

        return leftovers.all_of()

    def remove(self, leftover: Leftover) -> None:
        from stockade_landlock import leftovers

        leftovers.end(leftover.session_id)

    def usage(self, leftover: Leftover) -> Usage | None:
        from stockade_landlock import leftovers

        return leftovers.usage_of(leftover.session_id)

    def _order(self, request: OpenRequest) -> dict[str, Any]:
        """Everything the keeper is told, once."""
        config = request.config
        root = self.target or "/"
        if config.working_dir in ("/", "/tmp") or config.working_dir.startswith(
            ("/proc", "/dev", "/tmp/")
        ):
            raise ConfigError(
                f"working_dir={config.working_dir!r} cannot be a folder of its own; "
                "use /workspace or another place outside of /tmp, /proc and /dev."
            )
        uid, gid = _ids(config.user)
        python: list[str] = []
        if root == "/":
            python = interpreter_folders(self.chosen["python"], lambda path: _reachable(path, uid))
        share, cpus = cpu_share(config.cpu_limit)
        return {
            "root": root,
            "working_dir": config.working_dir,
            "uid": uid,
            "gid": gid,
            "readable": [
                path
                for path in (*_READABLE, *python)
                if os.path.exists(os.path.join(root, path.lstrip("/")))
            ],
            "devices": list(_DEVICES),
            "env": {
                "PATH": ":".join([SYSTEM_PATH, *(f"{folder}/bin" for folder in python)]),
                "HOME": config.working_dir,
                "TMPDIR": "/tmp",
                "LANG": "C.UTF-8",
            },
            # The keeper can read no file of the package's once it has dropped its privileges.
            "first": _script("root.sh"),
            "scripts": [_script("spawner.sh"), *supervisor()],
            "memory_mb": config.memory_mb,
            "disk_mb": config.disk_mb,
            "max_processes": config.max_processes,
            "cpu_share": share,
            "cpus": cpus,
            "expires_at": request.expires_at,
            "session": request.session_id,
            "owner": request.owner,
            "startup_seconds": config.startup_timeout_seconds,
        }


@functools.cache
def _script(name: str) -> str:
    lines = files("stockade_landlock").joinpath(name).read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


_ELSEWHERE = "use a container wall there: pip install stockade-docker"


def _kernel_checks() -> list[Check]:
    try:
        import sandlock

        abi = sandlock.landlock_abi_version()
        needed = sandlock.min_landlock_abi()
    except Exception as error:  # a wheel for another architecture fails in many ways
        detail = f"{type(error).__name__}: {error}"
        return [Check("sandlock", False, detail, "pip install --force-reinstall sandlock")]
    kernel = platform.release()
    if abi >= needed:
        landlock = Check("Landlock", True, f"interface version {abi} (Linux {kernel})")
    elif abi < 1:
        landlock = Check(
            "Landlock",
            False,
            f"Linux {kernel} has it not, or it is not among the active security modules",
            "boot with lsm=landlock,… on Linux 6.12 or newer, or " + _ELSEWHERE,
        )
    else:
        landlock = Check(
            "Landlock",
            False,
            f"interface version {abi} (Linux {kernel}); version {max(needed, _MIN_ABI)} is needed",
            "run Linux 6.12 or newer, or " + _ELSEWHERE,
        )
    machine = platform.machine()
    seccomp = os.path.exists("/proc/sys/kernel/seccomp/actions_avail")
    return [
        landlock,
        Check("seccomp", seccomp, "filters and notifications", "" if seccomp else _ELSEWHERE),
        Check("machine", machine in SUPPORTED, machine, _ELSEWHERE),
    ]


def _private_check() -> Check:
    can = _can_mount()
    if can:
        return Check("private folders", True, "a mount namespace of the session's own")
    if can is None:
        return Check(
            "private folders",
            False,
            "no process could be started to see whether a session can have a /tmp of its own",
            "try again once this machine has processes and memory to spare",
            transient=True,
        )
    return Check(
        "private folders",
        False,
        "neither root nor user namespaces, so a session can have no /tmp of its own",
        "allow them (sysctl kernel.unprivileged_userns_clone=1, or on Ubuntu "
        "kernel.apparmor_restrict_unprivileged_userns=0), or " + _ELSEWHERE,
    )


def _ids(user: str | None) -> tuple[int, int]:
    """Whom the code runs as: an unprivileged id for root, else the user's own."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    if user is None:
        return _NOBODY, _NOBODY
    uid, _, gid = user.partition(":")
    return int(uid), int(gid or uid)


def _reachable(path: str, uid: int) -> bool:
    """Whether that user may enter a folder; each parent counts."""
    if uid == os.geteuid():
        return os.access(path, os.R_OK | os.X_OK)
    current = path
    while True:
        try:
            if not os.stat(current).st_mode & 0o001:
                return False
        except OSError:
            return False
        if current == "/":
            return True
        current = os.path.dirname(current)


_mountable: bool | None = None


def _can_mount() -> bool | None:
    """Whether a keeper can have a mount namespace of its own; tried in a child, until one tells."""
    global _mountable
    if _mountable is None:
        _mountable = _try_mount()
    return _mountable


def _try_mount() -> bool | None:
    """None where it could not even be tried."""
    import subprocess

    code = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None)\n"
        "root = os.geteuid() == 0\n"
        "uid, gid = os.geteuid(), os.getegid()\n"
        "ok = libc.unshare(0x20000 if root else 0x10020000) == 0\n"
        "if ok and not root:\n"
        "    open('/proc/self/setgroups', 'w').write('deny')\n"
        "    open('/proc/self/uid_map', 'w').write(f'{uid} {uid} 1')\n"
        "    open('/proc/self/gid_map', 'w').write(f'{gid} {gid} 1')\n"
        "ok = ok and libc.mount(b'none', b'/', None, 0x44000, None) == 0\n"
        "ok = ok and libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 6, b'size=4k') == 0\n"
        "os._exit(not ok)\n"
    )
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
        return done.returncode == 0 if done.returncode in (0, 1) else None
    return None
