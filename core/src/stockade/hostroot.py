"""What walls share that show the host's own programs inside: no image, the system's folders.

For authors of such walls; landlock and bubblewrap are made with it.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable

from stockade.wall import Option

__all__ = ["SYSTEM_FOLDERS", "SYSTEM_PATH", "cpu_share", "interpreter_folders", "python_option"]

#: Readable inside, where they are there: programs, libraries and what these need to start.
#: Nothing that tells of the machine or its users.
SYSTEM_FOLDERS = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/python3",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/nix/store",
)
#: ``PATH`` of the programs in them.
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def python_option() -> Option:
    """The wall's option ``python``, whose value ``interpreter_folders`` takes."""
    return Option(
        _python,
        "auto",
        "the interpreter's folder that is readable inside beside the system's: auto (the one "
        "that runs this program), none, or a folder",
    )


def _python(text: str) -> str:
    if text not in ("auto", "none") and not text.startswith("/"):
        raise ValueError("auto, none or a folder is needed")
    return text


def interpreter_folders(chosen: str, reachable: Callable[[str], bool]) -> list[str]:
    """The prefix of an interpreter outside of the system's folders, or nothing.

    ``chosen`` is the option's value; ``reachable`` says whether the code may enter a folder.
    """
    if chosen == "none":
        return []
    prefix = os.path.realpath(sys.base_prefix if chosen == "auto" else chosen)
    covered = any(prefix == path or prefix.startswith(path + "/") for path in SYSTEM_FOLDERS)
    # A prefix that is a whole home, or the root, would show far more than an interpreter.
    too_wide = prefix in ("/", os.path.realpath(os.path.expanduser("~")))
    if covered or too_wide or not reachable(os.path.join(prefix, "bin")):
        return []
    return [prefix]


def cpu_share(limit: float | None) -> tuple[float | None, list[int]]:
    """How to hold ``cpu_limit`` without a cgroup: the share to throttle to (None: not at all),
    and the cpus to pin to; nothing of either where the limit is past this machine."""
    if limit is None:
        return None, []
    mine = sorted(os.sched_getaffinity(0))
    count = math.ceil(limit)
    if count > len(mine):
        return None, []
    # Which cpus is taken at random, so that sessions do not all crowd the first.
    start = int.from_bytes(os.urandom(4), "big") % len(mine)
    chosen = sorted(mine[(start + offset) % len(mine)] for offset in range(count))
    return (None if limit == count else limit), chosen
