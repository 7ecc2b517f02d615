"""What ``stockade run`` gives a command of the caller's: folders, files, hosts."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stockade.cli.work import Work
from stockade.config import Mount

STOCKADE = [sys.executable, "-m", "stockade.cli"]


def work(**more: object) -> Work:
    usual: dict[str, object] = {
        **dict.fromkeys(("memory", "cpu", "processes", "disk", "lifetime")),
        "mounts": (),
        "puts": (),
        "gets": (),
        "hosts": (),
        "secrets": (),
        "secret_files": (),
        "network": False,
        "env": (),
        "workdir": None,
    }
    return Work.of({**usual, **more})


# -- what the words mean ---------------------------------------------------------------


def test_a_mount_is_read_only_and_at_its_own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr/share")
    meant = {
        ".": Mount("/usr/share", "/usr/share"),
        ".:ro": Mount("/usr/share", "/usr/share"),
        ".:rw": Mount("/usr/share", "/usr/share", False),
        "../lib": Mount("/usr/lib", "/usr/lib"),
        "doc:/d": Mount("/usr/share/doc", "/d"),
        "/a/b:/d:rw": Mount("/a/b", "/d", False),
    }
    for text, mount in meant.items():
        assert work(mounts=(text,)).mounts == [mount], text
    for text in ("", ":rw", "a:b:c", "a:/b:rwx", "a:"):
        with pytest.raises(click.UsageError, match="write DIR"):
            work(mounts=(text,))


def test_it_starts_where_the_caller_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr/share/doc")
    assert work(mounts=(".",)).working_dir == "/usr/share/doc"
    assert work(mounts=("..",)).working_dir == "/usr/share/doc"
    assert work(mounts=("..:/project",)).working_dir == "/project/doc"
    assert work(mounts=(".",), workdir="/else").working_dir == "/else"
    assert work(mounts=("/usr/lib",)).working_dir is None
    assert work().working_dir is None


def test_only_what_is_said_is_set() -> None:
    assert work().fields() == {}
    assert work(memory=4096, lifetime="none").fields() == {
        "memory_mb": 4096,
        "lifetime_seconds": None,
    }
    said = work(mounts=("/a",), hosts=("b:1=loopback", "c"), network=True).fields()
    assert said == {
        "mounts": (Mount("/a", "/a"),),
        "network_allow": ("b:1=loopback", "c"),
        "network_enabled": True,
    }
    for option in ("puts", "gets"):
        with pytest.raises(click.UsageError, match="write PATH"):
            work(**{option: ("a:",)})


# -- on a wall ---------------------------------------------------------------------------


@pytest.fixture
def project() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="stockade-project-", dir="/var/tmp"))
    (made / "src").mkdir()
    (made / "src" / "main").write_text("of the project\n")
    yield made
    shutil.rmtree(made)


def run(project: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*STOCKADE, "run", *words], capture_output=True, timeout=60, check=False, cwd=project
    )


def test_a_project_is_worked_on(wall: str, project: Path) -> None:
    line = "pwd; cat src/main; echo more >> src/main; mkdir out; echo $GIVEN > out/made"
    read = run(project, "-p", wall, "--mount", ".", "--shell", line)
    started, seen = read.stdout.decode().splitlines()
    # On bubblewrap /var/tmp is a link.
    assert Path(started).name == project.name and seen == "of the project"
    assert b"Read-only file system" in read.stderr
    done = run(
        project / "src",
        "-p",
        wall,
        "--mount",
        "..:rw",
        "--env",
        "GIVEN=x",
        "--workdir",
        str(project),
        "--shell",
        line,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (project / "src/main").read_text() == "of the project\nmore\n"
    made = project / "out/made"
    assert made.read_text() == "x\n" and made.stat().st_uid == os.geteuid()


def test_copies_go_in_and_out(wall: str, project: Path) -> None:
    line = "cat main; cp main made; mkdir -p deep/er; cp main deep/er/; exit 7"
    done = run(
        project,
        "-p",
        wall,
        "--put",
        "src",
        "--put",
        "src/main:/tmp/other",
        "--get",
        "made",
        "--get",
        "deep:brought",
        "--get",
        "/tmp/other",
        "--shell",
        line,
    )
    assert (done.returncode, done.stderr) == (7, b"")
    for path in ("made", "brought/er/main", "other"):
        assert (project / path).read_text() == "of the project\n"
    missing = run(project, "-p", wall, "--get", "nothing", "--", "true")
    assert missing.returncode == 125 and b"nothing" in missing.stderr
    assert run(project, "-p", wall, "--get", "nothing", "--", "false").returncode == 1


def test_what_would_open_the_wall_is_refused_by_name(wall: str, project: Path) -> None:
    home = os.path.expanduser("~")
    for option, value, says in (
        ("--mount", "/", "far more"),
        ("--mount", home, "far more"),
        ("--mount", "/etc:/e", "part of the system"),
        ("--allow", "https://api.example.com/v1", "write 'api.example.com'"),
        ("--allow", "http://api.example.com", "write 'api.example.com'"),
        ("--allow", "api.example.com/v1", "write 'api.example.com'"),
        ("--allow", "10.0.0.1", "raw addresses"),
        ("--allow", "*.pypi.org", "patterns are not allowed"),
        ("--allow", "10.0.0.1:443", "raw addresses"),
        ("--allow", "[::1]:443", "raw addresses"),
        ("--allow", "a=169.254.169.254", "link-local"),
    ):
        done = run(project, "-p", wall, option, value, "--", "true")
        assert done.returncode == 125 and says in done.stderr.decode(), done
        assert value.partition(":/")[0] in done.stderr.decode()


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a model's answer")

    def log_message(self, *_: object) -> None: ...


def test_a_model_server_on_loopback(wall: str, project: Path) -> None:
    code = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            place = f"models:{server.server_port}"
            asked = ["--", "python3", "-c", code, f"http://{place}/"]
            done = run(project, "-p", wall, "--allow", f"{place}=loopback", *asked)
            assert done.stdout == b"a model's answer\n", done
            assert run(project, "-p", wall, *asked).returncode == 1
            # Its own loopback it asks directly, unless that very name is an entry.
            place = f"localhost:{server.server_port}"
            asked = ["--", "python3", "-c", code, f"http://{place}/"]
            done = run(project, "-p", wall, "--allow", f"{place}=loopback", *asked)
            assert done.stdout == b"a model's answer\n", done
            assert b"refused" in run(project, "-p", wall, "--allow", "models", *asked).stderr
        finally:
            server.shutdown()


def test_a_program_whose_interpreter_does_not_show_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "versions" / "3" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_bytes(b"")
    python.chmod(0o755)
    project = tmp_path / "project"
    (project / "bin").mkdir(parents=True)
    (project / "bin" / "python").symlink_to(python)
    (project / "bin" / "sh").symlink_to("/usr/bin/sh")
    (project / "bin" / "test").write_text(f"#!{project}/bin/python\n")
    (project / "bin" / "test").chmod(0o755)
    monkeypatch.chdir(project)
    end = os.path.realpath(python)
    given = work(mounts=(".",))
    assert given.not_shown("bin/python") == given.not_shown(f"{project}/bin/python") == end
    assert given.not_shown("bin/test") == end
    assert [given.not_shown(name) for name in ("bin/sh", "bin/none", "python", "/bin/sh")] == [
        ""
    ] * 4
    assert work(mounts=(".", str(tmp_path / "versions"))).not_shown("bin/python") == ""
    assert work().not_shown("bin/python") == ""


def test_what_a_hostile_program_left_holds_nothing_up_and_shows_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, key = tmp_path / "project", tmp_path / "keys" / "id"
    for folder in (project, key.parent):
        folder.mkdir()
    key.write_text("of nobody\n")
    (project / "key").symlink_to(key)
    (project / "keys").symlink_to(key.parent)
    os.mkfifo(project / "fifo", 0o755)
    for one, other in (("one", "other"), ("other", "one")):
        (project / one).write_text(f"#!{project}/{other}\n")
        (project / one).chmod(0o755)
    monkeypatch.chdir(project)
    given = work(mounts=(".",))
    names = ("./key", "./keys", "./fifo", "./one")
    assert [given.not_shown(name) for name in names] == [""] * 4


def test_what_shows_a_missing_interpreter_is_said(landlock: str, tmp_path: Path) -> None:
    python = tmp_path / "3" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    python.chmod(0o755)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "python").symlink_to(python)
    done = subprocess.run(
        [*STOCKADE, "run", "-p", landlock, "--mount", ".", "--", "./python"],
        cwd=tmp_path / "project",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 127
    assert (
        f"which does not show inside. Show that folder, too: --mount {tmp_path}/3\n" in done.stderr
    )
