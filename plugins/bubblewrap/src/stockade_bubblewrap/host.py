"""What this machine has: bwrap, user namespaces, ids to run under."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import shutil
import subprocess

from stockade.children import run
from stockade.errors import SandboxStartError
from stockade.toolkit.local.seccomp import SUPPORTED
from stockade.wall import Check
from stockade_bubblewrap.root import ISOLATION

__all__ = ["checks", "find_bwrap", "outside_ids", "reachable"]

#: What the wall's arguments need: --size came with 0.7, --disable-userns with 0.8.
_MIN_VERSION = (0, 8)
#: setns with a pidfd came with 5.8; processes are counted by user namespace from 5.14 on.
MIN_LINUX, COUNTING_LINUX = (5, 8), (5, 14)
_INSTALL = "apt-get install bubblewrap"
_ELSEWHERE = "use a container wall: pip install stockade-docker"
_TRY_SECONDS = 10.0
_NOBODY = 65534
_SHARE = 4
#: Ids that no distribution and no container engine hands out.
_FREE_IDS = range(0x7000_0000, 0x7FFF_0000)


def find_bwrap() -> str | None:
    return shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")


def linux_version() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(found[1]), int(found[2])) if found else (0, 0)


def counts_processes() -> bool:
    """Whether RLIMIT_NPROC counts a session's processes alone: by user namespace, or since
    each session of root's has a user of its own."""
    return linux_version() >= COUNTING_LINUX or os.geteuid() == 0


def outside_ids() -> tuple[int, int]:
    """Whom the code runs as on the host: this user, or for root somebody that nobody is.

    Each session of root's has an id of its own, so that what the kernel counts by user
    is nobody else's, and no process of the host belongs to it.
    """
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    chosen = _FREE_IDS[secrets.randbelow(len(_FREE_IDS))]
    return _mapped("uid", chosen), _mapped("gid", chosen)


def shares() -> dict[str, str]:
    """Of what the kernel counts for a user and the user's sessions share, at most a quarter is
    one session's (E8); as root each session has a user of its own."""
    if os.geteuid() == 0:
        return {}
    found = {}
    for name in ("max_inotify_instances", "max_inotify_watches"):
        most = "/proc/sys/fs/inotify/max_user_" + name.rpartition("_")[2]
        with contextlib.suppress(OSError, ValueError), open(most) as file:
            found[f"/proc/sys/user/{name}"] = str(max(1, int(file.read()) // _SHARE))
    return found


def _mapped(kind: str, wanted: int) -> int:
    """``wanted``, or nobody's id where this user namespace does not have it."""
    with contextlib.suppress(OSError), open(f"/proc/self/{kind}_map") as file:
        rows = [tuple(map(int, line.split())) for line in file]
        if any(first <= wanted < first + count for first, _, count in rows):
            return wanted
    return _NOBODY


def reachable(path: str, uid: int) -> bool:
    """Whether that user may look into a folder; each parent counts."""
    if uid == os.geteuid():
        return os.access(path, os.R_OK | os.X_OK)
    current, needed = path, 0o005
    while True:
        try:
            if os.stat(current).st_mode & needed != needed:
                return False
        except OSError:
            return False
        if current == "/":
            return True
        current, needed = os.path.dirname(current), 0o001


def checks(target: str | None) -> list[Check]:
    """What the wall needs here, in the order in which it can be looked at."""
    linux = platform.system() == "Linux"
    found = [Check("Linux", linux, platform.system(), "" if linux else _ELSEWHERE)]
    if not linux:
        return found
    kernel, machine = linux_version(), platform.machine()
    needed = ".".join(map(str, MIN_LINUX))
    found += [
        Check("kernel", kernel >= MIN_LINUX, platform.release(), f"run Linux {needed} or newer"),
        Check("machine", machine in SUPPORTED, machine, _ELSEWHERE),
        _bwrap_check(),
    ]
    if all(check.ok for check in found):
        found.append(_namespace_check())
    found.append(_target_check(target))
    return found


def _bwrap_check() -> Check:
    program = find_bwrap()
    if program is None:
        return Check("bwrap", False, "it is not installed", _INSTALL)
    try:
        done = run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_TRY_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return Check("bwrap", False, f"{program}: {error}", _INSTALL)
    told = re.search(r"(\d+)\.(\d+)\S*", done.stdout)
    if told is None:
        return Check("bwrap", False, f"{program} tells no version", _INSTALL)
    version = (int(told[1]), int(told[2]))
    if version < _MIN_VERSION:
        newest = ".".join(map(str, _MIN_VERSION))
        return Check(
            "bwrap", False, f"{told[0]} is too old; {newest} is needed",
            f"upgrade it ({_INSTALL} on Debian 12, Ubuntu 24.04 or newer)",
        )  # fmt: skip
    return Check("bwrap", True, f"{told[0]} at {program}")


def _namespace_check() -> Check:
    """Try what a session needs: every namespace, as the user that it would be."""
    failed = _try_namespaces()
    if failed is None:
        return Check("namespaces", True, "user, pid, mount, ipc, uts, net")
    return Check("namespaces", False, failed, _namespace_remedy())


def _try_namespaces() -> str | None:
    """What bwrap says where it cannot; None where it can."""
    program = find_bwrap()
    assert program is not None
    uid, gid = outside_ids()
    command = [program, *ISOLATION, "--uid", "1000", "--gid", "1000", "--ro-bind", "/", "/",
               "--proc", "/proc", "--dev", "/dev", "true"]  # fmt: skip
    ids = {"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        done = run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/",
            timeout=_TRY_SECONDS, **ids,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip() or f"code {done.returncode}")


#: sysctl: the value that forbids, and what it is.
_SYSCTLS = {
    "kernel/unprivileged_userns_clone": ("0", "1"),
    "user/max_user_namespaces": ("0", "15000"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
}


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
        return Check("programs", os.path.isdir("/usr/bin"), "the host's", "give a root folder")
    problem = target_problem(target)
    remedy = "give an absolute path of a root folder that every user may enter"
    return Check("target", problem is None, problem or f"{target} is a folder", remedy)


def target_problem(target: str) -> str | None:
    """Why a target cannot become the root."""
    real = os.path.realpath(target)
    if not os.path.isabs(target):
        return f"{target!r} is not an absolute path"
    if real == "/":
        return "the host's own root would show all of it; leave the target out"
    if not os.path.isdir(real):
        return f"{target} is no folder"
    if not reachable(real, outside_ids()[0]):
        return f"{target} may not be entered by the user that the code runs as"
    return None


def require(target: str | None) -> str:
    """bwrap's path, or SandboxStartError with what is missing."""
    program = find_bwrap()
    if program is None:
        raise SandboxStartError(f"bwrap is not installed: {_INSTALL}.", retryable=False)
    problem = None if target is None else target_problem(target)
    if problem is not None:
        raise SandboxStartError(f"the target cannot be used: {problem}.", retryable=False)
    return program
