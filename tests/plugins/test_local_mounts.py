"""Folders of the host in the local walls: read-only unless asked, and the caller's (E9)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stockade
from core.toolkit.local.others import run_as_other
from stockade import ConfigError, Mount, SandboxStartError


@pytest.fixture
def folder() -> Iterator[Path]:
    """A project of the caller's, which nobody else may enter."""
    made = Path(tempfile.mkdtemp(prefix="stockade-mounts-", dir="/var/tmp"))
    (made / "project").mkdir()
    (made / "project" / "file").write_text("of the host\n")
    (made / "project" / "file").chmod(0o600)
    yield made
    shutil.rmtree(made)


def test_E9_it_is_read_only_unless_asked_otherwise(wall: str, folder: Path) -> None:
    source = str(folder / "project")
    line = "cat file; echo x > new; chmod 777 file; rm -f file; mv file other; ls"
    with stockade.open(wall, mounts=[Mount(source, source)]) as session:
        seen = session.shell(line, working_dir=source)
        assert seen.stdout == "of the host\nfile\n" and "Read-only file system" in seen.stderr
    assert [path.name for path in folder.joinpath("project").iterdir()] == ["file"]


def test_E9_what_is_written_is_the_callers(wall: str, folder: Path) -> None:
    source = str(folder / "project")
    mounts = [Mount(source, "/workspace/deep/project", False), Mount(source, "/home/a/p", False)]
    with stockade.open(wall, mounts=mounts) as session:
        result = session.shell(
            "cd deep/project && echo more >> file && mkdir -p a/b && cp /bin/true a/b/run && "
            "a/b/run && ln -s file link && mv a/b/run a/run && stat -c '%u %a' file a/run && "
            "cat /home/a/p/link"
        )
        # Inside it is the session's user's.
        assert result.stdout == "1000 600\n1000 755\nof the host\nmore\n", result
    for path in folder.joinpath("project").rglob("*"):
        at = path.lstat()
        assert (at.st_uid, at.st_gid) == (os.geteuid(), os.getegid()), path


def test_E9_no_file_takes_its_owners_rights(wall: str, folder: Path) -> None:
    """Whoever ran it on the host would be the caller."""
    code = (
        "import os, shutil\nshutil.copy('/bin/true', 'run')\n"
        "tries = {\n"
        "  'chmod': lambda: os.chmod('run', 0o4755), 'setgid': lambda: os.chmod('run', 0o2755),\n"
        "  'fchmod': lambda: os.fchmod(os.open('run', os.O_RDONLY), 0o4755),\n"
        "  'open': lambda: os.open('risen', os.O_CREAT | os.O_WRONLY, 0o4755),\n"
        "  'mknod': lambda: os.mknod('risen', 0o104755),\n"
        "  'usual': lambda: os.chmod('run', 0o1755) or os.close(os.open('x', os.O_CREAT, 0o644)),\n"
        "}\nfor name, call in tries.items():\n"
        "  try: call()\n  except PermissionError: continue\n  print(name)\n"
    )
    mount = Mount(str(folder / "project"), "/project", False)
    with stockade.open(wall, mounts=[mount]) as session:
        result = session.run(["python3", "-c", code], working_dir="/project")
        assert result.stdout == "usual\n", result
    assert not [path for path in folder.rglob("*") if path.lstat().st_mode & 0o6000]


def test_the_working_folder_may_be_one(wall: str, folder: Path) -> None:
    mount = Mount(str(folder / "project"), "/workspace", False)
    with stockade.open(wall, mounts=[mount]) as session:
        assert session.shell("pwd; ls; echo x > made").stdout == "/workspace\nfile\n"
    assert (folder / "project" / "made").read_text() == "x\n"


def test_E9_what_would_open_the_wall_is_refused_by_name(wall: str, folder: Path) -> None:
    home = os.path.expanduser("~")
    (folder / "link").symlink_to("/")
    (folder / "deep").symlink_to(folder / "link" / "etc")
    (folder / "to-home").symlink_to(home)
    inner = folder / "services" / "inner"
    inner.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(inner / "service.sock"))
        (folder / "to-services").symlink_to(inner)
        (folder / "to-service").symlink_to(inner / "service.sock")
        refused = {
            "/": "far more",
            home: "far more",
            "/home": "far more",
            str(folder / "link"): "far more",
            str(folder / "to-home"): "far more",
            str(folder / "deep"): "part of the system",
            "/etc": "part of the system",
            "/var/run": "part of the system",
            str(inner): "service.sock",
            str(inner.parent): "service.sock",
            str(folder / "to-services"): "service.sock",
            str(folder / "to-service"): "no folder",
            str(folder / "none"): "no folder",
            "relative": "absolute",
        }
        for source, why in refused.items():
            with pytest.raises(ConfigError, match=why) as caught:
                stockade.open(wall, mounts=[Mount(source, "/m")])
            assert repr(source) in str(caught.value)
    for target in ("/", "/proc", "/dev/x", "/usr/share/x", "/etc", "/bin"):
        with pytest.raises(ConfigError, match="cover"):
            stockade.open(wall, mounts=[Mount(str(folder / "project"), target)])
    twice = [Mount(str(folder / "project"), "/m"), Mount(str(folder), "/m")]
    with pytest.raises(ConfigError, match="given twice"):
        stockade.open(wall, mounts=twice)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders of others to give")
def test_E9_a_folder_of_another_user_is_refused(wall: str, folder: Path) -> None:
    os.chown(folder / "project", 4711, 4711)
    (folder / "link").symlink_to(folder / "project")
    for source in (folder / "project", folder / "link"):
        for read_only in (True, False):
            with pytest.raises(ConfigError, match="another user") as caught:
                stockade.open(wall, mounts=[Mount(str(source), "/m", read_only)])
            assert repr(str(source)) in str(caught.value)


def test_E9_a_folder_that_is_swapped_is_not_shown(
    wall: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at it and the mount."""
    from stockade.toolkit.local.root import shown

    def swapped(mounts: Any) -> Any:
        found = shown(mounts)
        (folder / "project").rename(folder / "away")
        (folder / "project").symlink_to("/etc")
        return found

    monkeypatch.setattr("stockade.toolkit.local.wall.shown", swapped)
    with pytest.raises(SandboxStartError, match="became another folder"):
        stockade.open(wall, mounts=[Mount(str(folder / "project"), "/m")])


@pytest.mark.parametrize("late", [False, True], ids=["before", "between"])
@pytest.mark.parametrize("old", ["old", "oldroot"])
def test_E9_a_link_in_a_mount_leads_no_other_mount_to_the_host(
    wall: str, folder: Path, monkeypatch: pytest.MonkeyPatch, old: str, late: bool
) -> None:
    """While a sandbox starts, the host's root is there by a name, and places are made."""
    from stockade.toolkit.local.root import shown

    def planted(mounts: Any) -> Any:
        found = shown(mounts)
        (folder / "project" / "sub").rmdir()
        plant()
        return found

    def plant() -> None:
        (folder / "project" / "sub").symlink_to(f"/{old}{folder}/victim")

    (folder / "victim").mkdir()
    (folder / "inner").mkdir()
    if late:
        (folder / "project" / "sub" / "made").mkdir(parents=True)
        (folder / "project" / "sub" / "made").rmdir()
        monkeypatch.setattr("stockade.toolkit.local.root._check_outer", lambda *_: None)
        monkeypatch.setattr("stockade.toolkit.local.wall.shown", planted)
    else:
        plant()
    mounts = [
        Mount(str(folder / "project"), "/m", False),
        Mount(str(folder / "inner"), "/m/sub/made"),
    ]
    with pytest.raises(SandboxStartError if late else ConfigError):
        stockade.open(wall, mounts=mounts)
    assert not list((folder / "victim").iterdir())


def test_a_mount_in_a_mount(wall: str, folder: Path) -> None:
    (folder / "project" / "kept").mkdir()
    (folder / "inner").mkdir()
    mounts = [
        Mount(str(folder / "inner"), "/m/kept", False),
        Mount(str(folder / "project"), "/m"),
    ]
    with stockade.open(wall, mounts=mounts) as session:
        result = session.shell("cat /m/file; echo x > /m/new || echo x > /m/kept/made")
        assert result.stdout == "of the host\n", result
    assert (folder / "inner" / "made").read_text() == "x\n"


_AS_A_USER = """
import json, os, sys, stockade
wall, folder = sys.argv[1:]
os.setgroups([]); os.setgid(4712); os.setuid(4711); os.environ["HOME"] = "/"
mounts = [stockade.Mount(folder, "/project", False), stockade.Mount(folder, "/workspace/p")]
with stockade.open(wall, mounts=mounts) as s:
    done = s.shell("cat file; echo x > new; mkdir d; stat -c %u new", working_dir="/project")
    read = s.shell("cat p/file; echo x > p/newer; rm p/file").stdout
    options = s.shell("grep -E ' (/project|/workspace/p) ' /proc/self/mountinfo").stdout
os.mkdir(folder + "/d/victim"); os.symlink(f"/oldroot{folder}/d/victim", folder + "/d/link")
inner = [*mounts, stockade.Mount(folder, "/project/d/link/made")]
try: stockade.open(wall, mounts=inner)
except stockade.ConfigError: pass
assert not os.listdir(folder + "/d/victim")
refused = []
for source, read_only in (("/var/tmp", True), (os.path.dirname(folder), False)):
    try: stockade.open(wall, mounts=[stockade.Mount(source, "/m", read_only)])
    except stockade.ConfigError as error: refused.append(str(error))
print(json.dumps([done.stdout, read, options, refused]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_E9_of_an_ordinary_user(wall: str, folder: Path) -> None:
    folder.chmod(0o755)
    for path in (folder / "project", folder / "project" / "file"):
        os.chown(path, 4711, 4712)
    done = run_as_other(_AS_A_USER, wall, str(folder / "project"))
    assert done.returncode == 0, done.stderr
    written, read, options, refused = json.loads(done.stdout)
    assert (written, read) == ("of the host\n1000\n", "of the host\n")
    by_place = sorted(options.splitlines(), key=lambda line: line.split()[4])
    for line, mode in zip(by_place, ("rw", "ro"), strict=True):
        assert {mode, "nosuid", "nodev"} <= set(line.split()[5].split(",")), options
    assert "far more" in refused[0] and "another user (root)" in refused[1]
    for path in folder.joinpath("project").rglob("*"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (4711, 4712), path
    assert sorted(path.name for path in folder.joinpath("project").iterdir()) == [
        "d",
        "file",
        "new",
    ]
