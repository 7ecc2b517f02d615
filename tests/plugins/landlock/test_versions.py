"""What Landlock holds by its version: the table in code, the docs' and the kernel's own word."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.toolkit.local.others import run_as_other
from stockade.toolkit.local import landlock
from stockade_landlock import versions

_DOCS = Path(__file__).parents[3] / "docs" / "landlock.md"


def rows(title: str) -> list[str]:
    """The lines of the docs' table whose head begins like that."""
    found: list[str] = []
    for line in _DOCS.read_text().partition(f"| {title} |")[2].splitlines()[2:]:
        if not line.startswith("|"):
            break
        found.append(line)
    return found


def test_the_docs_show_the_tables() -> None:
    assert rows("version") == [
        f"| {one.number} | {one.linux} | {one.adds} |" for one in versions.VERSIONS
    ]
    assert rows("promise") == [
        f"| {one.what} | {one.clause} | {one.since or 'none'} |" for one in versions.ALONE
    ]
    assert [one.number for one in versions.VERSIONS] == list(range(1, versions.NEWEST + 1))


def test_no_version_keeps_every_promise_alone_and_each_keeps_more() -> None:
    kept = [len(versions.broken(number)) for number in range(versions.NEWEST + 1)]
    assert kept[0] == len(versions.ALONE) and kept[-1] > 0
    assert kept == sorted(kept, reverse=True)


#: For each promise whether it was kept. Run by an ordinary user, whose files the host's are.
_TRIES = """
import ctypes, fcntl, json, os, socket, sys
from stockade.toolkit.local import calls
from stockade.toolkit.local import landlock
folder, own, name = sys.argv[1:4]
version, other = map(int, sys.argv[4:])
os.setgroups([]); os.setresgid(4711, 4711, 4711); os.setresuid(4711, 4711, 4711)
calls.give_up_privileges()
landlock._MOVING_ABI = 1  # below it the wall leaves files to its mounts
landlock.restrict(["/"], [own], 0, version)
os.chdir(own)
def refused(act):
    try: act()
    except PermissionError: return True
    except OSError as error: return error.errno in (1, 13)
    return False
def connect(address):
    with socket.socket(socket.AF_UNIX) as asking: asking.connect(address)
def moves():
    for step in ("a", "b"): os.makedirs(step, exist_ok=True)
    open("a/f", "w").close(); os.rename("a/f", "b/g"); os.link("b/g", "a/h")
    return True
def works(act):
    try: return act()
    except OSError: return False
path = folder + "/file"
def request():
    with open("/dev/zero", "rb") as device:
        try: fcntl.ioctl(device, 0x5401, bytes(64))
        except OSError as error:
            if error.errno != 25: raise
print(json.dumps({
    "opens them": refused(lambda: open(path, "a").close()),
    "the names in": refused(lambda: os.mkdir(folder + "/new")) and refused(lambda: os.unlink(path)),
    "programs move": works(moves),
    "truncates them": refused(lambda: os.truncate(path, 1)),
    "requests to": refused(request),
    "no signal": refused(lambda: os.kill(other, 0)),
    "abstract sockets": refused(lambda: connect("\\0" + name)),
    "modes, owners": refused(lambda: os.chmod(path, 0o606)) or refused(lambda: os.utime(path)),
    "sockets that have a path": refused(lambda: connect(folder + "/socket")),
    "whether a file": refused(lambda: os.stat(path)),
}))
"""


@pytest.fixture
def host() -> Iterator[tuple[Path, Path, int, str]]:
    """A folder of an ordinary user's, one of the session's, a process of that user's, and the
    name of an abstract socket."""
    if os.geteuid() != 0:
        pytest.skip("only root can become the ordinary user")
    made = Path(tempfile.mkdtemp(prefix="stockade-test-", dir="/var/tmp"))
    made.chmod(0o755)
    name = f"stockade-test-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, made)
        for folder in ("host", "own"):
            (made / folder).mkdir()
            os.chown(made / folder, 4711, 4711)
        for address in (str(made / "host" / "socket"), f"\0{name}"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()
        (made / "host" / "socket").chmod(0o777)
        other = subprocess.Popen(["sleep", "60"], user=4711, group=4711, extra_groups=[])
        stack.callback(other.wait)
        stack.callback(other.send_signal, signal.SIGKILL)
        yield made / "host", made / "own", other.pid, name


@pytest.mark.parametrize("version", range(1, versions.NEWEST + 1))
def test_each_promise_is_kept_from_its_version_on(
    host: tuple[Path, Path, int, str], version: int
) -> None:
    if version > landlock.abi():
        pytest.skip("this kernel's Landlock does not know that version")
    folder, own, other, name = host
    (folder / "file").write_text("of the host\n")
    os.chown(folder / "file", 4711, 4711)
    arguments = (str(folder), str(own), name, str(version), str(other))
    done = run_as_other(_TRIES, *arguments, reads=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    for word, kept in seen.items():
        (promise,) = [one for one in versions.ALONE if word in one.what]
        assert kept == (promise not in versions.broken(version)), (version, promise)
    # What is left is no call's to try: there is one of each on the machine, and it is the host's.
    assert len(versions.ALONE) - len(seen) == 2
