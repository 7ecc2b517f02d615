"""Takes away what only some systems have: a plug-in for pytest (``-p portability.bare``), and
for any program that imports it first.

Windows has none of it, macOS no ``/proc`` and (before Python 3.13) no ``waitid``.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - the standard library asks for some of it while it is imported
import builtins
import concurrent.futures.process  # noqa: F401
import logging.config  # noqa: F401
import multiprocessing.pool  # noqa: F401
import os
import random  # noqa: F401
import select
import selectors
import shutil  # noqa: F401
import signal
import ssl  # noqa: F401
import stat
import subprocess
import sys
import tarfile  # noqa: F401
import tempfile  # noqa: F401
from typing import Any

MODULES = ("fcntl", "resource", "termios", "grp", "pwd", "tty", "pty")
NAMES = (
    (os, "waitid"),
    (os, "register_at_fork"),
    (os, "pidfd_open"),
    (os, "memfd_create"),
    (os, "eventfd"),
    (select, "poll"),
    (select, "epoll"),
    (signal, "pidfd_send_signal"),
)


def take_away() -> None:
    """From this moment on, in this process; what was imported before keeps what it has."""
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module, name in NAMES:
        if hasattr(module, name):
            delattr(module, name)
    _select_alone()
    _hide_proc()
    _give_every_file_to_everybody()


def _select_alone() -> None:
    """The standard library waits as it does where nothing better is there."""
    selectors.DefaultSelector = selectors.SelectSelector  # type: ignore[misc, assignment]
    subprocess._PopenSelector = selectors.SelectSelector  # type: ignore[attr-defined]


def _hide_proc() -> None:
    """Nothing is at /proc, for whatever is asked by its name."""

    def guarded(call: Any) -> Any:
        def look(path: Any = ".", *more: Any, **options: Any) -> Any:
            text = path.decode() if isinstance(path, bytes) else path
            hidden = isinstance(text, str) and (text == "/proc" or text.startswith("/proc/"))
            if hidden:
                raise FileNotFoundError(2, "No such file or directory", text)
            return call(path, *more, **options)

        return look

    for module, names in (
        (builtins, ("open",)),
        (os, ("open", "listdir", "readlink", "stat", "lstat", "scandir")),
    ):
        for name in names:
            setattr(module, name, guarded(getattr(module, name)))


def _give_every_file_to_everybody() -> None:
    """Modes read 0666 and 0777, as on Windows."""
    honest = os.stat

    def everybodys(*arguments: Any, **options: Any) -> os.stat_result:
        found = honest(*arguments, **options)
        mode = found.st_mode | (0o777 if stat.S_ISDIR(found.st_mode) else 0o666)
        whole: Any = found.__reduce__()[1]  # ten numbers, and the others by name
        return os.stat_result((mode, *whole[0][1:]), whole[1])

    os.stat = everybodys


#: Tests of what only Linux gives, and what that is; all others pass without it.
_DEAD = "which process is dead is known by /proc"
_TREE = "a tree beyond its group is found in /proc"
LINUX = {
    "core/ledger/test_gc.py": _DEAD,
    "core/sessions/test_attach.py::test_ownership_goes_to": _DEAD,
    "core/ledger/test_ledger.py::test_C11_setting_the_clock": "the boot's clock is read from /proc",
    "core/system/test_owner.py": "processes are distinguished by /proc",
    "core/toolkit/processes/test_pump.py::test_a_kill_takes": _TREE,
    "core/toolkit/processes/test_pump.py::test_what_it_leaves": _TREE,
    "core/toolkit/processes/test_pump.py::test_nothing_outlives": _TREE,
    "core/toolkit/processes/test_children.py": "it looks into /proc, and at walls of Linux",
    "core/ledger/test_ledger.py::test_the_file_is_the_users_alone": "modes",
    "core/ledger/test_ledger.py::test_a_file_that_others_may_write": "modes",
    "core/policies/test_audit.py::test_every_line": "modes",
    "core/files/test_archives.py::test_F4_hard_links_times_and_modes": "modes",
}


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Leave out the tests of what was taken away."""
    gone = [item for item in items if any(part in item.nodeid for part in LINUX)]
    config.hook.pytest_deselected(items=gone)
    items[:] = [item for item in items if item not in gone]


take_away()
