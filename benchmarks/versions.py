"""Two installed versions of stockade against each other, interleaved, as ratios.

    python benchmarks/versions.py BEFORE_PYTHON AFTER_PYTHON [--wall docker|gvisor]
                                  [--image IMAGE] [--rounds N]

Each Python is an environment's, with one version and its walls installed. Both run in processes
of their own, which take turns, so that a slow minute of the machine is both's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PAUSE_SECONDS = 0.05
SETTLE_SECONDS = 0.4
OUTPUT_BYTES = 100_000_000


def timed(rows: dict[str, list[float]], name: str, call: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    value = call()
    rows.setdefault(name, []).append((time.perf_counter() - began) * 1000)
    return value


def one_round(provider: str) -> dict[str, list[float]]:
    """A session's life, and what it is asked; milliseconds by row."""
    import stockade

    rows: dict[str, list[float]] = {}
    session = timed(rows, "create", lambda: stockade.open(provider))
    timed(rows, "first argv", lambda: session.run(["true"]))
    for _ in range(10):
        timed(rows, "argv", lambda: session.run(["true"]))
    for _ in range(5):
        timed(rows, "shell", lambda: session.shell("echo hi"))
    timed(rows, "first code", lambda: session.code("print(1)"))
    time.sleep(SETTLE_SECONDS)
    for _ in range(5):
        time.sleep(PAUSE_SECONDS)
        timed(rows, "code, after a pause", lambda: session.code("print(1)"))
    for _ in range(10):
        timed(rows, "code in a row", lambda: session.code("print(1)"))
    with ThreadPoolExecutor(10) as threads:
        run = lambda _: session.run(["true"])  # noqa: E731
        timed(rows, "10 at once", lambda: list(threads.map(run, range(10))))
        timed(rows, "100 from 10 threads", lambda: list(threads.map(run, range(100))))
    much = ["head", "-c", str(OUTPUT_BYTES), "/dev/zero"]
    timed(rows, "100 MB of output", lambda: session.run(much))
    timed(rows, "destroy", session.close)
    return rows


def serve(provider: str) -> None:
    for _ in sys.stdin:
        print(json.dumps(one_round(provider)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", nargs="?")
    parser.add_argument("after", nargs="?")
    parser.add_argument("--wall", default="docker")
    parser.add_argument("--image", default="stockade-test/python")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    provider = f"{options.wall}:{options.image}?pull=never"
    sides = {
        name: subprocess.Popen(
            [python, __file__, "--serve", provider],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        for name, python in (("before", options.before), ("after", options.after))
    }
    times: dict[str, dict[str, list[float]]] = {name: {} for name in sides}
    for number in range(options.rounds + 1):
        order = list(sides) if number % 2 else list(reversed(sides))
        for name in order:
            process = sides[name]
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            found = json.loads(process.stdout.readline())
            for row, values in found.items():
                if number:  # the first warms all up
                    times[name].setdefault(row, []).extend(values)
    for process in sides.values():
        process.communicate("")
    print(f"{provider}, medians of {options.rounds} interleaved rounds, in ms")
    print(f"{'':22}{'before':>9}{'after':>9}{'ratio':>8}")
    for row in times["after"]:
        before, after = (statistics.median(times[name][row]) for name in ("before", "after"))
        print(f"{row:22}{before:9.1f}{after:9.1f}{after / before:8.2f}")


if __name__ == "__main__":
    main()
