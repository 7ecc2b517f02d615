"""The page's recipe for a coding agent, as it stands there, with a stand-in on a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from conftest import need
from work.made import Served, serving

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-a-coding-agent.md"
AGENT = Path(__file__).with_name("agent.py")
_SECONDS = 30.0


class Typist:
    """Whoever sits at a terminal on which a command runs."""

    def __init__(self, command: str, folder: Path, env: dict[str, str]) -> None:
        self._control, terminal = os.openpty()
        self.resize(24, 80)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "bash", "-c", command],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=folder,
            env=env,
        )
        os.close(terminal)
        self._shown = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._control, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._control, text.encode())

    def see(self, pattern: str) -> str:
        """Wait until it is shown, and give what matched; what came before it is done with."""
        until = time.monotonic() + _SECONDS
        while (found := re.search(pattern.encode(), self._shown)) is None:
            ready, _, _ = select.select([self._control], [], [], max(0, until - time.monotonic()))
            piece = b""
            with contextlib.suppress(OSError):  # nobody holds its other end any more
                piece = os.read(self._control, 4096) if ready else b""
            assert piece, f"{pattern} was not shown: {self._shown!r}"
            self._shown += piece
        self._shown = self._shown[found.end() :]
        return found[0].decode()

    def order(self, line: str) -> str:
        """What the agent answers to a line."""
        self.see("agent> ")
        self.type(line + "\r")
        return self.see(r"=> [^\r]*\r").removeprefix("=> ").strip()

    def end(self) -> int:
        return self._process.wait(_SECONDS)

    def close(self) -> None:
        os.close(self._control)
        self._process.kill()
        self._process.wait()


@attrs.frozen
class Desk:
    """A home with an agent and its settings, and a project."""

    home: Path

    @property
    def project(self) -> Path:
        return self.home / "project"

    def sit(self, wall: str, command: str) -> Typist:
        env = {
            **os.environ,
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STOCKADE_PROVIDER": wall,
            "AGENT_API_KEY": "of the caller's",
        }
        for name in ("LINES", "COLUMNS"):
            env.pop(name, None)
        return Typist(command, self.project, env)


@pytest.fixture
def desk() -> Iterator[Desk]:
    home = Path(tempfile.mkdtemp(prefix="stockade-home-", dir="/var/tmp"))
    program = home / ".local/share/agent/agent"
    program.parent.mkdir(parents=True)
    shutil.copy(AGENT, program)
    (home / ".agent").mkdir()
    project = home / "project"
    subprocess.run(["git", "init", "-q", project], check=True)
    (project / "main.py").write_text("print('old')\n")
    (home / ".gitconfig").write_text("[user]\n  name = A\n  email = a@b.example\n")
    yield Desk(home)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served"), "api.example.com") as served:
        yield served


@pytest.fixture(params=["local", "landlock", "bubblewrap"])
def wall(request: pytest.FixtureRequest) -> str:
    need("landlock" if request.param == "local" else request.param)
    return str(request.param)


def recipe(served: Served) -> str:
    """The page's own command; its hosts lead to the tests' server."""
    (command,) = re.findall(r"```sh\n(stockade shell .*?)```", PAGE.read_text(), re.DOTALL)
    command, count = re.subn(r"--allow ([\w.]+)", rf"--allow \1:{served.port}=loopback", command)
    assert count == 2
    return str(command).strip()


def test_an_agent_works_on_a_project(wall: str, desk: Desk, served: Served) -> None:
    typist = desk.sit(wall, recipe(served))
    with contextlib.closing(typist):
        assert typist.order("edit main.py old new") == "done"
        assert typist.order("run python3 main.py") == "0: new"
        assert typist.order("run git add .") == "0:"
        assert typist.order("run git commit -q -m work") == "0:"
        for host in ("api.example.com", "pypi.org"):
            assert typist.order(f"ask {host}:{served.port}/page") == "from the host's server"
        assert typist.order(f"ask other.example.com:{served.port}/page") == "refused: 403"
        assert typist.order("remember tea") == "done"
        assert typist.order("key") == "of the caller's"
        # Nothing else of the home, and no way to run something here later.
        assert "No such file" in typist.order(f"run cat {desk.home}/.gitconfig")
        hook = f"{desk.project}/.git/hooks/post-commit"
        assert "Read-only" in typist.order(f"run cp /bin/true {hook}")
        assert "Read-only" in typist.order(f"run rm {desk.home}/.local/share/agent/agent")
        typist.type("quit\r")
        assert typist.end() == 7
    assert (desk.project / "main.py").read_text() == "print('new')\n"
    log = subprocess.run(
        ["git", "-C", desk.project, "log", "--format=%an %s"], capture_output=True, text=True
    )
    assert log.stdout == "A work\n", log
    for path in desk.home.rglob("*"):
        assert path.lstat().st_uid == os.geteuid(), path
    with contextlib.closing(desk.sit(wall, recipe(served))) as later:
        assert later.order("recall") == "tea"


def test_its_terminal_is_one(wall: str, desk: Desk, served: Served) -> None:
    """Windows change, keys interrupt what runs, and the typist's terminal is as it was."""
    typist = desk.sit(wall, "stty -g; " + recipe(served) + "; echo code $?; stty -g")
    with contextlib.closing(typist):
        before = typist.see(r"[0-9a-f:]{30,}\r")
        assert typist.order("size") == "os.terminal_size(columns=80, lines=24)"
        typist.resize(40, 132)
        until = time.monotonic() + _SECONDS
        while typist.order("size") != "os.terminal_size(columns=132, lines=40)":
            assert time.monotonic() < until
        typist.see("agent> ")
        typist.type("think\r")
        typist.see("thinking\r\n")
        typist.type("\x03")
        typist.see("=> interrupted")
        typist.see("agent> ")
        typist.type("quit\r")
        typist.see("code 7")
        assert typist.see(r"[0-9a-f:]{30,}\r") == before
