"""What this machine has: Landlock, namespaces, ids to run under."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import subprocess

import stockade_supervisor
from stockade.toolkit.local import seccomp
from stockade.toolkit.local.bare import keeper_command
from stockade.wall import Check
from stockade_landlock import landlock, supervisor

__all__ = ["checks", "counts_by_namespace", "interpreter_shown", "outside_ids", "target_problem"]

#: Processes are counted by user namespace from here on.
_COUNTING_LINUX = (5, 14)
_ELSEWHERE = "use a container wall: pip install stockade-docker"
_TRY_SECONDS = 20.0
_NOBODY = 65534
#: Ids that no distribution and no container engine hands out.
_FREE_IDS = range(0x7000_0000, 0x7FFF_0000)
#: sysctl: the value that forbids user namespaces, and one that allows them.
_SYSCTLS = {
    "kernel/unprivileged_userns_clone": ("0", "1"),
    "user/max_user_namespaces": ("0", "15000"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
}


def linux_version() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(found[1]), int(found[2])) if found else (0, 0)


def counts_by_namespace() -> bool:
    """Whether the kernel's process limit is the session's own, and no other's (E4)."""
    # As root each session has a user of its own, who is counted alone.
    return os.geteuid() == 0 or linux_version() >= _COUNTING_LINUX


def outside_ids() -> tuple[int, int]:
    """Whom the code runs as on the host: this user, or for root somebody that nobody is.

    Each session of root's has an id of its own, so that what the kernel counts by user
    is nobody else's, and no process of the host belongs to it (E8).
    """
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    chosen = secrets.choice(_FREE_IDS)
    return _mapped("uid", chosen), _mapped("gid", chosen)


def _mapped(kind: str, wanted: int) -> int:
    """``wanted``, or nobody's id where this user namespace does not have it."""
    with contextlib.suppress(OSError), open(f"/proc/self/{kind}_map") as file:
        rows = [tuple(map(int, line.split())) for line in file]
        if any(first <= wanted < first + count for first, _, count in rows):
            return wanted
    return _NOBODY


def interpreter_shown(path: str) -> bool:
    """Whether the code can use an interpreter's folder once it is bound: the folders above
    it are not the host's then."""
    if os.geteuid() != 0:
        return os.access(path, os.R_OK | os.X_OK)
    try:
        return os.stat(path).st_mode & 0o005 == 0o005
    except OSError:
        return False


# -- probing -----------------------------------------------------------------------


def checks(target: str | None) -> list[Check]:
    """What the wall needs here, in the order in which it can be looked at."""
    linux = platform.system() == "Linux"
    found = [Check("Linux", linux, platform.system(), "" if linux else _ELSEWHERE)]
    if not linux:
        return found
    machine = platform.machine()
    known = machine in seccomp.SUPPORTED and machine in stockade_supervisor.machines()
    found += [Check("machine", known, machine, "" if known else _ELSEWHERE), _landlock_check()]
    if all(check.ok for check in found):
        found.append(_namespace_check())
    found.append(_target_check(target))
    return found


def _landlock_check() -> Check:
    version = landlock.abi()
    kernel = platform.release()
    if version:
        return Check("Landlock", True, f"interface version {version} (Linux {kernel})")
    return Check(
        "Landlock",
        False,
        f"Linux {kernel} has it not, or it is not among the active security modules",
        "boot with lsm=landlock,… on Linux 5.13 or newer, or use the bubblewrap wall: "
        "pip install stockade-bubblewrap",
    )


def _namespace_check() -> Check:
    """Make one sandbox as a session would have it, and end it."""
    try:
        done = subprocess.run(
            keeper_command("stockade_landlock.attempt", 0, ["stockade_landlock"]),
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
    return Check("namespaces", False, said.splitlines()[-1], _namespace_remedy())


def _namespace_remedy() -> str:
    for path, (forbids, allows) in _SYSCTLS.items():
        with contextlib.suppress(OSError), open(f"/proc/sys/{path}") as file:
            if file.read().strip() == forbids:
                return f"sysctl -w {path.replace('/', '.')}={allows}"
    return (
        "allow unprivileged user namespaces; in a container, run it with seccomp and AppArmor "
        "profiles that allow them and an unmasked /proc, or " + _ELSEWHERE
    )


def _target_check(target: str | None) -> Check:
    if target is None:
        return Check("programs", os.path.isfile("/bin/sh"), "/bin/sh", "apt-get install dash")
    problem = target_problem(target)
    remedy = "give an absolute path of a root folder with bin/sh that every user may enter"
    return Check("target", problem is None, problem or f"{target} holds bin/sh", remedy)


def target_problem(target: str) -> str | None:
    """Why a target cannot become the root; None where it can."""
    real = os.path.realpath(target)
    if not os.path.isabs(target):
        return f"{target!r} is not an absolute path"
    if real == "/":
        return "the host's own root would show all of it; leave the target out"
    if not os.path.isdir(real):
        return f"{target} is no folder"
    if not os.path.lexists(os.path.join(real, "bin", "sh")):
        return f"{target} holds no bin/sh"
    if not interpreter_shown(real):
        return f"{target} may not be entered by the user that the code runs as"
    return None
