"""The container walls against the engine's own ways, interleaved, as ratios to docker-py.

    python benchmarks/containers.py [--wall docker|gvisor] [--image IMAGE] [--rounds N]

Baselines: docker-py used directly and the docker command line, each as most
programs use them (`run -d … sleep infinity`, `exec`, `rm -f`), and the engine's
API by bare HTTP.
"""

from __future__ import annotations

import argparse
import functools
import http.client
import json
import resource
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker

import stockade

PRINT = "print(1)"
Times = dict[str, dict[str, list[float]]]
#: What the project promises, as medians against docker-py (row: limit), by wall.
GOALS: dict[str, dict[str, float]] = {
    "docker": {
        "create": 0.6, "create, first execution": 1.0, "argv": 1 / 15, "shell": 1 / 15,
        "code": 1 / 12, "destroy": 1.0, "from the pool": 1 / 50,
    },
    "gvisor": {"argv": 1 / 4, "destroy": 1.0, "from the pool": 1 / 50},
}  # fmt: skip


class UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")


class Raw:
    """The engine's API, one request after another over one connection."""

    name = "raw API"

    def __init__(self, image: str, runtime: str) -> None:
        self.image, self.runtime = image, runtime
        self.link = UnixConnection("localhost")

    def _ask(self, method: str, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body)
        self.link.request(method, path, data, {"Content-Type": "application/json"})
        return self.link.getresponse().read()

    def create(self) -> str:
        body = {
            "Image": self.image, "Cmd": ["sleep", "infinity"],
            "HostConfig": {"NetworkMode": "none", "Runtime": self.runtime},
        }  # fmt: skip
        made: str = json.loads(self._ask("POST", "/containers/create", body))["Id"]
        self._ask("POST", f"/containers/{made}/start")
        return made

    def execute(self, box: str, argv: list[str]) -> None:
        body = {"Cmd": argv, "AttachStdout": True, "AttachStderr": True}
        made = json.loads(self._ask("POST", f"/containers/{box}/exec", body))["Id"]
        self._ask("POST", f"/exec/{made}/start", {"Detach": False, "Tty": False})
        self.link.close()  # the answer of an exec ends with its connection

    def destroy(self, box: str) -> None:
        self._ask("DELETE", f"/containers/{box}?force=1")


class DockerPy:
    name = "docker-py"

    def __init__(self, image: str, runtime: str) -> None:
        self.image, self.runtime = image, runtime
        self.client = docker.from_env()

    def create(self) -> Any:
        return self.client.containers.run(
            self.image, ["sleep", "infinity"], detach=True, network_mode="none",
            runtime=self.runtime,
        )  # fmt: skip

    def execute(self, box: Any, argv: list[str]) -> None:
        assert box.exec_run(argv, demux=True).exit_code == 0

    def destroy(self, box: Any) -> None:
        box.remove(force=True)


class CommandLine:
    name = "docker CLI"

    def __init__(self, image: str, runtime: str) -> None:
        self.image, self.runtime = image, runtime

    def _run(self, *argv: str) -> str:
        done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def create(self) -> str:
        return self._run(
            "run", "-d", "--network=none", f"--runtime={self.runtime}", self.image, "sleep",
            "infinity",
        )  # fmt: skip

    def execute(self, box: str, argv: list[str]) -> None:
        self._run("exec", box, *argv)

    def destroy(self, box: str) -> None:
        self._run("rm", "-f", box)


class Stockade:
    name = "stockade"

    def __init__(self, string: str) -> None:
        self.string = string
        self.pool = stockade.Pool(string, size=1)

    def create(self) -> stockade.Session:
        return stockade.open(self.string)

    def execute(self, box: stockade.Session, argv: list[str]) -> None:
        if argv[0] == "sh":
            assert box.shell(argv[2]).success
        elif argv[0] == "python3":
            assert box.code(argv[2]).success
        else:
            assert box.run(argv).success

    def destroy(self, box: stockade.Session) -> None:
        box.close()


def timed(times: list[float], call: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    value = call()
    times.append((time.perf_counter() - began) * 1000)
    return value


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
    time.sleep(0.1)  # what is started in the background is up by then
    for name, argv in COMMANDS.items():
        if name != "code" or with_python:
            for _ in range(5):
                timed(rows.setdefault(name, []), functools.partial(way.execute, box, argv))
    timed(rows.setdefault("destroy", []), lambda: way.destroy(box))


def together(way: Any, rows: dict[str, list[float]]) -> None:
    """Ten sandboxes at once, and a hundred executions from ten threads in one."""
    with ThreadPoolExecutor(10) as threads:

        def life(_: int) -> None:
            box = way.create()
            way.execute(box, ["true"])
            way.destroy(box)

        timed(
            rows.setdefault("10 sandboxes at once", []), lambda: list(threads.map(life, range(10)))
        )
        box = way.create()
        run = lambda _: way.execute(box, ["true"])  # noqa: E731
        timed(
            rows.setdefault("100 from 10 threads", []), lambda: list(threads.map(run, range(100)))
        )
        way.destroy(box)


def from_the_pool(ours: Stockade, rows: dict[str, list[float]]) -> None:
    ours.pool.wait_ready(60)
    session = timed(rows.setdefault("from the pool", []), ours.pool.open)
    session.close()
    ours.pool.wait_ready(60)  # its successor's start is not the next row's burden


def much_output(string: str) -> tuple[float, float]:
    """MB a second over 100 MB, and by how many MiB the host's memory grew."""
    with stockade.open(string) as session:
        session.run(["true"])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        result = session.run(["head", "-c", "100000000", "/dev/zero"])
        seconds = time.perf_counter() - began
        assert result.stdout_total_bytes == 100_000_000
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return 100 / seconds, grown / 1024


def table(medians: dict[str, dict[str, float]], goals: dict[str, float]) -> list[str]:
    ways = ["stockade", "docker-py", "docker CLI", "raw API"]
    lines = [f"| | {' | '.join(ways)} | stockade to docker-py | goal |", "|---" * 7 + "|"]
    for row, values in medians.items():
        cells = [f"{values[way]:.1f}" if way in values else "" for way in ways]
        base = values.get("docker-py", medians["create"]["docker-py"])
        ratio = values["stockade"] / base
        goal = (
            f"{goals[row]:.3f} {'met' if ratio <= goals[row] else 'MISSED'}" if row in goals else ""
        )
        lines.append(f"| {row} | {' | '.join(cells)} | {ratio:.3f} | {goal} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wall", choices=["docker", "gvisor"], default="docker")
    parser.add_argument("--image", default="stockade-test/python")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the medians to a file")
    options = parser.parse_args()
    runtime = {"docker": "runc", "gvisor": "runsc"}[options.wall]
    string = f"{options.wall}:{options.image}?pull=never"
    ours = Stockade(string)
    baselines = [make(options.image, runtime) for make in (DockerPy, CommandLine, Raw)]
    ways = [ours, *baselines]
    with_python = "python" in options.image
    times: Times = {way.name: {} for way in ways}
    ours.pool.wait_ready(60)
    for number in range(options.rounds + 1):
        for way in ways:
            one_round(way, times[way.name], with_python)
        from_the_pool(ours, times["stockade"])
        if number == 0:
            times = {way.name: {} for way in ways}  # the first warms all up
    for _ in range(3):
        for way in ways[:3]:
            together(way, times[way.name])
    ours.pool.close()
    rows = list(dict.fromkeys(row for way in times.values() for row in way))
    medians = {
        row: {name: statistics.median(t[row]) for name, t in times.items() if row in t}
        for row in rows
    }
    print(f"{options.wall}, {options.image}, medians of {options.rounds} interleaved rounds, in ms")
    print("\n".join(table(medians, GOALS[options.wall])))
    rate, grown = much_output(string)
    print(f"\n100 MB of output: {rate:.0f} MB/s, the host's memory {grown:.1f} MiB more")
    if options.json is not None:
        options.json.write_text(json.dumps(medians, indent=2) + "\n")


if __name__ == "__main__":
    main()
