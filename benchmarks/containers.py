"""The container walls against the engine's own ways, interleaved, as ratios to the first of them.

    python benchmarks/containers.py [--wall docker|gvisor|kubernetes] [--image IMAGE] [--rounds N]
                                    [--json FILE] [--picture FILE.svg]

Baselines: docker-py used directly and the docker command line, each as most
programs use them (`run -d … sleep infinity`, `exec`, `rm -f`), and the engine's
API by bare HTTP. For kubernetes, on the cluster of `.ci/cluster up`: the official client
(create a pod and watch until it runs, `stream` an exec, delete).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import draw, save_rows
from ways import OUTPUT_BYTES, CommandLine, DockerPy, Raw, Stockade

PRINT = "print(1)"
Times = dict[str, dict[str, list[float]]]
LONG_ROW = "code, 20 in a row"
FIFTY = "50 sessions from 10 threads"
CLUSTER = Path(os.environ.get("STOCKADE_CLUSTER", "/var/lib/stockade-cluster"))
#: What the project promises, as medians against the baseline (row: limit), by wall.
GOALS: dict[str, dict[str, float]] = {
    "docker": {
        "create": 0.6,
        "create, first execution": 1.0,
        "argv": 1 / 15,
        "shell": 1 / 15,
        "code": 1 / 12,
        LONG_ROW: 1 / 12,
        "destroy": 1.0,
        "from the pool": 1 / 50,
        "MB/s": 200,
    },
    "gvisor": {
        "argv": 1 / 4,
        "shell": 1 / 4,
        "code": 1 / 4,
        "code, after a pause": 1 / 4,
        LONG_ROW: 1 / 4,
        "destroy": 1.0,
        "from the pool": 1 / 50,
    },
    "kubernetes": {"create": 1.0, "argv": 1 / 10, "shell": 1 / 10, "destroy": 1.0},
}
#: And in milliseconds.
MOST_MS: dict[str, dict[str, float]] = {"kubernetes": {"from the pool": 20.0}}


#: Rows that are measured against another of the baseline's: to have something run must take no
#: longer than its bare create, and the pool replaces a create. An exec has no row to profit of.
AGAINST = {"create, first execution": "create", "from the pool": "create", LONG_ROW: "code"}


def timed(times: list[float], call: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    value = call()
    times.append((time.perf_counter() - began) * 1000)
    return value


#: What starts in the background, an interpreter, is up by then.
SETTLE_SECONDS = 0.5
#: Between two calls of a caller that does something with what it got. The rows without a
#: pause are of calls in an unbroken row: nothing can be made ready between them.
PAUSE_SECONDS = 0.05
COMMANDS = {
    "argv": ["true"],
    "shell": ["sh", "-c", "echo hi"],
    "code": ["python3", "-c", PRINT],
}


def one_round(way: Any, rows: dict[str, list[float]], with_python: bool) -> None:
    """A sandbox's whole life."""
    began = time.perf_counter()
    box = timed(rows.setdefault("create", []), way.create)
    timed(rows.setdefault("first execution", []), lambda: way.execute(box, ["true"]))
    rows.setdefault("create, first execution", []).append((time.perf_counter() - began) * 1000)
    time.sleep(SETTLE_SECONDS)
    for name, argv in COMMANDS.items():
        if name != "code" or with_python:
            call = functools.partial(way.execute, box, argv)
            for _ in range(5):
                timed(rows.setdefault(name, []), call)
            for _ in range(3):
                time.sleep(PAUSE_SECONDS)
                timed(rows.setdefault(f"{name}, after a pause", []), call)
    timed(rows.setdefault("destroy", []), lambda: way.destroy(box))


def together(way: Any, rows: dict[str, list[float]]) -> None:
    """Ten sandboxes at once, and a hundred executions from ten threads in one."""
    with ThreadPoolExecutor(10) as threads:
        life = functools.partial(one_life, way)
        timed(
            rows.setdefault("10 sandboxes at once", []), lambda: list(threads.map(life, range(10)))
        )
        box = way.create()
        run = lambda _: way.execute(box, ["true"])  # noqa: E731
        timed(
            rows.setdefault("100 from 10 threads", []), lambda: list(threads.map(run, range(100)))
        )
        way.destroy(box)


def one_life(way: Any, _: int) -> None:
    """Create, one execution, destroy."""
    box = way.create()
    way.execute(box, ["true"])
    way.destroy(box)


def fifty(way: Any, rows: dict[str, list[float]]) -> None:
    """Fifty sandboxes' lives, ten at a time."""
    life = functools.partial(one_life, way)
    with ThreadPoolExecutor(10) as threads:
        timed(rows.setdefault(FIFTY, []), lambda: list(threads.map(life, range(50))))


def from_the_pool(ours: Stockade, rows: dict[str, list[float]]) -> None:
    ours.pool.wait_ready(60)
    session = timed(rows.setdefault("from the pool", []), ours.pool.open)
    session.close()
    ours.pool.wait_ready(60)  # its successor's start is not the next row's burden,
    time.sleep(SETTLE_SECONDS)  # nor what still starts in the background then


def long_row(ours: Stockade, rows: dict[str, list[float]]) -> None:
    """More code than there are interpreters that wait for it."""
    box = ours.create()
    time.sleep(SETTLE_SECONDS)
    for _ in range(20):
        timed(rows.setdefault(LONG_ROW, []), lambda: ours.execute(box, COMMANDS["code"]))
    ours.destroy(box)


def much_output(way: Any, rows: dict[str, list[float]]) -> float:
    """100 MB through one execution; by how many MiB this process's memory grew."""
    box = way.create()
    way.execute(box, ["true"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = timed(rows.setdefault("100 MB of output", []), lambda: way.print_much(box))
    assert seen == OUTPUT_BYTES, (way.name, seen)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    way.destroy(box)
    return grown / 1024


def table(medians: dict[str, dict[str, float]], ways: list[str], wall: str) -> list[str]:
    """Markdown; ``ways``: stockade, the baseline, and others."""
    goals, most = GOALS[wall], MOST_MS.get(wall, {})
    known = ratios(medians, ways[1])
    head = f"| | {' | '.join(ways)} | stockade to {ways[1]} | goal |"
    lines = [head, "|---" * (len(ways) + 3) + "|"]
    for row, values in medians.items():
        cells = [f"{values[way]:.1f}" if way in values else "" for way in ways]
        cells.append(f"{known[row]:.3f}" if row in known else "")
        goal = ""
        if row in goals:
            goal = f"{goals[row]:.3f} {'met' if known[row] <= goals[row] else 'MISSED'}"
        elif row in most:
            met = values["stockade"] <= most[row]
            goal = f"{most[row]:.0f} ms {'met' if met else 'MISSED'}"
        lines.append(f"| {row} | {' | '.join(cells)} | {goal} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wall", choices=list(GOALS), default="docker")
    parser.add_argument("--image", default="stockade-test/python")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the medians to a file")
    parser.add_argument("--picture", type=Path, help="draw the ratios to the baseline, as SVG")
    options = parser.parse_args()
    ways = ways_of(options.wall, options.image)
    times, grown = run(ways, options)
    rows = list(dict.fromkeys(row for way in times.values() for row in way))
    medians = {
        row: {name: statistics.median(t[row]) for name, t in times.items() if row in t}
        for row in rows
    }
    title = (
        f"{options.wall}, {options.image}, medians of {options.rounds} interleaved rounds, in ms"
    )
    names, goals = [way.name for way in ways], GOALS[options.wall]
    print(title)
    print("\n".join(table(medians, names, options.wall)))
    print(f"\nHeld to another row of {names[1]}'s:")
    print("; ".join(f"{row}: to {other}" for row, other in AGAINST.items()))
    rate = OUTPUT_BYTES / 1000 / medians["100 MB of output"]["stockade"]
    met = "" if "MB/s" not in goals else " (met)" if rate >= goals["MB/s"] else " (MISSED)"
    print(f"\n100 MB of output: {rate:.0f} MB/s{met}, this process's memory {grown:.1f} MiB more")
    save_rows(options.json, {"title": title, "medians": medians, "output_memory_mib": grown})
    if options.picture is not None:
        draw(options.picture, title, ratios(medians, names[1]))


def ways_of(wall: str, image: str) -> list[Any]:
    """stockade, the baseline, and others."""
    if wall == "kubernetes":
        from ways_kubernetes import OfficialClient

        kubeconfig, template = CLUSTER / "kubeconfig", CLUSTER / "template.yaml"
        where = f"kubeconfig={kubeconfig}&template={template}&cpu_request=0.1"
        pod = json.loads(template.read_text())
        return [
            Stockade(f"{wall}:{image}?pull=never&{where}"),
            OfficialClient(image, str(kubeconfig), pod),
        ]
    runtime = {"docker": "runc", "gvisor": "runsc"}[wall]
    others = [make(image, runtime) for make in (DockerPy, CommandLine, Raw)]
    return [Stockade(f"{wall}:{image}?pull=never"), *others]


def run(ways: list[Any], options: argparse.Namespace) -> tuple[Times, float]:
    """All measured times by way and row, and the memory that much output took here."""
    ours = ways[0]
    times: Times = {way.name: {} for way in ways}
    ours.pool.wait_ready(60)
    for number in range(options.rounds + 1):
        # Each goes first in turn: what the last one removed is still tidied up by the engine.
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            one_round(way, times[way.name], "python" in options.image)
        from_the_pool(ours, times["stockade"])
        if "python" in options.image:
            long_row(ours, times["stockade"])
        if number == 0:
            times = {way.name: {} for way in ways}  # the first warms all up
    grown = 0.0
    for number in range(3):
        for way in filter(lambda way: hasattr(way, "print_much"), ways):
            more = much_output(way, times[way.name])
            grown = more if way is ours and number == 0 else grown
        for way in ways[:3]:
            together(way, times[way.name])
            if options.wall == "kubernetes":
                fifty(way, times[way.name])
    ours.pool.close()
    return times, grown


def ratios(medians: dict[str, dict[str, float]], baseline: str) -> dict[str, float]:
    """Of stockade's medians to the baseline's (see AGAINST)."""
    return {
        row: values["stockade"] / medians[AGAINST.get(row, row)][baseline]
        for row, values in medians.items()
        if baseline in medians[AGAINST.get(row, row)]
    }


if __name__ == "__main__":
    main()
