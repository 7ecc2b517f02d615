"""One sandbox, made and ended at once: what a probe runs in a process of its own."""

from __future__ import annotations

import os
import signal

from stockade.toolkit.local import kernel
from stockade.toolkit.local.spec import KeeperSpec
from stockade_landlock.birth import Birth, bear

__all__ = ["main"]

#: Allows everything.
_FILTER = "060000000000ff7f"
_INSIDE = (1000, 1000)


def main(program: int) -> None:
    """Exit with 0, or with 1 and what failed as the last line of the output.

    ``program`` is a descriptor of the supervisor's file.
    """
    as_root = os.geteuid() == 0
    birth = Birth(
        as_root=as_root,
        user_namespace=kernel.has_user_namespaces(),
        inside=_INSIDE,
        outside=(65534, 65534) if as_root else (os.geteuid(), os.getegid()),
        steps=(),
        writable=(),
        size="",
        shm="size=4k",
        abi=0,
        filter=_FILTER,
    )
    spec = KeeperSpec(wall="", session="", owner="", argv=["supervisor", "which"], env={})
    nothing = os.open("/dev/null", os.O_RDWR)
    try:
        pid = bear(birth, spec, program, [nothing] * 3, lambda _: None)
    except OSError as error:
        os.write(1, str(error).encode(errors="replace"))
        os._exit(1)
    os.kill(pid, signal.SIGKILL)
    os._exit(0)
