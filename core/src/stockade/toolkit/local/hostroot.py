"""What walls share that show the host's own programs inside: no image, the system's folders.

For authors of such walls; landlock and bubblewrap are made with it.
"""

from __future__ import annotations

import glob
import math
import os
import sys
from collections.abc import Callable

from stockade.wall import Option

__all__ = [
    "SYSTEM_FOLDERS",
    "SYSTEM_PATH",
    "accounts",
    "cpu_share",
    "interpreter_folders",
    "python_option",
]

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
#: Of /etc what packages put there and common programs look for: patterns. Nothing of the
#: machine, its network or its users, and no key (ssl/private).
_ETC = """
R alternatives ca-certificates debian_version fonts gai.conf ghostscript host.conf inputrc java
java-* ld.so.cache ld.so.conf ld.so.conf.d locale.alias localtime lsb-release magic magic.mime
mime.types netconfig os-release perl pki/ca-trust/extracted pki/java pki/tls/cert.pem
pki/tls/certs pki/tls/openssl.cnf protocols python3 python3.* rpc services shells ssl/cert.pem
ssl/certs ssl/openssl.cnf system-release terminfo timezone xml
"""
#: Readable inside, where they are there: programs, libraries and what these need to start.
SYSTEM_FOLDERS = (
    *_PROGRAMS,
    *(path for name in _ETC.split() for path in sorted(glob.glob(f"/etc/{name}"))),
)
#: ``PATH`` of the programs in them.
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def accounts(uid: int, gid: int, home: str) -> dict[str, str]:
    """Files of /etc that name users, groups and hosts, by path: in place of the host's own.

    The code runs as ``uid`` and ``gid``, who are called "sandbox" and live in ``home``.
    """
    users = {0: "root:x:0:0:root:/root:/bin/sh", 65534: "nobody:x:65534:65534:nobody:/:/bin/false"}
    users[uid] = f"sandbox:x:{uid}:{gid}:sandbox:{home}:/bin/sh"
    groups = {0: "root:x:0:", 5: "tty:x:5:", 65534: "nogroup:x:65534:", gid: f"sandbox:x:{gid}:"}
    return {
        "/etc/passwd": "".join(f"{users[number]}\n" for number in sorted(users)),
        "/etc/group": "".join(f"{groups[number]}\n" for number in sorted(groups)),
        "/etc/hosts": "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost ip6-localhost\n",
        "/etc/nsswitch.conf": (
            "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
            "networks: files\nprotocols: files\nservices: files\nrpc: files\n"
        ),
    }


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
