"""An execution behind the embedded walls, as a bare subprocess, and with bwrap used directly."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Callable

from common import arguments, interleaved, save, show

import stockade
from stockade.capabilities import Capabilities, Feature
from stockade.session import Session
from stockade.sessions._providers import WallProvider
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


class NothingRunning(Running):
    def wait(self) -> Exit:
        return Exit(code=0)

    def kill(self) -> None: ...


class NothingSandbox(Sandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        return NothingRunning()

    def close(self) -> None: ...


class NothingWall(Wall):
    """Does nothing at all: what is left is core's own part."""

    capabilities = Capabilities(dict.fromkeys(Feature, "native"))

    def probe(self) -> Availability:
        return Availability()

    def open(self, request: OpenRequest) -> Sandbox:
        return NothingSandbox()


def bare(argv: list[str]) -> None:
    subprocess.run(argv, capture_output=True, check=True)


#: What a namespace of each kind costs without anything around it.
_BWRAP = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--"]


def calls(wall: str, session: Session) -> dict[str, Callable[[], object]]:
    return {
        f"{wall}": lambda: session.run(["true"]),
        f"{wall}, a shell line": lambda: session.shell("true"),
    }


def beside(wall: str, idle: int) -> float:
    """Milliseconds of an execution beside so many sessions that ran one and do nothing."""
    with contextlib.ExitStack() as held:
        for _ in range(idle):
            held.enter_context(stockade.open(wall)).run(["true"])
        with stockade.open(wall) as session:
            return interleaved({"one": lambda: session.run(["true"])}, 100)["one"]


def creation(wall: str) -> float:
    def once() -> None:
        stockade.open(wall).close()

    return interleaved({"one": once}, 20)["one"]


def main() -> None:
    options = arguments(rounds=200)
    python = ["/usr/bin/python3", "-c", "print(1)"]
    nothing = WallProvider(
        "nothing", NothingWall(), stockade.SandboxConfig(), stockade.default_runtime()
    )
    idle = Session(nothing, nothing.open_record("bench"))
    walls = [wall for wall in ("landlock", "bubblewrap") if stockade.provider(wall).availability()]
    with contextlib.ExitStack() as held:
        sessions = {wall: held.enter_context(stockade.open(wall)) for wall in walls}
        cases: dict[str, Callable[[], object]] = {"subprocess.run": lambda: bare(["true"])}
        if shutil.which("bwrap"):
            cases["bwrap, directly"] = lambda: bare([*_BWRAP, "true"])
        for wall, session in sessions.items():
            cases |= calls(wall, session)
        cases["a wall that does nothing"] = lambda: idle.run(["true"])
        medians = interleaved(cases, options.rounds)
        if os.path.exists(python[0]):
            code: dict[str, Callable[[], object]] = {
                "python3, subprocess.run": lambda: bare(python)
            }
            for wall, session in sessions.items():
                code[f"python3, {wall}"] = functools.partial(session.run, python)
                code[f"code, {wall}"] = functools.partial(session.code, "print(1)")
            medians |= interleaved(code, max(1, options.rounds // 4))
    idle.close()
    for wall in walls:
        medians[f"create and close, {wall}"] = creation(wall)
        for count in (1, 20, 150):
            medians[f"{wall}, beside {count} idle"] = beside(wall, count)
    show("medians of interleaved runs", medians, "subprocess.run")
    save(options.json, medians)


if __name__ == "__main__":
    main()
