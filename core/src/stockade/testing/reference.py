"""The reference wall: scripted answers for an application's own tests, and NO ISOLATION.

    from stockade.testing.reference import Answer, answers

    with answers({("make", "test"): Answer(exit_code=2, stderr="no rule"),
                  "pip install *": Answer(stdout="done\\n")}) as asked:
        my_application(provider="reference-no-isolation")
    assert asked[0].argv == ("pip", "install", "attrs")

No installed distribution registers it: ``answers`` does, in a runtime, while it is in force.
Then sessions of the provider ``reference-no-isolation`` execute nothing at all: what is
scripted is answered, everything else exits with 127, and ``session.files`` works in a temporary
folder, whatever the path. Without a script the wall runs programs as plain subprocesses of
this machine, in a folder of their own and with nothing between them and your files: what
stockade's own tests run, to see that a wall which is nothing but the contract passes.
"""

from __future__ import annotations

import fnmatch
import shlex
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import attrs

from stockade._leftover import Leftover
from stockade.capabilities import Capabilities, Feature, Isolation, refusals
from stockade.errors import SandboxLostError, SandboxStartError
from stockade.files._scripts import SCRIPTS
from stockade.plugin import hookimpl
from stockade.results import Stream
from stockade.sessions._runtime import Runtime, default_runtime
from stockade.testing import subprocesses
from stockade.testing.subprocesses import PlainSandbox
from stockade.wall import (
    AttachRequest,
    Availability,
    Check,
    ExecRequest,
    Exit,
    Form,
    OpenRequest,
    Output,
    Place,
    Running,
    Sandbox,
    Wall,
)

__all__ = ["STOCKADE_API_VERSION", "Answer", "ReferenceWall", "answers", "stockade_wall"]

STOCKADE_API_VERSION = 1  #: The version of the plug-in interface that it is written for.

#: The provider's name.
NAME = "reference-no-isolation"


@attrs.frozen(kw_only=True)
class Answer:
    """What a scripted execution prints and how it ends; text is UTF-8.

    ``seconds`` is how long it takes: past the request's timeout it times out as a real
    program would. ``lost`` lets the sandbox die of it (``SandboxLostError``).
    """

    stdout: str | bytes = b""  #: what it prints; text is encoded as UTF-8
    stderr: str | bytes = b""  #: the same on standard error
    exit_code: int = 0  #: where no signal ends it
    signal: int | None = None  #: the number of the signal that ends it, or None
    out_of_memory: bool = False  #: whether the memory limit ends it
    seconds: float = 0.0
    lost: bool = False


#: A pattern of ``answers`` to what answers; a function is given the request.
Script = Mapping[Any, "Answer | Callable[[ExecRequest], Answer]"]


@attrs.define(eq=False)
class _Scripted:
    script: Script
    asked: list[ExecRequest] = attrs.field(factory=list)


_in_force: list[_Scripted] = []
_lock = threading.Lock()


@contextmanager
def answers(script: Script, *, runtime: Runtime | None = None) -> Iterator[list[ExecRequest]]:
    """Register ``reference-no-isolation`` and script its sessions that are opened meanwhile.

    It is registered in ``runtime``, by default the process's own, and goes with the outermost
    call.

    A tuple matches an argument vector as it is; a text is a pattern (``*``, ``?``) for
    the shell line, the code, or the argument vector as a shell would need it written.
    The first that matches answers; what none matches exits with 127 and says so on
    standard error. Gives the list of requests, which grows as they come. The innermost
    of nested calls holds.
    """
    scripted = _Scripted(script)
    walls = (runtime or default_runtime()).walls
    with _lock:
        _in_force.append(scripted)
    try:
        with walls.lent(NAME, ReferenceWall):
            yield scripted.asked
    finally:
        with _lock:
            _in_force.remove(scripted)


def _answer(scripted: _Scripted, request: ExecRequest) -> Answer:
    line = shlex.join(request.argv) if request.form is Form.ARGV else request.script
    for pattern, answer in scripted.script.items():
        if pattern == request.argv or (
            isinstance(pattern, str) and fnmatch.fnmatchcase(line, pattern)
        ):
            return answer if isinstance(answer, Answer) else answer(request)
    return Answer(exit_code=127, stderr=f"{NAME}: no answer is scripted for: {line:.200}\n")


class _ScriptedSandbox(Sandbox):
    def __init__(self, scripted: _Scripted, request: OpenRequest) -> None:
        self._scripted = scripted
        self._ended = threading.Event()
        self._folder = PlainSandbox(request)

    def start(self, request: ExecRequest, output: Output) -> Running:
        if request.argv[:2] == ("sh", "-c") and request.argv[2] in SCRIPTS:
            # Core's own way to files, not the application's program.
            head, rest = request.argv[:4], request.argv[4:]
            argv = (*head, *(self._folder.inside(w) if w.startswith("/") else w for w in rest))
            return self._folder.start(attrs.evolve(request, argv=argv), output)
        with _lock:
            self._scripted.asked.append(request)
        return _ScriptedRunning(_answer(self._scripted, request), output, self._ended)

    def languages(self) -> tuple[str, ...]:
        return ("python", "sh", "bash", "javascript", "perl", "ruby")

    def pause(self) -> None:
        return None

    def resume(self) -> None:
        return None

    def close(self) -> None:
        self._ended.set()
        self._folder.close()


class _ScriptedRunning(Running):
    def __init__(self, answer: Answer, output: Output, gone: threading.Event) -> None:
        self._answer = answer
        self._output = output
        self._gone = gone
        self._killed = threading.Event()

    def wait(self) -> Exit:
        answer = self._answer
        for stream, text in ((Stream.STDOUT, answer.stdout), (Stream.STDERR, answer.stderr)):
            self._output.write(stream, text.encode() if isinstance(text, str) else text)
        if self._killed.wait(answer.seconds):
            return Exit(signal=9)
        if answer.lost or self._gone.is_set():
            raise SandboxLostError("the answer's script let the sandbox die; open a new session.")
        if answer.signal is not None or answer.out_of_memory:
            return Exit(signal=answer.signal or 9, out_of_memory=answer.out_of_memory)
        return Exit(code=answer.exit_code)

    def kill(self) -> None:
        self._killed.set()


_PLAIN = Capabilities(
    {
        "argv": "native",
        "shell": "emulated",
        "code": "emulated",
        "files": "emulated",
        "watch": ("emulated", "the folder is looked at now and then"),
        "durable": ("native", "a session is a folder, whichever processes come and go"),
        "live-input": "native",
        "signals": "native",
        "merged-output": "native",
        "terminal": "native",
        "background": ("unsupported", "what a program leaves behind ends with it"),
        "network": ("native", "the host's own"),
        "writable-root": ("native", "the host's own"),
    }
)
#: What a script cannot answer.
_LACKING = (
    Feature.LIVE_INPUT,
    Feature.SIGNALS,
    Feature.TERMINAL,
    Feature.PORTS,
    Feature.DURABLE,
    Feature.SNAPSHOT,
)
#: Nothing is executed, so whatever an application asks for is held.
_SCRIPTED = Capabilities(
    {
        feature: ("emulated", "nothing is executed: the answers are scripted")
        for feature in Feature
        if feature not in _LACKING
    }
)


class ReferenceWall(Wall):
    """``reference-no-isolation``: no wall at all."""

    isolation = Isolation.NONE
    summary = "NO ISOLATION: scripted answers and plain subprocesses, for tests alone"
    defaults: ClassVar[Mapping[str, Any]] = {
        "memory_mb": None,
        "cpu_limit": None,
        "max_processes": None,
        "disk_mb": None,
        "network_enabled": True,
        "read_only_fs": False,
    }

    _folder = ""  # where to look, whatever the environment says

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        return _SCRIPTED if _in_force else _PLAIN

    def probe(self) -> Availability:
        why = subprocesses.missing()
        return Availability(
            (
                Check("isolation", True, "NONE: programs run on this machine as you do"),
                Check("programs", not why, why or "sh", "use a POSIX system with /bin/sh"),
            )
        )

    def open(self, request: OpenRequest) -> Sandbox:
        with _lock:
            scripted = _in_force[-1] if _in_force else None
        if scripted is not None:
            return _ScriptedSandbox(scripted, request)
        if refusals(request.config, _PLAIN):  # the script went out of force this very moment
            raise SandboxStartError("no answers are in force any more.", retryable=False)
        return PlainSandbox(request)

    def place(self) -> Place:
        return Place.here(self._folder or tempfile.gettempdir())

    def look_at(self, place: Place) -> None:
        self._folder = place.word

    def leftovers(self) -> list[Leftover]:
        return subprocesses.leftovers(self.place().word)

    def remove(self, leftover: Leftover) -> None:
        subprocesses.remove(leftover.handle)

    def attach(self, request: AttachRequest) -> Sandbox:
        for found in self.leftovers():
            if found.session_id == request.session_id:
                return PlainSandbox(request, found.handle)
        raise SandboxLostError("the session's folder is gone; open a new session.")


@hookimpl
def stockade_wall() -> type[Wall]:
    """The plug-in's hook: the wall's class. Called by core when the provider is selected."""
    return ReferenceWall
