"""Mutants of C9: walls that leave something on the machine, or look for it elsewhere."""

from __future__ import annotations

import atexit
import glob
import os
import shutil
import subprocess

import pytest

from conformance.mutants.base import Mutant, Patch
from conformance.mutants.selecting import _plugin

_COLLECTED = "C9_what_a_killed_process_left_is_collected"
_PLACE = "C9_a_sandbox_is_looked_for_where_it_was_made"
#: In the names of what mutants leave, so that it is removed in the end.
_NAME = "stockade-mutant"
_WIRE, _END = ["ip", "link", "add"], ["type", "veth", "peer", "name"]
_CGROUPS = "/sys/fs/cgroup/pids" if os.path.isdir("/sys/fs/cgroup/pids") else "/sys/fs/cgroup"


def _clean() -> None:
    """Remove what the mutants left."""
    for path in glob.glob(f"{_CGROUPS}/{_NAME}-*"):
        os.rmdir(path)
    for path in glob.glob(f"/dev/shm/{_NAME}-*"):
        shutil.rmtree(path)
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split()[4] for line in file if _NAME in line]
    for path in mounts:
        subprocess.run(["umount", "-l", path], check=True)
    for path in glob.glob("/sys/class/net/skmut-[0a]*"):
        subprocess.run(["ip", "link", "del", os.path.basename(path)], check=False)


atexit.register(_clean)


def _root(_: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root leaves that")


def _interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    _root(monkeypatch)
    if shutil.which("ip") is None:
        pytest.skip("the program ip is needed")
    made = subprocess.run([*_WIRE, "skmut-0", *_END, "skmut-1"], check=False, capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"the kernel has no virtual wires: {made.stderr!r}")
    subprocess.run(["ip", "link", "del", "skmut-0"], check=True)


def _leaving(name: str, how: str, says: str, patch: Patch | None = None) -> Mutant:
    """A wall that makes something beside each sandbox, and never removes it."""
    wall = f"""
    def open(self, request):
        import os, subprocess, tempfile
        name = "{_NAME}-" + request.session_id
        {how}
        return super().open(request)
"""
    return _plugin(_COLLECTED, name, wall=wall, target="", factor=0.15, says=says, patch=patch)


LEFT = [
    _plugin(
        _COLLECTED,
        "lists-nothing-left",
        wall="""
    def open(self, request):
        import os
        sandbox = super().open(request)
        os.unlink(sandbox.inside(".session.json"))  # by which it would be found
        return sandbox
""",
        target="",
        factor=0.15,
        says="sleep",
    ),
    _leaving(
        "leaves-a-process",
        'os.posix_spawnp("sleep", ["sleep", "30"], {**os.environ, "X": name})',
        "process",
    ),
    _leaving("leaves-a-temporary-file", "tempfile.mkdtemp()", "folder"),
    _leaving("leaves-shared-memory", 'os.mkdir("/dev/shm/" + name)', "folder /dev/shm/"),
    _leaving(
        "leaves-a-cgroup", f'os.mkdir("{_CGROUPS}/{_NAME}-" + os.urandom(4).hex())', "cgroup", _root
    ),
    _leaving(
        "leaves-a-mount",
        "path = tempfile.mkdtemp(prefix=name); subprocess.run("
        '["mount", "-t", "tmpfs", "none", path], check=True)',
        "mount",
        _root,
    ),
    _leaving(
        "leaves-an-interface",
        f'subprocess.run([*{_WIRE}, "skmut-a" + name[-8:], *{_END}, '
        '"skmut-b" + name[-8:]], check=True)',
        "network interface",
        _interfaces,
    ),
    _plugin(
        _PLACE,
        "looks-where-it-is-led",
        wall="""
    def place(self):
        from stockade.wall import Place
        return Place.here()

    def look_at(self, place):
        pass

    def leftovers(self):
        import tempfile
        from stockade.testing.subprocesses import leftovers
        return leftovers(tempfile.gettempdir())
""",
        target="",
        factor=0.3,
        says="Wall.place",
    ),
]
