"""Scripted walls for core's own tests: faults that no real wall produces on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from stockade.capabilities import Capabilities, Feature, Isolation
from stockade.config import SandboxConfig
from stockade.session import Session
from stockade.sessions._providers import WallProvider
from stockade.sessions._registry import SessionRecord
from stockade.sessions._runtime import Runtime
from stockade.wall import (
    Availability,
    ExecRequest,
    Exit,
    OpenRequest,
    Output,
    Running,
    Sandbox,
    Wall,
)

EVERYTHING = Capabilities(dict.fromkeys(Feature, "native"))


@attrs.define(eq=False)
class ScriptedRunning(Running):
    """Ends by ``exit``, by ``kill``, or by what ``body`` returns or raises."""

    body: Callable[[ScriptedRunning, Output], Exit]
    output: Output
    killed: threading.Event = attrs.field(factory=threading.Event)

    def wait(self) -> Exit:
        return self.body(self, self.output)

    def kill(self) -> None:
        self.killed.set()


def until_killed(running: ScriptedRunning, _: Output) -> Exit:
    running.killed.wait(30)
    return Exit(signal=9)


@attrs.define(eq=False)
class ScriptedSandbox(Sandbox):
    """``body`` is what every execution does."""

    body: Callable[[ScriptedRunning, Output], Exit] = lambda _r, _o: Exit(code=0)
    on_close: Callable[[], None] = lambda: None
    requests: list[ExecRequest] = attrs.field(factory=list)
    closed: int = 0

    def start(self, request: ExecRequest, output: Output) -> Running:
        self.requests.append(request)
        return ScriptedRunning(self.body, output)

    def close(self) -> None:
        self.closed += 1
        self.on_close()

    def languages(self) -> tuple[str, ...]:
        return ("python", "sh")

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class ScriptedWall(Wall):
    """Opens the sandbox it is given; ``on_open`` may raise instead."""

    capabilities = EVERYTHING
    isolation = Isolation.NONE
    sandbox: Any = None
    on_open: Callable[[OpenRequest], Any] | None = None
    on_probe: Callable[[], Availability] = staticmethod(Availability)
    on_prepare: Callable[[], object] = staticmethod(lambda: None)

    def probe(self) -> Availability:
        return self.on_probe()

    def prepare(self, request: OpenRequest) -> None:
        self.on_prepare()

    def open(self, request: OpenRequest) -> Sandbox:
        if self.on_open is not None:
            opened: Sandbox = self.on_open(request)
            return opened
        sandbox: Sandbox = self.sandbox or ScriptedSandbox()
        return sandbox


def make_provider(
    body: Callable[[ScriptedRunning, Output], Exit] | None = None,
    *,
    runtime: Runtime | None = None,
    wall: ScriptedWall | None = None,
    **config: Any,
) -> WallProvider:
    wall = wall or ScriptedWall()
    if wall.sandbox is None:
        wall.sandbox = ScriptedSandbox(body) if body else ScriptedSandbox()
    runtime = runtime or Runtime(discover_plugins=False)
    return WallProvider("scripted", wall, SandboxConfig(**config), runtime)


@contextmanager
def session(
    body: Callable[[ScriptedRunning, Output], Exit] | None = None, **options: Any
) -> Iterator[Session]:
    provider = make_provider(body, **options)
    opened = Session(provider, provider.open_record("agent"))
    try:
        yield opened
    finally:
        opened.close()


def made_record(session_id: str = "ses-1", **config: Any) -> SessionRecord:
    record = SessionRecord(session_id, "agent", "wall", None, SandboxConfig(**config), "wall")
    record.expires_at = record.created_at + 60
    return record
