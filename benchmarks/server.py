"""What `stockade serve` costs on top of the same commands without it, and what memory it takes.

    python benchmarks/server.py [--provider STRING] [--sandboxes N] [--commands N] [--clients N]
        [--rate N] [--many N] [--megabytes N] [--pool N] [--json FILE]

Each client has one connection and sends its commands at times of its own, so many a second of all
together (``--rate``), which the machine has to be able to bear: otherwise queues are measured, and
not the server. ``--rate 0`` sends each when the one before has ended. Goals are printed as met or
missed. The template keeps a pool, which is full when commands are timed. 200 sandboxes, 2,000
commands, 50 clients, 10,000 commands and 100 MB are the whole form:

    python benchmarks/server.py --sandboxes 200 --commands 2000 --clients 50 --many 10000
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from common import parser_of, save_rows

import stockade.aio
from stockade.errors import DestroyError

_ARGV = ["/bin/sh", "-c", "echo done"]
_GOAL_MS = 3.0
#: What a server may grow by, in MiB: over many commands, and while it hands out much output.
_GOAL_GROWTH, _GOAL_OUTPUT = 8.0, 32.0


@attrs.frozen
class Served:
    """A server that runs, and how it is reached."""

    host: str
    port: int
    key: str
    process: subprocess.Popen[str]

    def mebibytes(self) -> float:
        """What of its memory is in the machine's."""
        with open(f"/proc/{self.process.pid}/status") as lines:
            found = next(line for line in lines if line.startswith("VmRSS"))
        return int(found.split()[1]) / 1024

    def cpu_seconds(self) -> float:
        """What the process has used, its children left out."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(provider: str, sandboxes: int, pool: int) -> Iterator[Served]:
    """A server with a key whose owner may have so many sandboxes."""
    command = [sys.executable, "-m", "stockade.cli", "serve"]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "stockade.toml")
        config.write_text(
            f"[serve]\nmax_sandboxes = {sandboxes}\n"
            f"[serve.templates.base]\nprovider = {json.dumps(provider)}\npool = {pool}\n"
        )
        adding = [*command, "key", "add", "benchmark", "--config", str(config)]
        added = subprocess.run(adding, stdout=subprocess.PIPE, text=True, check=True)
        options = ["--port", "0", "--config", str(config)]
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("E2B_API_URL="), line
            place = urlsplit(line.strip().partition("=")[2])
            yield Served(place.hostname or "", place.port or 0, added.stdout.strip(), process)
        finally:
            process.terminate()
            process.wait(120)
            process.stdout.close()


@attrs.define
class Client:
    """One connection that stays, and requests as cheap as they can be: no SDK's own cost."""

    served: Served
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def made(cls, served: Served) -> Client:
        return cls(served, *await asyncio.open_connection(served.host, served.port))

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """A call of the control API."""
        content = await self._content(method, path, body)
        return json.loads(content) if content else None

    async def text(self, path: str) -> str:
        """What is no JSON."""
        return (await self._content("GET", path)).decode()

    async def _content(self, method: str, path: str, body: object = None) -> bytes:
        data = b"" if body is None else json.dumps(body).encode()
        self.writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {self.served.key}\r\n"
            f"content-length: {len(data)}\r\n\r\n".encode()
            + data
        )
        head = await self.reader.readuntil(b"\r\n\r\n")
        lengths = [one for one in head.lower().split(b"\r\n") if one.startswith(b"content-length")]
        content = await self.reader.readexactly(
            int(lengths[0].partition(b":")[2]) if lengths else 0
        )
        status = int(head.split()[1])
        assert status < 300, (status, content)
        return content

    async def stream(self, request: bytes) -> AsyncIterator[bytes]:
        """An answer's body, piece by piece as the server sent it."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], head
        while length := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(length + 2))[:-2]
        await self.reader.readexactly(2)


def request_of(sandbox: dict[str, Any], argv: list[str]) -> bytes:
    """A whole request that starts a command."""
    config = {"process": {"cmd": argv[0], "args": argv[1:]}, "stdin": False}
    data = json.dumps(config).encode()
    return (
        (
            "POST /process.Process/Start HTTP/1.1\r\nhost: x\r\n"
            "content-type: application/connect+json\r\n"
            f"e2b-sandbox-id: {sandbox['sandboxID']}\r\ne2b-sandbox-port: 49983\r\n"
            f"x-access-token: {sandbox['envdAccessToken']}\r\n"
            f"content-length: {len(data) + 5}\r\n\r\n"
        ).encode()
        + struct.pack(">BI", 0, len(data))
        + data
    )


async def paced(
    calls: list[Callable[[], Awaitable[object]]], commands: int, rate: float
) -> list[float]:
    """Milliseconds of each command; ``calls`` are one client's each."""
    seen: list[float] = []
    begun, apart = time.perf_counter(), len(calls) / rate if rate else 0.0

    async def client(number: int, call: Callable[[], Awaitable[object]]) -> None:
        for turn in range(commands // len(calls)):
            due = begun + turn * apart + number * apart / len(calls)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            await call()
            seen.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(client(number, call) for number, call in enumerate(calls)))
    return seen


def figures(name: str, seen: list[float], seconds: float) -> dict[str, float]:
    cuts = statistics.quantiles(seen, n=100)
    print(
        f"  {name:<24} p50 {cuts[49]:8.2f} ms   p99 {cuts[98]:8.2f} ms   "
        f"{len(seen) / seconds:7.0f}/s"
    )
    return {"p50": cuts[49], "p99": cuts[98], "per_second": len(seen) / seconds}


async def without(options: Any) -> dict[str, float]:
    """The same commands by ``stockade.aio``, in this process."""
    gate = asyncio.Semaphore(8)

    async def opened() -> Any:
        async with gate:
            return await stockade.aio.open(options.provider, agent_id="benchmark")

    async def closed(session: Any) -> None:
        async with gate:
            try:
                await session.close()
            except DestroyError:  # a busy engine fails at it, and succeeds the next time
                await asyncio.sleep(1)
                await session.close()

    sessions = await asyncio.gather(*(opened() for _ in range(options.sandboxes)))
    try:
        turns = [0] * options.clients

        def call(number: int) -> Callable[[], Awaitable[object]]:
            async def one() -> None:
                turns[number] += 1
                at = (number + turns[number] * options.clients) % len(sessions)
                assert (await sessions[at].run(_ARGV)).stdout == "done\n"

            return one

        calls = [call(number) for number in range(options.clients)]
        await paced(calls, options.clients, 0)  # what is made once
        begun = time.perf_counter()
        seen = await paced(calls, options.commands, options.rate)
        return figures("without the server", seen, time.perf_counter() - begun)
    finally:
        await asyncio.gather(*(closed(one) for one in sessions))


async def through(options: Any, served: Served) -> dict[str, float]:
    """The same commands through a server; then its memory."""
    clients = await asyncio.gather(*(Client.made(served) for _ in range(options.clients)))
    made: list[dict[str, Any]] = []
    todo = iter(range(options.sandboxes))

    async def create(client: Client) -> None:
        for _ in todo:
            body = {"templateID": "base", "timeout": 3000}
            made.append(await client.ask("POST", "/v2/sandboxes", body))

    begun = time.perf_counter()
    await asyncio.gather(*(create(one) for one in clients[:8]))
    print(f"  {len(made)} sandboxes in {time.perf_counter() - begun:.0f} s")
    await pool_full(clients[0], options.pool)
    requests = [request_of(one, _ARGV) for one in made]
    done = base64.b64encode(b"done\n")

    def call(number: int) -> Callable[[], Awaitable[object]]:
        client, turn = clients[number], 0

        async def one() -> None:
            nonlocal turn
            turn += 1
            request = requests[(number + turn * options.clients) % len(requests)]
            answer = b"".join([piece async for piece in client.stream(request)])
            assert done in answer and b'"exitCode":0' in answer, answer

        return one

    calls = [call(number) for number in range(options.clients)]
    await paced(calls, options.clients, 0)
    begun, used = time.perf_counter(), served.cpu_seconds()
    seen = await paced(calls, options.commands, options.rate)
    rows = figures("through the server", seen, time.perf_counter() - begun)
    rows["cpu_ms"] = (served.cpu_seconds() - used) / len(seen) * 1000
    print(f"  {'its cpu':<24} {rows['cpu_ms']:12.2f} ms a command")
    rows.update(await memory(options, served, clients[0], made[0], calls))
    for one in clients:
        one.writer.close()
    return rows


async def pool_full(client: Client, size: int) -> None:
    """Wait until the pool has been filled again: starting sandboxes takes processors."""
    ready = re.compile(r"^stockade_server_pool_ready\{.*\} (\d+)$", re.MULTILINE)
    while size and ready.findall(await client.text("/metrics")) != [str(size)]:  # noqa: ASYNC110
        await asyncio.sleep(0.5)  # of another process


async def memory(
    options: Any,
    served: Served,
    client: Client,
    sandbox: dict[str, Any],
    calls: list[Callable[[], Awaitable[object]]],
) -> dict[str, float]:
    """What the server grows by over many commands, and while it hands out much output to a
    reader that is slow at first."""
    before = served.mebibytes()
    await paced(calls, options.many, 0)
    grown = served.mebibytes() - before
    print(f"  {options.many} commands more: {before:.1f} MiB, and {grown:+.1f}")
    size, before, taken = options.megabytes * 1_000_000, served.mebibytes(), 0
    request = request_of(sandbox, ["/bin/sh", "-c", f"head -c {size} /dev/zero"])
    begun, most, looked = time.perf_counter(), 0.0, -1
    async for piece in client.stream(request):
        if taken == 0:
            await asyncio.sleep(2)  # what does not fit holds the program back
        taken += len(piece)
        if taken // 1_000_000 != looked:
            looked = taken // 1_000_000
            most = max(most, served.mebibytes())
    seconds = time.perf_counter() - begun - 2
    assert taken > size * 4 / 3, (taken, size)
    print(
        f"  {options.megabytes} MB of output, {size / seconds / 1e6:.0f} MB/s: "
        f"{most - before:+.1f} MiB"
    )
    return {"growth_mib": grown, "output_mib": most - before}


def judged(direct: dict[str, float], served: dict[str, float]) -> None:
    goals = [
        ("on top at p50", served["p50"] - direct["p50"], _GOAL_MS, "ms"),
        ("growth over many commands", served["growth_mib"], _GOAL_GROWTH, "MiB"),
        ("growth over much output", served["output_mib"], _GOAL_OUTPUT, "MiB"),
    ]
    for name, value, goal, unit in goals:
        word = "met" if value <= goal else "MISSED"
        print(f"  {name:<28} {value:8.2f} {unit:<4} at most {goal:g}: {word}")


def main() -> None:
    parser = parser_of(1)
    parser.add_argument("--provider", default="docker:stockade-test/busybox?pull=never")
    parser.add_argument("--sandboxes", type=int, default=20)
    parser.add_argument("--commands", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rate", type=float, default=50, help="commands a second of all clients")
    parser.add_argument("--many", type=int, default=2000, help="commands over which memory is flat")
    parser.add_argument("--pool", type=int, default=4, help="sandboxes kept ready; 0: none")
    parser.add_argument("--megabytes", type=int, default=100)
    options = parser.parse_args()
    print(f"{options.sandboxes} sandboxes, {options.commands} commands, {options.clients} clients")
    direct = asyncio.run(without(options))
    with serving(options.provider, options.sandboxes, options.pool) as served:
        through_it = asyncio.run(through(options, served))
    judged(direct, through_it)
    save_rows(options.json, {"without": direct, "through": through_it})


if __name__ == "__main__":
    main()
