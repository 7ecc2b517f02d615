"""An execution behind landlock, as a bare subprocess, and with sandlock used directly."""

from __future__ import annotations

import os
import subprocess

import sandlock
from common import arguments, interleaved, save, show

import stockade
from stockade.capabilities import Capabilities, Feature
from stockade.providers import WallProvider
from stockade.session import Session
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


def direct(readable: list[str], argv: list[str]) -> None:
    result = sandlock.Sandbox(fs_readable=readable).run(argv)
    assert result.success, result


def bare(argv: list[str]) -> None:
    subprocess.run(argv, capture_output=True, check=True)


def main() -> None:
    options = arguments(rounds=200)
    python = ["/usr/bin/python3", "-c", "print(1)"]
    readable = ["/usr", "/bin", "/lib", "/lib64", "/dev/null", "/proc"]
    readable = [path for path in readable if os.path.exists(path)]
    nothing = WallProvider(
        "nothing", NothingWall(), stockade.SandboxConfig(), stockade.default_runtime()
    )
    idle = Session(nothing, nothing.open_record("bench"))
    with stockade.open("landlock") as session:
        medians = interleaved(
            {
                "subprocess.run": lambda: bare(["true"]),
                "sandlock, directly": lambda: direct(readable, ["true"]),
                "stockade, landlock": lambda: session.run(["true"]),
                "stockade, landlock, a shell line": lambda: session.shell("true"),
                "stockade, a wall that does nothing": lambda: idle.run(["true"]),
            },
            options.rounds,
        )
        code = {
            "python3, subprocess.run": lambda: bare(python),
            "python3, sandlock directly": lambda: direct(readable, python),
            "python3, stockade, landlock": lambda: session.run(python),
            "code, stockade, landlock": lambda: session.code("print(1)"),
        }
        if os.path.exists(python[0]):
            medians |= interleaved(code, max(1, options.rounds // 4))
    idle.close()
    show("medians of interleaved runs", medians, "subprocess.run")
    ratio = medians["stockade, landlock"] / medians["sandlock, directly"]
    own = medians["stockade, a wall that does nothing"]
    print(f"  landlock wall to sandlock: {ratio:.2f}; core's own part: {own:.3f} ms (bound: 1)")
    save(options.json, medians)


if __name__ == "__main__":
    main()
