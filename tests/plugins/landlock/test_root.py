"""The root that a sandbox stands in: made of mounts, read-only, and as a kernel has files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import stockade
from stockade import Session
from stockade.toolkit.local import Root
from stockade.toolkit.local import landlock as rules


def test_E2_all_mounts_but_the_sandboxs_own_are_read_only(session: Session) -> None:
    own = {"/workspace", "/tmp", "/var/tmp", "/dev/shm", "/dev/pts", "/proc"}
    for line in session.shell("cat /proc/self/mountinfo").stdout.splitlines():
        place, options = line.split()[4:6]
        have = set(options.split(","))
        assert "nosuid" in have, line
        assert ("rw" in have) == (place in own), line
        if not place.startswith(("/dev", "/proc")):
            assert "nodev" in have, line


def test_E2_who_owns_the_root_may_not_change_it(session: Session) -> None:
    """Programs trust what lies in folders of the system's and of their own user's."""
    owners = session.shell("stat -c %u / /tmp /var/tmp /workspace; id -u").stdout.split()
    assert len(owners) == 5 and len(set(owners)) == 1
    for line in ("chmod 777 /", "mkdir /new", "touch /", "chown 1 /", "rmdir /mnt", "mv /mnt /tmp"):
        done = session.shell(line)
        assert not done.success, line
        assert "Read-only" in done.stderr or "not permitted" in done.stderr, done.stderr


def test_what_programs_count_on(session: Session) -> None:
    work = """
    set -e
    python3 -m venv --without-pip v && v/bin/python -c 'import sys; print(sys.prefix)'
    python3 -c 'import multiprocessing as m; l = m.Lock(); l.acquire(); print("lock")'
    python3 -c 'import socket; s = socket.create_server(("localhost", 0)); a = s.getsockname()
    c = socket.create_connection(a); print(c.getpeername() == a)'
    mkdir t && echo x > t/f && ln -s f t/l && chmod 754 t/f && tar cf t.tar t && rm -r t
    tar xf t.tar && cat t/l && stat -c %a t/f
    echo x > /dev/full || echo full
    """
    result = session.shell(textwrap.dedent(work))
    assert result.stdout.split() == ["/workspace/v", "lock", "True", "x", "754", "full"], result


def test_memory_disk_and_names_are_bounded(landlock: str) -> None:
    with stockade.open(f"{landlock}?shm_mb=2", disk_mb=4) as session:
        for place, most in (("/tmp", 4), ("/var/tmp", 4), ("/workspace", 4), ("/dev/shm", 2)):
            line = f"head -c 9000000 /dev/zero > {place}/f; wc -c < {place}/f; rm {place}/f"
            assert int(session.shell(line).stdout) <= most << 20
        line = "i=0; while true > $i; do i=$((i+1)); done 2>/dev/null; echo $i; rm -f *"
        assert int(session.shell(f"mkdir /tmp/d; cd /tmp/d; {line}").stdout) <= 1024


def test_E2_temporary_folders_share_their_space_and_no_name(session: Session) -> None:
    line = "echo x > /tmp/f; ls /var/tmp; stat -c %a /tmp /var/tmp /workspace"
    assert session.shell(line).stdout.split() == ["1777", "1777", "700"]


# -- older kernels, other starts -----------------------------------------------------------

_BORN = """
import json, os, sys
from stockade.toolkit.local import KeeperSpec, kernel, landlock, seccomp
from stockade_landlock import birth
given = json.load(sys.stdin)
if given["one by one"]:
    kernel.read_only_below = kernel.one_by_one
as_root = os.geteuid() == 0
made = birth.Birth(
    as_root=as_root, user_namespace=given["namespace"], inside=(1000, 1000),
    outside=(0x70001234, 0x70001234) if as_root else (os.geteuid(), os.getegid()),
    steps=given["steps"], writable=given["writable"], size="", shm="size=1m",
    abi=given["abi"], filter=seccomp.program().hex(),
)
shell = os.open("/bin/sh", os.O_RDONLY)
spec = KeeperSpec(
    wall="", session="", owner="", argv=["sh", "-c", "cd /workspace;" + given["line"]],
    env={"PATH": "/usr/bin:/bin"},
)
pid = birth.bear(made, spec, shell, [0, 1, 2], lambda pid: None)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def born(line: str, *, abi: int = 0, namespace: bool = True, one_by_one: bool = False) -> str:
    """What a shell says that is a sandbox's first program."""
    root = Root(target=None, working_dir="/workspace", disk_mb=8, shm_mb=8, uid=1000, gid=1000)
    given = {
        "line": line,
        "abi": abi,
        "namespace": namespace,
        "one by one": one_by_one,
        "steps": root.steps(),
        "writable": [[folder.place, folder.mode, folder.shares] for folder in root.writable()],
    }
    done = subprocess.run(
        [sys.executable, "-c", _BORN],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.mark.parametrize("abi", range(8))
def test_files_move_between_folders_whatever_landlock_knows(landlock: str, abi: int) -> None:
    if abi > rules.abi():
        pytest.skip("this kernel's Landlock does not know that version")
    line = (
        "mkdir a b; echo x > a/f; mv a/f b/g; ln b/g a/h; cat a/h; : > b/g; "
        "(: > /usr/new) 2>&-; (: > /new) 2>&-; ls /new /usr/new 2>&-; echo end; echo y > /dev/null"
    )
    assert born(line, abi=abi) == "x\nend\n"


def test_before_linux_5_12_each_mount_is_made_read_only(landlock: str) -> None:
    line = "while read -r i p d r place options rest; do echo $place $options; done"
    printed = born(f"{line} < /proc/self/mountinfo", one_by_one=True)
    own = {"/workspace", "/tmp", "/var/tmp", "/dev/shm", "/dev/pts", "/proc"}
    for place, options in (row.split() for row in printed.splitlines()):
        assert options.startswith("rw") == (place in own), (place, options)
        assert "nosuid" in options, (place, options)


def test_root_without_user_namespaces_still_is_nobody(landlock: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can do without them")
    printed = born("cat /proc/self/status; : > f; (: > /new) 2>&- || echo no", namespace=False)
    status = dict(line.split(":\t", 1) for line in printed.splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(0x70001234)}
    assert all(int(status[name], 16) == 0 for name in status if name.startswith("Cap"))
    assert not status["Groups"].strip() and printed.endswith("no\n")


# -- a folder as root -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shell, a few programs, and what they need; nothing else."""
    made = tmp_path_factory.mktemp("root")
    for folder in ("bin", "etc", "tmp"):
        (made / folder).mkdir()
    for name in ("sh", "cat", "ls", "id"):
        program = shutil.which(name)
        assert program is not None
        shutil.copy(os.path.realpath(program), made / "bin" / name)
        for word in subprocess.run(
            ["ldd", program], capture_output=True, text=True, check=False
        ).stdout.split():
            if word.startswith("/"):
                (made / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, made / word[1:])
    made.chmod(0o755)  # the folders above it are not the sandbox's
    return made


def test_a_folder_becomes_the_root(landlock: str, small_root: Path) -> None:
    with stockade.open(f"{landlock}:{small_root}") as session:
        printed = session.shell("ls /; id -un; cat /etc/hosts; echo x > /tmp/f; cat /tmp/f")
        listed, _, rest = printed.stdout.partition("sandbox")
        assert {"bin", "etc", "tmp", "workspace", "proc", "dev"} <= set(listed.split()), printed
        assert "localhost" in rest and rest.endswith("x\n")
        assert not session.shell("echo x > /bin/new").success
        session.files.write("/workspace/a/b", b"data")
        assert session.files.read("/workspace/a/b") == b"data"
    assert not (small_root / "bin/new").exists() and not (small_root / "workspace").exists()
