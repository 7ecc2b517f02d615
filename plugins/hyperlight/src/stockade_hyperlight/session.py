"""A session: its files, and the microVMs that run its executions."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from stockade.errors import (
    ConfigError,
    SandboxLostError,
    SandboxStartError,
    WorkingDirectoryError,
)
from stockade.file_backend import FileBackend
from stockade.wall import ExecRequest, Exit, OpenRequest, Output, Running, Sandbox
from stockade_hyperlight import leftovers, tools
from stockade_hyperlight.folders import Folders
from stockade_hyperlight.machine import Machine, MachineError

__all__ = ["HEAP_MB", "HyperlightSandbox", "guest_spec"]

#: The guest's heap; the rest of the session's memory is what its pages come from.
HEAP_MB = 25
#: How often a machine that broke down between executions is replaced.
_TRIES = 3
_FOLDERS = ("/workspace", "/output")
#: Files that a folder may hold. The package's own number is small, and it refuses to run
#: code over a folder that holds more.
_FILES = 10_000
_MODULES = {"python": "python_guest.path", "javascript": "javascript_guest.path"}


def guest_spec(language: str, backend: str, memory_mb: int, disk_mb: int | None) -> dict[str, Any]:
    """What a machine is made of, but for the folders."""
    limits: dict[str, Any] = {"filesystem_limits": "unlimited"}
    if disk_mb is not None:
        size = f"{disk_mb}Mi"
        limits = {"max_file_size": size, "max_total_size": size, "max_file_count": _FILES}
    here = files("stockade_hyperlight").joinpath("inside")
    prelude = here.joinpath("prelude.py" if language == "python" else "prelude.js").read_text()
    return {
        "backend": "wasm" if backend == "wasm" else "hyperlight-js",
        "module": _MODULES[language],
        "heap": f"{HEAP_MB}Mi",
        "stack": f"{memory_mb - HEAP_MB}Mi",
        "limits": limits,
        "tools": [],
        "allow": [],
        "keep": False,
        "prelude": prelude,
    }


class HyperlightSandbox(Sandbox):
    """Machines are made as executions overlap, and after one was killed."""

    def __init__(
        self,
        request: OpenRequest,
        language: str,
        spec: dict[str, Any],
        *,
        parallel: int,
        place: str,
    ) -> None:
        """``place`` is the folder in which the session's own is made."""
        self._language = language
        self._tools = tuple(spec["tools"])
        self._parallel = parallel
        self._spec = spec
        self._lock = threading.Condition()
        self._idle: list[Machine] = []
        self._all: set[Machine] = set()
        self._making = 0
        self._named: dict[str, Machine] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._paused = False
        self._closed = False
        host = leftovers.make(request.session_id, request.owner, place)
        self._folders = Folders(request.config.disk_mb, host)
        machine = None
        try:
            machine = self._make()
            machine.ready(request.config.startup_timeout_seconds)
        except BaseException as error:
            self.close()
            if machine is not None:
                machine.close()
            if isinstance(error, (MachineError, TimeoutError)):
                raise SandboxStartError(
                    f"the microVM did not start: {error}; see `stockade doctor -p hyperlight`."
                ) from error
            raise
        self._rest(machine)

    # -- the Sandbox interface -------------------------------------------------

    def languages(self) -> Sequence[str]:
        return (self._language,)

    def files(self) -> FileBackend:
        return self._folders

    def start(self, request: ExecRequest, output: Output) -> Running:
        if request.working_dir not in _FOLDERS:
            raise WorkingDirectoryError(request.working_dir)
        self._check()
        return _Execution(self, request, output)

    def pause(self) -> None:
        with self._lock:
            self._paused = True
            for machine in self._all:
                machine.stop()

    def resume(self) -> None:
        with self._lock:
            self._paused = False
            for machine in self._all:
                machine.stop(resume=True)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            machines, self._all = list(self._all), set()
            self._idle.clear()
            self._lock.notify_all()
            resting = [machine for machine in machines if not machine.busy]
        for machine in machines:
            machine.kill()
        for machine in resting:
            machine.close()  # the others are closed by the executions that use them
        self._folders.destroy()

    @property
    def machines(self) -> tuple[Machine, ...]:
        """Those that are there now, for tests that kill them."""
        with self._lock:
            return tuple(self._all)

    # -- machines --------------------------------------------------------------

    def _check(self) -> None:
        if self._closed:
            raise SandboxLostError("the session is closed.")

    def _make(self, *, keep: bool = False) -> Machine:
        spec = {
            **self._spec,
            "input": self._folders.input,
            "output": self._folders.machine_folder(),
            "keep": keep,
        }
        machine = Machine(spec)
        with self._lock:
            self._all.add(machine)
            closed = self._closed
        if closed:
            machine.kill()
        return machine

    def _rest(self, machine: Machine) -> None:
        """It may be taken for the next execution."""
        with self._lock:
            machine.busy = False
            if not self._closed:
                self._idle.append(machine)
                self._lock.notify()
                return
        machine.close()

    def acquire(
        self, state: str | None, given_up: threading.Event, take: Callable[[Machine], None]
    ) -> Machine | None:
        """A machine that is ready for one execution, or None once ``given_up`` is set.

        ``take`` is called with it before it is waited for.
        """
        for _ in range(_TRIES):
            machine = self._named_machine(state) if state is not None else self._any(given_up)
            if machine is None:
                return None
            take(machine)
            try:
                machine.ready()
                return machine
            except MachineError as error:
                self._drop(machine)
                failure = error
                if given_up.is_set():
                    break
        raise failure

    def _named_machine(self, state: str) -> Machine:
        with self._lock:
            self._check()
            machine = self._named.get(state)
            if machine is not None and machine.alive:
                machine.busy = True
                return machine
        machine = self._named[state] = self._make(keep=True)
        return machine

    def _any(self, given_up: threading.Event) -> Machine | None:
        with self._lock:
            while not given_up.is_set():
                self._check()
                if self._idle:
                    machine = self._idle.pop()
                    machine.busy = True
                    return machine
                if len(self._all) + self._making < self._parallel:
                    self._making += 1
                    break
                self._lock.wait(0.25)
            else:
                return None
        try:
            return self._make()
        finally:
            with self._lock:
                self._making -= 1

    def release(self, machine: Machine, state: str | None) -> None:
        """Its execution has ended; where it was killed, another is made for the next."""
        if not machine.alive:
            self._drop(machine)
            if state is None:
                self._replace()
        elif state is None:
            self._rest(machine)
        else:
            with self._lock:
                machine.busy = False
                closed = self._closed
            if closed:
                machine.close()

    def _drop(self, machine: Machine) -> None:
        with self._lock:
            self._all.discard(machine)
            self._lock.notify()
        machine.close()

    def _replace(self) -> None:
        with self._lock:
            if self._closed or self._idle:
                return
        try:
            machine = self._make()
        except MachineError:
            return  # the next execution tries again, and reports it
        self._rest(machine)

    def restart(self, state: str, language: str) -> None:
        with self._lock:
            machine = self._named.pop(state, None)
        if machine is not None:
            self._drop(machine)

    def turn(self, state: str) -> threading.Lock:
        """One execution at a time in a named interpreter."""
        with self._lock:
            return self._turns.setdefault(state, threading.Lock())

    def run(self, machine: Machine, request: ExecRequest, output: Output) -> Exit:
        given = self._folders.give(machine.folder)
        text = _text(self._language, request)
        try:
            return machine.run(
                text,
                request.stdin,
                output,
                lambda name, arguments: tools.call(self._tools, name, arguments),
            )
        finally:
            if not self._closed:
                self._folders.take(machine.folder, given)
            machine.go_on()


def _text(language: str, request: ExecRequest) -> str:
    """The code that the guest is given: the prelude's function with the caller's own."""
    env = dict(request.env)
    if language == "python":
        call = f"_stockade.run({request.script!r}, {env!r}, {request.state is not None})"
        return f"import _stockade\ncall_tool('_stockade_exit', code={call})"
    words = "call_tool, read_file, write_file"
    call = f"_stockade({json.dumps(request.script)}, {json.dumps(env)}, {words})"
    return f"call_tool('_stockade_exit', {{code: await {call}}});"


class _Execution(Running):
    def __init__(self, sandbox: HyperlightSandbox, request: ExecRequest, output: Output) -> None:
        if len(request.script) > 8_000_000:
            raise ConfigError("code longer than 8,000,000 characters; put data into a file.")
        self._sandbox = sandbox
        self._request = request
        self._output = output
        self._lock = threading.Lock()
        self._killed = threading.Event()
        self._machine: Machine | None = None

    def wait(self) -> Exit:
        state = self._request.state
        turn = self._sandbox.turn(state) if state is not None else None
        while turn is not None and not turn.acquire(timeout=0.05):
            if self._killed.is_set():
                return Exit(signal=9)
        try:
            return self._run(state)
        finally:
            if turn is not None:
                turn.release()

    def _run(self, state: str | None) -> Exit:
        try:
            machine = self._sandbox.acquire(state, self._killed, self._take)
        except MachineError as error:
            if self._killed.is_set():
                return Exit(signal=9)
            raise SandboxLostError(f"no microVM could be started: {error}") from error
        if machine is None:
            return Exit(signal=9)
        try:
            return self._sandbox.run(machine, self._request, self._output)
        except MachineError as error:
            if self._killed.is_set():
                return Exit(signal=9)
            raise SandboxLostError(f"the microVM is gone: {error}; open a new session.") from error
        finally:
            with self._lock:
                self._machine = None
            self._sandbox.release(machine, state)

    def _take(self, machine: Machine) -> None:
        """From now on ``kill`` ends it."""
        with self._lock:
            self._machine = machine
            if self._killed.is_set():
                machine.kill()

    def kill(self) -> None:
        with self._lock:
            self._killed.set()
            if self._machine is not None:
                self._machine.kill()
