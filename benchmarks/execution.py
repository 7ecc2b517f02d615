"""The embedded walls: an execution, a session's life, and many idle sessions, with goals.

    python benchmarks/execution.py [--rounds N] [--sessions N] [--json FILE]

Baselines in the same run: a bare subprocess, and bwrap used directly, once for each execution.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import interleaved, parser_of, save, show

import stockade
from stockade.capabilities import Capabilities, Feature
from stockade.session import Session
from stockade.sessions._providers import WallProvider
from stockade.toolkit.local import LocalSandbox, tree
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
_DIRECTLY = "bwrap, directly"
_BWRAP = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--"]


def calls(wall: str, session: Session) -> dict[str, Callable[[], object]]:
    return {
        f"{wall}": lambda: session.run(["true"]),
        f"{wall}, a shell line": lambda: session.shell("true"),
    }


#: What the project promises of each wall: the row, its bound, and what it is measured in.
GOALS = {
    "create": (50.0, "ms"),
    "argv": (1.8, "ms"),
    "argv to a bare bwrap": (1 / 3, "x"),
    "argv beside many idle to beside one": (1.2, "x"),
    "memory of an idle session": (4.0, "MiB"),
    "processes of an idle session": (3.0, ""),
    "cpu of all idle sessions in 10 s": (0.0, "s"),
    "opening the last third to the first": (1.5, "x"),
}
_IDLE_SECONDS = 10.0
_SETTLE_SECONDS = 3.0
_CALLS = 100


def life(wall: str, rounds: int) -> dict[str, float]:
    """Medians in milliseconds of what a short session consists of."""
    seen: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        value = call()
        seen.setdefault(f"{wall}, {name}", []).append((time.perf_counter() - began) * 1000)
        return value

    stockade.open(wall).close()  # what is made once a process is no session's
    for _ in range(rounds):
        session = timed("create", lambda: stockade.open(wall))
        timed("first argv", functools.partial(session.run, ["true"]))
        timed("destroy", session.close)
    return {name: statistics.median(times) for name, times in seen.items()}


# -- many idle sessions ------------------------------------------------------------


def tree_of(session: Session) -> list[int]:
    """A session's keeper and everything below it."""
    sandbox = session._record.sandbox
    assert isinstance(sandbox, LocalSandbox)
    return [sandbox.keeper.pid, *tree.descendants(sandbox.keeper.pid)]


def shares(pid: int) -> float:
    """MiB of memory, what is shared being divided among those who share it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def argv(session: Session) -> float:
    return interleaved({"one": lambda: session.run(["true"])}, _CALLS)["one"]


@contextlib.contextmanager
def many(wall: str, count: int, took: list[float]) -> Iterator[list[Session]]:
    """Sessions that ran one command each and do nothing, and how long each took to open."""
    with contextlib.ExitStack() as held:
        sessions = []
        for _ in range(count):
            began = time.perf_counter()
            sessions.append(held.enter_context(stockade.open(wall)))
            took.append((time.perf_counter() - began) * 1000)
            sessions[-1].run(["true"])
        yield sessions


def scale(wall: str, count: int) -> dict[str, float]:
    """Beside one idle session and beside many, each before and after the other's turn."""
    took: list[float] = []
    with stockade.open(wall) as session, stockade.open(wall) as one:
        one.run(["true"])
        alone = [argv(session)]
        with many(wall, count, took) as sessions:
            time.sleep(_SETTLE_SECONDS)
            crowded = [argv(session), argv(session)]
            trees = [tree_of(idle) for idle in sessions]
            pids = [pid for pids in trees for pid in pids]
            memory = sum(map(shares, pids)) / count
            before = sum(map(tree.cpu_seconds, pids))
            time.sleep(_IDLE_SECONDS)
            cpu = sum(map(tree.cpu_seconds, pids)) - before
        alone.append(argv(session))
    third = max(1, count // 3)
    return {
        f"{wall}, argv beside one idle": statistics.mean(alone),
        f"{wall}, argv beside {count} idle": statistics.mean(crowded),
        "argv beside many idle to beside one": statistics.mean(crowded) / statistics.mean(alone),
        "memory of an idle session": memory,
        "processes of an idle session": max(map(len, trees)),
        "cpu of all idle sessions in 10 s": cpu,
        "opening the last third to the first": statistics.mean(took[-third:])
        / statistics.mean(took[:third]),
    }


def judge(wall: str, figures: dict[str, float]) -> None:
    """A line for each goal."""
    print(f"goals of {wall}")
    for name, (most, unit) in GOALS.items():
        if name in figures:
            found = figures[name]
            word = "met" if found <= most else "MISSED"
            print(f"  {name:<42} {found:8.2f} {unit:<4} at most {most:.2f}  {word}")


def executions(walls: list[str], rounds: int) -> dict[str, float]:
    python = ["/usr/bin/python3", "-c", "print(1)"]
    nothing = WallProvider(
        "nothing", NothingWall(), stockade.SandboxConfig(), stockade.default_runtime()
    )
    idle = Session(nothing, nothing.open_record("bench"))
    with contextlib.ExitStack() as held:
        sessions = {wall: held.enter_context(stockade.open(wall)) for wall in walls}
        cases: dict[str, Callable[[], object]] = {"subprocess.run": lambda: bare(["true"])}
        if shutil.which("bwrap"):
            cases[_DIRECTLY] = lambda: bare([*_BWRAP, "true"])
        for wall, session in sessions.items():
            cases |= calls(wall, session)
        cases["a wall that does nothing"] = lambda: idle.run(["true"])
        medians = interleaved(cases, rounds)
        if os.path.exists(python[0]):
            code: dict[str, Callable[[], object]] = {
                "python3, subprocess.run": lambda: bare(python)
            }
            for wall, session in sessions.items():
                code[f"python3, {wall}"] = functools.partial(session.run, python)
                code[f"code, {wall}"] = functools.partial(session.code, "print(1)")
            medians |= interleaved(code, max(1, rounds // 4))
    idle.close()
    return medians


def main() -> None:
    parser = parser_of(rounds=200)
    parser.add_argument("--sessions", type=int, default=150, help="how many are idle")
    parser.add_argument("--walls", nargs="+", default=["landlock", "bubblewrap"])
    options = parser.parse_args()
    walls = [wall for wall in options.walls if stockade.provider(wall).availability()]
    medians = executions(walls, options.rounds)
    figures = {}
    for wall in walls:
        medians |= life(wall, max(1, options.rounds // 8))
        found = scale(wall, options.sessions)
        medians |= {name: value for name, value in found.items() if name.startswith(wall)}
        figures[wall] = {"create": medians[f"{wall}, create"], "argv": medians[wall], **found}
        if _DIRECTLY in medians:
            figures[wall]["argv to a bare bwrap"] = medians[wall] / medians[_DIRECTLY]
    show("medians of interleaved runs", medians, "subprocess.run")
    for wall in walls:
        judge(wall, figures[wall])
    save(options.json, medians)


if __name__ == "__main__":
    main()
