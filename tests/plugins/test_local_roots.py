"""Whole root folders behind the local walls: Debian's, one as Alpine's, and busybox alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import stockade

#: Made by .ci/engines: these as archives.
_HOME = Path(os.environ.get("STOCKADE_ENGINES", "/var/lib/stockade-engines"))
_ARCHIVES = {"debian": "python.tar", "alpine": "alpine.tar", "busybox": "busybox.tar"}


@pytest.fixture(scope="module", params=_ARCHIVES)
def root(request: pytest.FixtureRequest) -> Iterator[Path]:
    archive = _HOME / _ARCHIVES[request.param]
    if not archive.exists():
        pytest.skip(f"{archive} is not here: .ci/engines up makes it")
    made = Path(tempfile.mkdtemp(prefix=f"stockade-root-{request.param}-", dir="/var/tmp"))
    command = ["tar", "-C", str(made), "--exclude=./dev/*", "-xf", str(archive)]
    subprocess.run(command, check=True)
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def kind(root: Path) -> str:
    return root.name.split("-")[2]


def _state(root: Path) -> str:
    """All that a sandbox might have changed: names, modes, times, contents' sizes."""
    seen = hashlib.sha256()
    for folder, folders, files in os.walk(root):
        for name in sorted((*folders, *files)):
            path = os.path.join(folder, name)
            at = os.lstat(path)
            seen.update(f"{path} {at.st_mode} {at.st_uid} {at.st_size} {at.st_mtime_ns}\n".encode())
    return seen.hexdigest()


def test_its_programs_run_and_nothing_of_it_changes(wall: str, root: Path) -> None:
    before = _state(root)
    with stockade.open(f"{wall}:{root}") as session:
        line = (
            "id -un; hostname; pwd; echo x > f; ls -l f | cut -c1-10; ln f g; mv g /workspace/h; "
            "echo y > /tmp/t; cat /tmp/t; echo z > /dev/shm/s; cat /dev/shm/s; "
            "tar cf t.tar f h; mkdir d; tar xf t.tar -C d; ls d; grep -c localhost /etc/hosts"
        )
        result = session.shell(line)
        assert result.stdout.split() == [
            *("sandbox", "sandbox", "/workspace", "-rw-r--r--", "y", "z", "f", "h", "2"),
        ], result
        tries = (
            "echo x > /bin/sh; echo x > /etc/passwd; rm /bin/sh; touch /new /etc/new; ln -s a /l"
        )
        made = session.shell(f"({tries}) 2> failures; ls / /etc | grep -xE 'new|l'")
        assert made.stdout == "", made
        session.files.write("/workspace/a/b", b"data")
        assert session.files.read("/workspace/a/b") == b"data"
    assert _state(root) == before


def test_accounts_and_names_of_its_own_stay(wall: str, root: Path, kind: str) -> None:
    with stockade.open(f"{wall}:{root}") as session:
        accounts = session.files.read("/etc/passwd").decode()
        assert (root / "etc/passwd").read_text() in accounts and "sandbox:" in accounts
        if kind != "busybox":
            assert session.shell(". /etc/os-release; echo $ID").stdout == f"{kind}\n"
        if kind == "alpine":
            assert " / " in session.shell("cat /etc/mtab").stdout


def test_links_lead_to_where_they_say_inside(wall: str, root: Path) -> None:
    with stockade.open(f"{wall}:{root}") as session:
        line = "for p in /bin /lib /var/run /bin/sh /etc/mtab; do readlink $p || echo; done"
        found = session.shell(line).stdout.splitlines()
    for path, seen in zip(("bin", "lib", "var/run", "bin/sh", "etc/mtab"), found, strict=True):
        link = root / path
        assert seen == (os.readlink(link) if link.is_symlink() else ""), path


def test_there_is_a_loopback_and_nothing_else(wall: str, root: Path, kind: str) -> None:
    with stockade.open(f"{wall}:{root}") as session:
        if kind == "debian":
            code = (
                "import socket\ns = socket.create_server(('localhost', 0))\n"
                "c = socket.create_connection(s.getsockname())\nprint(c.getpeername()[0])"
            )
            assert session.code(code).stdout == "127.0.0.1\n"
        else:
            session.shell("nc -l -p 4000 -e echo hello &")
            asked = "until nc 127.0.0.1 4000 < /dev/null 2>&-; do :; done"
            assert session.shell(asked, timeout=20).stdout == "hello\n"
        assert not session.shell("cat < /proc/net/route | grep -v Iface").stdout


def test_programs_of_another_c_library_find_the_user_and_localhost(
    wall: str, root: Path, kind: str
) -> None:
    if kind != "alpine":
        pytest.skip("made for Alpine's alone")
    with stockade.open(f"{wall}:{root}") as session:
        assert session.run(["names"]).stdout == "sandbox 127.0.0.1 1\n"


def test_limits_hold_and_trees_end(wall: str, root: Path) -> None:
    with stockade.open(f"{wall}:{root}", max_processes=40, memory_mb=64, disk_mb=8) as session:
        late = session.shell("(sleep 600 &) ; sleep 600", timeout=0.5)
        assert str(late.verdict) == "timed out"
        full = session.shell("head -c 20000000 /dev/zero > big; wc -c < big; rm big")
        assert int(full.stdout) <= 8 << 20
        hog = session.shell("tail /dev/zero")  # keeps what it reads: it never ends
        assert str(hog.verdict) == "out of memory", hog
        assert session.shell("echo usable").stdout == "usable\n"
