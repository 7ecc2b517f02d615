"""Many sessions, made, used and ended: is the host process as it was before?

    python benchmarks/load.py landlock --sessions 1000
    python benchmarks/load.py docker:IMAGE --sessions 300 --mode asyncio
    python benchmarks/load.py landlock --sessions 0 --soak 600

With threads, then with asyncio, then (--soak) by callers that do all sorts of things.
Sessions are opened with a limit of --at-once and a line before it. Printed are times, and
of the host process memory, descriptors, threads and children: after a warm-up and at the
end. Exits with 1 when anything failed, grew or was left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

#: What the host process may have more of at the end than after the warm-up.
MORE_KIB, MORE_DESCRIPTORS, MORE_THREADS = 16 * 1024, 8, 8
#: Workers of core end when they were idle for so long; a run waits for that.
IDLE_SECONDS = 12.0


def host() -> dict[str, int]:
    """What this process has now."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            children += len((task / "children").read_text().split())
        except OSError:
            continue
    return {
        "memory_kib": int(status["VmRSS"].split()[0]),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "children": children,
    }


def settled(before: dict[str, int] | None = None) -> dict[str, int]:
    """The same, once idle threads have ended (sooner where that is so already)."""
    until = time.monotonic() + IDLE_SECONDS * 2
    now = host()
    while time.monotonic() < until:
        if before is None:
            if time.monotonic() > until - IDLE_SECONDS:
                break
        elif not grown(before, now):
            break
        time.sleep(0.5)
        now = host()
    return now


def grown(before: dict[str, int], now: dict[str, int]) -> list[str]:
    """What there is more of than may be."""
    allowed = {
        "memory_kib": MORE_KIB,
        "descriptors": MORE_DESCRIPTORS,
        "threads": MORE_THREADS,
        "children": 0,
    }
    return [
        f"{name}: {before[name]} before, {now[name]} at the end"
        for name, more in allowed.items()
        if now[name] > before[name] + more
    ]


class Times:
    """Seconds of each kind of step, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.of: dict[str, list[float]] = {}
        self.errors: list[str] = []

    def add(self, step: str, began: float) -> float:
        now = time.perf_counter()
        with self._lock:
            self.of.setdefault(step, []).append(now - began)
        return now

    def failed(self, error: BaseException) -> None:
        with self._lock:
            self.errors.append(f"{type(error).__name__}: {error}")

    def table(self) -> dict[str, dict[str, float]]:
        return {
            step: {
                "count": len(found),
                "median_ms": round(statistics.median(found) * 1000, 2),
                "p95_ms": round(sorted(found)[int(len(found) * 0.95)] * 1000, 2),
                "most_ms": round(max(found) * 1000, 2),
            }
            for step, found in self.of.items()
        }


# -- sessions, made, used and ended ------------------------------------------------------


def one(string: str, number: int, times: Times) -> None:
    import stockade

    try:
        began = time.perf_counter()
        session = stockade.open(string, agent_id=f"agent-{number % 7}")
        with session:
            began = times.add("open", began)
            assert session.run(["echo", str(number)]).stdout == f"{number}\n"
            began = times.add("run", began)
            assert session.shell("cat", stdin=b"x" * 1000).stdout == "x" * 1000
            began = times.add("shell", began)
        times.add("close", began)
    except BaseException as error:
        times.failed(error)


async def one_awaited(string: str, number: int, times: Times) -> None:
    import stockade

    try:
        began = time.perf_counter()
        async with stockade.aio.open(string, agent_id=f"agent-{number % 7}") as session:
            began = times.add("open (with the wait in line)", began)
            assert (await session.run(["echo", str(number)])).stdout == f"{number}\n"
            began = times.add("run", began)
            assert (await session.shell("cat", stdin=b"x" * 1000)).stdout == "x" * 1000
            began = times.add("shell", began)
        times.add("close", began)
    except BaseException as error:
        times.failed(error)


def with_threads(string: str, count: int, at_once: int, times: Times) -> None:
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda number: one(string, number, times), range(count)))


def with_asyncio(string: str, count: int, _at_once: int, times: Times) -> None:
    """All of them at once: it is core's line that lets in so many at a time."""

    async def main() -> None:
        await asyncio.gather(*(one_awaited(string, number, times) for number in range(count)))

    asyncio.run(main())


# -- a soak ------------------------------------------------------------------------------------


def restless(string: str, until: float, seed: int, times: Times) -> None:
    """One caller that does all sorts of things until the time is over."""
    import stockade

    dice = random.Random(seed)
    while time.monotonic() < until:
        began = time.perf_counter()
        try:
            with stockade.open(string, agent_id=f"agent-{seed}") as session:
                began = times.add("open", began)
                for _ in range(dice.randrange(1, 6)):
                    dice.choice(ACTIONS)(session)
                    began = times.add("action", began)
            times.add("close", began)
        except BaseException as error:
            times.failed(error)


def _echo(session: Any) -> None:
    assert session.run(["echo", "hi"]).stdout == "hi\n"


def _much(session: Any) -> None:
    result = session.shell("head -c 3000000 /dev/zero; exit 3")
    assert result.exit_code == 3 and result.stdout_total_bytes == 3_000_000


def _late(session: Any) -> None:
    assert str(session.shell("sleep 60 & sleep 60", timeout=0.2).verdict) == "timed out"


def _cancelled(session: Any) -> None:
    execution = session.start(["sleep", "60"])
    time.sleep(0.02)
    execution.cancel()
    assert str(execution.result(20).verdict) == "cancelled"


def _streamed(session: Any) -> None:
    with session.stream(shell="for i in 1 2 3; do echo $i; done") as execution:
        assert b"".join(chunk.data for chunk in execution) == b"1\n2\n3\n"


def _abandoned(session: Any) -> None:
    with session.stream(["yes"]) as execution:
        next(iter(execution))


def _files(session: Any) -> None:
    session.files.write("data/file", b"\0" * 100_000)
    assert len(session.files.read("data/file")) == 100_000


def _together(session: Any) -> None:
    started = [session.start(["echo", str(number)]) for number in range(4)]
    assert [e.result(60).stdout for e in started] == [f"{n}\n" for n in range(4)]


ACTIONS: list[Callable[[Any], None]] = [
    _echo,
    _much,
    _late,
    _cancelled,
    _streamed,
    _abandoned,
    _files,
    _together,
]


def soak(string: str, seconds: float, callers: int, times: Times, samples: list[Any]) -> None:
    began = time.monotonic()
    threads = [
        threading.Thread(target=restless, args=(string, began + seconds, seed, times))
        for seed in range(callers)
    ]
    for thread in threads:
        thread.start()
    every = max(2.0, seconds / 10)
    while any(thread.is_alive() for thread in threads):
        time.sleep(min(every, 1.0))
        if time.monotonic() - began > every * (len(samples) + 1):
            samples.append({"second": round(time.monotonic() - began), **host()})
    for thread in threads:
        thread.join()


# -- the whole ------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> dict[str, Any]:
    import stockade

    stockade.configure(max_sessions=options.at_once, queue_seconds=3600)
    modes = {"threads": with_threads, "asyncio": with_asyncio}
    if options.mode != "both":
        modes = {options.mode: modes[options.mode]}
    warm, errors, phases = Times(), list[str](), list[dict[str, Any]]()
    count = max(options.at_once, options.sessions // 10)
    with_threads(options.string, count, options.at_once, warm)
    if options.soak:
        soak(options.string, max(1.0, options.soak / 20), options.callers, warm, [])
    before = settled()
    for mode, act in modes.items() if options.sessions else ():
        times, began = Times(), time.monotonic()
        act(options.string, options.sessions, options.at_once, times)
        phases.append(phase(mode, options.at_once, times, time.monotonic() - began, []))
        errors += times.errors
    if options.soak:
        times, began, samples = Times(), time.monotonic(), list[Any]()
        soak(options.string, options.soak, options.callers, times, samples)
        phases.append(phase("soak", options.callers, times, time.monotonic() - began, samples))
        errors += times.errors
    runtime = stockade.default_runtime()
    left = len(runtime.registry.records()) + runtime.capacity.used + runtime.capacity.waiting
    after = settled(before)
    errors += warm.errors
    return {
        "string": options.string,
        "phases": phases,
        "after_warm_up": before,
        "at_the_end": after,
        "errors": errors[:10],
        "wrong": [
            *grown(before, after),
            *([f"{len(errors)} sessions failed"] if errors else []),
            *([f"{left} records or permits were left"] if left else []),
        ],
    }


def phase(
    mode: str, at_once: int, times: Times, seconds: float, samples: list[Any]
) -> dict[str, Any]:
    done = len(times.of.get("close", ()))
    return {
        "mode": mode,
        "at_once": at_once,
        "sessions": done,
        "seconds": round(seconds, 2),
        "sessions_per_second": round(done / seconds, 1),
        "steps": times.table(),
        "samples": samples,
    }


def show(report: dict[str, Any]) -> None:
    for found in report["phases"]:
        print(
            f"{report['string']}, {found['mode']}: {found['sessions']} sessions, "
            f"{found['at_once']} at a time, in {found['seconds']} s "
            f"({found['sessions_per_second']}/s)"
        )
        for step, row in found["steps"].items():
            print(
                f"  {step:30} {row['count']:6} times, median {row['median_ms']:8.1f} ms, "
                f"95 % {row['p95_ms']:8.1f} ms, most {row['most_ms']:8.1f} ms"
            )
        for sample in found["samples"]:
            print("  at", ", ".join(f"{name} {value}" for name, value in sample.items()))
    for name, value in report["after_warm_up"].items():
        print(f"  {name:30} {value:8} after the warm-up, {report['at_the_end'][name]:8} at the end")
    for words in (*report["wrong"], *report["errors"]):
        print(f"  WRONG: {words}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("string", help="the provider string")
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--mode", choices=("threads", "asyncio", "both"), default="both")
    parser.add_argument("--soak", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--callers", type=int, default=10, help="of the soak")
    parser.add_argument("--json", metavar="FILE", help="write the report there too")
    parser.add_argument("--idle-seconds", type=float, help="how long core's idle workers stay")
    options = parser.parse_args()
    if options.idle_seconds:
        import stockade.system.threads

        global IDLE_SECONDS
        stockade.system.threads._IDLE_SECONDS = options.idle_seconds
        IDLE_SECONDS = options.idle_seconds * 2
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state  # a ledger of its own, as real ones are used
        report = run(options)
    show(report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2))
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
