"""Why namespaces cannot be had here: which switch closes them, and what opens it (A8).

Asked when a wall has tried and failed, so that it costs nothing if they can be had. The
answer of the kernel says less than one would want (most is "not permitted"), so each step is
tried again separately, and the switches that can close that step are looked at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess

import attrs

from stockade.errors import SandboxStartError
from stockade.toolkit.local.bare import keeper_command
from stockade.toolkit.local.host import ELSEWHERE
from stockade.wall import Check

__all__ = ["Cause", "explained", "namespace_check"]

_TRY_SECONDS = 20.0
_CAP_SYS_ADMIN = 21
_REFUSED = (errno.EPERM, errno.EACCES)
#: How containers are started so that they may have containers.
_CONTAINER = (
    "start the container with --security-opt seccomp=unconfined --security-opt "
    "apparmor=unconfined --security-opt systempaths=unconfined (podman: --security-opt "
    "unmask=ALL for the last), or " + ELSEWHERE
)
_STEPS = {
    "user": "a user namespace",
    "map": "a user namespace's map of users",
    "others": "further namespaces",
    "loopback": "a loopback of its own",
    "mount": "a mount of its own",
    "proc": "a /proc of its own",
}


@attrs.frozen
class Cause:
    """What closes namespaces, and what to do."""

    words: str  #: what closes them, as ``doctor`` says it
    remedy: str  #: the command that opens them, or what else to do


def namespace_check(said: str, uid: int) -> Check:
    """The check of a wall that could not have namespaces, and ``said`` why in its own words.

    ``uid``: the user it tried it as, 0 for this process's own.
    """
    cause = _found(uid)
    if cause is None and _apparmor() and (uid or os.geteuid() != 0):
        # It may let one program have what it refuses to another.
        cause = _switch("kernel.apparmor_restrict_unprivileged_userns", "1", "0")
    if cause is None:
        return Check("namespaces", False, said, ELSEWHERE)
    return Check("namespaces", False, f"{cause.words} ({said})", cause.remedy)


def _found(uid: int) -> Cause | None:
    """None if every step works alone, or if no process can be had to try them."""
    try:
        done = subprocess.run(
            keeper_command("stockade.toolkit.local.trying", uid),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TRY_SECONDS,
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.SubprocessError, SandboxStartError):
        return None
    step, _, number = done.stdout.partition(" ")
    if step not in _STEPS or not number.isdigit():
        return None
    return explained(step, int(number), ordinary=bool(uid) or os.geteuid() != 0)


def explained(step: str, number: int, *, ordinary: bool) -> Cause:
    """The cause of one step's failure: trying.py's word for it, and its errno.

    ``ordinary``: the user who tried is not root.
    """
    refused = number in _REFUSED
    if step == "user" and number in (errno.ENOSPC, errno.EUSERS):
        return _limit()
    if step == "user" and number == errno.EINVAL:
        return Cause("this kernel was built without user namespaces", ELSEWHERE)
    if step == "user" and ordinary and _setting("kernel/unprivileged_userns_clone") == "0":
        return _switch("kernel.unprivileged_userns_clone", "0", "1")
    if refused and ordinary and step != "proc" and _apparmor():
        return _switch("kernel.apparmor_restrict_unprivileged_userns", "1", "0")
    if step == "proc" and refused:
        return Cause("parts of /proc are masked here, as containers mask them", _CONTAINER)
    if refused and not ordinary and step != "proc" and not _is_administrator():
        return Cause(
            "root lacks the right CAP_SYS_ADMIN here, as in containers",
            "run stockade as an ordinary user, who needs user namespaces instead, or " + ELSEWHERE,
        )
    if _is_filtered() and (refused or number == errno.ENOSYS):
        return Cause(
            f"a filter of system calls (seccomp), as containers have one, refuses {_STEPS[step]}",
            _CONTAINER,
        )
    module = _module()
    if step == "user" and number == errno.EPERM and not module:
        # The kernel alone has no other reason left.
        return Cause(
            "this process runs in a chroot, from which the kernel gives no user namespace",
            "run it in a container or a system of its own, not in a chroot",
        )
    by = f"the security profile {module!r}" if module else "this machine"
    return Cause(f"{by} refuses {_STEPS[step]} ({os.strerror(number)})", _CONTAINER)


def _limit() -> Cause:
    if _setting("user/max_user_namespaces") == "0":
        return _switch("user.max_user_namespaces", "0", "15000")
    return Cause(
        "the limit of user namespaces is reached, here or in the namespace around this one",
        "raise user.max_user_namespaces with sysctl on the host, or end what holds them "
        "(lsns -t user)",
    )


def _switch(name: str, forbids: str, allows: str) -> Cause:
    return Cause(
        f"{name} is {forbids}",
        f"sysctl -w {name}={allows}, and for good: echo {name}={allows} > "
        "/etc/sysctl.d/60-user-namespaces.conf",
    )


# -- what this machine says of itself --------------------------------------------


def _setting(path: str) -> str:
    return _text(f"/proc/sys/{path}")


def _text(path: str) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError), open(path) as file:
        return file.read().strip("\0\n ")
    return ""


def _apparmor() -> bool:
    return _setting("kernel/apparmor_restrict_unprivileged_userns") == "1"


def _is_filtered() -> bool:
    return _status("Seccomp") == "2"


def _is_administrator() -> bool:
    with contextlib.suppress(ValueError):
        return bool(int(_status("CapEff"), 16) & 1 << _CAP_SYS_ADMIN)
    return False


def _status(name: str) -> str:
    found = _text("/proc/self/status").partition(f"{name}:\t")[2]
    return found.partition("\n")[0]


def _module() -> str:
    """The profile that a security module runs this process under; empty for none."""
    profile = _text("/proc/self/attr/current")
    return "" if profile in ("", "unconfined", "kernel") else profile
