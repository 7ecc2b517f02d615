"""bwrap as this machine has it, and whether it can do here what a session needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from stockade.toolkit.local import closed, host
from stockade.toolkit.processes.children import run
from stockade.wall import Check
from stockade_bubblewrap.arguments import ISOLATION

__all__ = ["find", "namespace_check", "version_check"]

INSTALL = "apt-get install bubblewrap"
#: What the wall's arguments need: --size came with 0.7, --disable-userns with 0.8.
_MIN_VERSION = (0, 8)
_TRY_SECONDS = 10.0


def find() -> str | None:
    """Its path; None where it is not installed."""
    return shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")


def version_check() -> Check:
    """Whether there is one that is new enough."""
    program = find()
    if program is None:
        return Check("bwrap", False, "it is not installed", INSTALL)
    try:
        done = run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TRY_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Check("bwrap", False, f"{program}: {error}", INSTALL)
    said = re.search(r"(\d+)\.(\d+)\S*", done.stdout)
    if said is None:
        return Check("bwrap", False, f"{program} reports no version", INSTALL)
    if (int(said[1]), int(said[2])) < _MIN_VERSION:
        newest = ".".join(map(str, _MIN_VERSION))
        return Check(
            "bwrap",
            False,
            f"{said[0]} is too old; {newest} is needed",
            f"upgrade it ({INSTALL} on Debian 12, Ubuntu 24.04 or newer)",
        )
    return Check("bwrap", True, f"{said[0]} at {program}")


def namespace_check() -> Check:
    """Try what a session needs: every namespace, as the user that it would be."""
    uid, gid = host.outside_ids()
    failed = _try_namespaces(uid, gid)
    if failed is None:
        return Check("namespaces", True, "user, pid, mount, ipc, uts, net")
    return closed.namespace_check(failed, uid if os.geteuid() == 0 else 0)


def _try_namespaces(uid: int, gid: int) -> str | None:
    """What bwrap says where it cannot; None where it can."""
    program = find()
    assert program is not None
    command = [
        program,
        *ISOLATION,
        *("--uid", "1000", "--gid", "1000", "--ro-bind", "/", "/"),
        *("--proc", "/proc", "--dev", "/dev", "true"),
    ]
    ids = {"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        done = run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=_TRY_SECONDS,
            **ids,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip() or f"code {done.returncode}")
