"""`session.run(["true"])` behind landlock, a bare subprocess, and sandlock used directly."""

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


def main() -> None:
    options = arguments(rounds=200)
    readable = ["/usr", "/bin", "/lib", "/lib64", "/dev/null", "/proc"]
    readable = [path for path in readable if os.path.exists(path)]
    nothing = WallProvider(
        "nothing", NothingWall(), stockade.SandboxConfig(), stockade.default_runtime()
    )
    idle = Session(nothing, nothing.open_record("bench"))
    with stockade.open("landlock") as session:
        medians = interleaved(
            {
                "subprocess.run": lambda: subprocess.run(["true"], capture_output=True, check=True),
                "sandlock, directly": lambda: sandlock.Sandbox(fs_readable=readable).run(["true"]),
                "stockade, landlock": lambda: session.run(["true"]),
                "stockade, a wall that does nothing": lambda: idle.run(["true"]),
            },
            options.rounds,
        )
    idle.close()
    show('["true"], medians of interleaved runs', medians, "subprocess.run")
    ratio = medians["stockade, landlock"] / medians["sandlock, directly"]
    own = medians["stockade, a wall that does nothing"]
    print(f"  landlock wall to sandlock: {ratio:.2f}; core's own part: {own:.3f} ms (bound: 1)")
    save(options.json, medians)


if __name__ == "__main__":
    main()
