"""Plain subprocesses as a sandbox: what the reference wall runs where nothing is scripted.

Nothing here isolates. ``/workspace`` and ``/tmp`` of arguments, lines and code stand for
two folders of the session's own; a program's tree is found by a mark in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import ClassVar

import attrs

from stockade._leftover import Leftover
from stockade.errors import SandboxLostError, WorkingDirectoryError
from stockade.lowering import lower
from stockade.system.moments import moment, read_moment
from stockade.testing.terminals import PlainTerminal
from stockade.toolkit.processes.children import Child
from stockade.toolkit.processes.pump import LocalRunning
from stockade.wall import (
    ExecRequest,
    Exit,
    OpenRequest,
    Output,
    Running,
    Sandbox,
    Terminal,
    TerminalRequest,
)

__all__ = ["PlainSandbox", "leftovers", "missing", "remove"]

#: What a shell says with 127 and 126 is a result, also where the program is named by a path.
_ENTER = 'case $1 in */*) [ -e "$1" ] || exit 127;; esac; exec "$@"'
_PREFIX = "stockade-reference-"
_SIGNED = ".session.json"
_MARK = "STOCKADE_REFERENCE_EXECUTION"
#: How often the tree is looked at again while it ends: a fork in between is found then.
_LOOKS = 200


def missing() -> str:
    """What this machine lacks for it, or an empty text."""
    if os.name != "posix":
        return f"{os.name} has no POSIX processes"
    return "" if os.path.exists("/bin/sh") else "there is no /bin/sh"


class PlainSandbox(Sandbox):
    """A folder of its own, and programs in it."""

    #: Folders beside the working folder that stand for some of the session's own.
    own: ClassVar[tuple[str, ...]] = ("/tmp",)

    def __init__(self, request: OpenRequest, root: str | None = None) -> None:
        """``root``: the folder of one that is there already, to be used by one more."""
        if root is None:
            root = tempfile.mkdtemp(prefix=f"{_PREFIX}{request.session_id}-")
            _sign(root, request)
        self._root = os.path.realpath(root)
        self._alive = True
        inside = (request.config.working_dir, *self.own)
        self._folders = {folder: self.inside(folder) for folder in inside}
        for folder in self._folders.values():
            os.makedirs(folder, exist_ok=True)
        heads = "|".join(re.escape(folder) for folder in self._folders)
        # A path of the session's own folder is one already, and stays as it is.
        self._inside = re.compile(rf"{re.escape(self._root)}|(?<![\w./-])(?:{heads})(?=$|[^\w.-])")

    def inside(self, path: str) -> str:
        """An absolute path as one below the session's own folder, wherever it would lead."""
        return self._root + os.path.normpath(f"/{path}").replace("//", "/")

    def _real(self, text: str) -> str:
        return self._inside.sub(lambda found: self._folders.get(found[0], found[0]), text)

    def start(self, request: ExecRequest, output: Output) -> Running:
        if not self._alive:
            raise SandboxLostError("the reference sandbox is gone; open a new session.")
        request = lower(attrs.evolve(request, script=self._real(request.script)))
        if not os.path.isdir(self._real(request.working_dir)):
            raise WorkingDirectoryError(request.working_dir)
        return self.serve(self.spawn(request), request, output)

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        """The program of a request in its argv form, with pipes for all three streams."""
        return Child(
            ["sh", "-c", _ENTER, "sh", *map(self._real, request.argv)],
            cwd=self._real(request.working_dir),
            env=self._variables(request.env, self.mark(request)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if request.merge else subprocess.PIPE,
            start_new_session=True,
        )

    def _variables(self, own: Mapping[str, str], mark: str) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": self._root,
            "TMPDIR": self._folders.get("/tmp", "/tmp"),
            **own,
            _MARK: mark,
        }

    def terminal(self, request: TerminalRequest) -> Terminal:
        if not self._alive:
            raise SandboxLostError("the reference sandbox is gone; open a new session.")
        folder = self._real(request.working_dir)
        if not os.path.isdir(folder):
            raise WorkingDirectoryError(request.working_dir)
        mark = f"{self._root}/terminal-{secrets.token_hex(8)}"
        return PlainTerminal(
            [*map(self._real, request.argv)] or ["sh"],
            cwd=folder,
            env=self._variables(request.env, mark),
            size=(request.rows, request.columns),
            end_tree=lambda: _end_all(mark),
        )

    def serve(
        self, process: subprocess.Popen[bytes], request: ExecRequest, output: Output
    ) -> Running:
        return _PlainRunning(process, request, output, self, self.mark(request))

    def mark(self, request: ExecRequest) -> str:
        """What every process of an execution has in its environment."""
        return f"{self._root}/{request.execution_id}"

    def die(self) -> None:
        """Die as if by an accident (D14)."""
        self._alive = False
        _end_all(self._root)

    @property
    def alive(self) -> bool:
        return self._alive

    def close(self) -> None:
        remove(self._root)

    def detach(self) -> None:
        """The folder is all there is of it, and stays."""


def _sign(root: str, request: OpenRequest) -> None:
    """Write into the folder whose it is, for ``leftovers``."""
    about = {
        "session_id": request.session_id,
        "owner": request.owner,
        "expires": None if request.expires_at is None else moment(request.expires_at),
        "durable": request.config.durable,
    }
    with open(os.path.join(root, _SIGNED), "w", encoding="utf-8") as file:
        json.dump(about, file)


def leftovers(folder: str) -> list[Leftover]:
    """Every session's folder in a temporary folder, of every owner."""
    found = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        root = os.path.join(folder, name)
        if name.startswith(_PREFIX):
            with contextlib.suppress(OSError, ValueError, TypeError):
                with open(os.path.join(root, _SIGNED), encoding="utf-8") as file:
                    about = json.load(file)
                expires = read_moment(about.pop("expires", None) or "")
                found.append(
                    Leftover(handle=root, words=f"folder {root}", expires_at=expires, **about)
                )
    return found


def remove(root: str) -> None:
    """End what runs in a session's folder, and remove it."""
    _end_all(os.path.realpath(root))
    # Whose it is goes last, so that gc finds again what could not be removed.
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(root):
            if name != _SIGNED:
                shutil.rmtree(os.path.join(root, name), ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    if os.path.isdir(root):
        raise OSError(f"{root} cannot be removed; look at what is in it.")


class _PlainRunning(Running):
    """A marked program: its end is its whole tree's."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        request: ExecRequest,
        output: Output,
        sandbox: PlainSandbox,
        mark: str,
    ) -> None:
        live = request.live_input
        self._inner = LocalRunning(process, request.stdin, output, live_input=live)
        self._sandbox = sandbox
        self._mark = mark

    def wait(self) -> Exit:
        ended = self._inner.wait()
        _end_all(self._mark)
        if not self._sandbox.alive:
            raise SandboxLostError("the reference sandbox died; open a new session.")
        return ended

    def kill(self) -> None:
        self._inner.kill()
        _end_all(self._mark)

    def signal(self, number: int, *, group: bool) -> None:
        self._inner.signal(number, group=group)

    def write(self, data: bytes, seconds: float) -> int:
        return self._inner.write(data, seconds)

    def close_input(self) -> None:
        self._inner.close_input()


def _end_all(mark: str) -> None:
    """Kill every process whose mark begins so, until none is found."""
    for _ in range(_LOOKS):
        found = _marked(mark)
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.005)


def _marked(mark: str) -> list[int]:
    """The living processes with that mark, where the system has ``/proc``."""
    head = f"{_MARK}={mark}".encode()
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as file:
                if any(item.startswith(head) for item in file.read().split(b"\0")):
                    found.append(int(entry))
    return found
