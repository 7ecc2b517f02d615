"""Middleware and observers that several tests use."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import attrs

from core.walls import ScriptedRunning, ScriptedWall, make_provider
from stockade import (
    SandboxResult,
    Stream,
)
from stockade.plugin import Event, JudgedExecution, hookimpl
from stockade.session import Session
from stockade.sessions._runtime import Runtime
from stockade.wall import Exit, Output

Wrapper = Generator[None, SandboxResult, SandboxResult]
#: Keeps a generator function one for the type checker.
ALWAYS: bool = True


def opened(body: Any = None, *plugins: object, **config: Any) -> Session:
    runtime = Runtime(discover_plugins=False)
    for plugin in plugins:
        runtime.hooks.add(plugin)
    provider = make_provider(body, runtime=runtime, **config)
    return Session(provider, provider.open_record("agent"))


def asked(session: Session) -> int:
    wall = session.provider.wall
    assert isinstance(wall, ScriptedWall)
    return len(wall.sandbox.requests)


def says_secret(_: ScriptedRunning, output: Output) -> Exit:
    output.write(Stream.STDOUT, b"the secret is out")
    output.write(Stream.STDERR, b"secret, too")
    return Exit(code=3)


class Redacts:
    """Replaces a word; notes what it saw and in which thread."""

    def __init__(self, *, hold: bool = False) -> None:
        self.hold = hold
        self.seen: list[JudgedExecution] = []
        self.threads: set[int] = set()

    @hookimpl(wrapper=True)
    def stockade_execution(self, execution: JudgedExecution) -> Wrapper:
        self.seen.append(execution)
        self.threads.add(threading.get_ident())
        if self.hold:
            execution.hold_output()
        result = yield
        return attrs.evolve(
            result,
            stdout_bytes=result.stdout_bytes.replace(b"secret", b"******"),
            stderr_bytes=result.stderr_bytes.replace(b"secret", b"******"),
        )


class Answers:
    """Answers one program in the sandbox's place."""

    @hookimpl
    def stockade_execution(self, execution: JudgedExecution) -> SandboxResult | None:
        if execution.request.argv == ("cached",):
            return SandboxResult(exit_code=0, stdout_bytes=b"from the cache")
        return None


class Listener:
    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def stockade_event(self, event: Event) -> None:
        self.events.append(event)
