"""The unmodified Python SDK of E2B, awaited: all that the blocking one does in test_sdk.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from plugins.server.serving import PORT_PROGRAM, Served, at_host

e2b = pytest.importorskip("e2b", reason="e2b is not installed (tox -e server)")

Walk = Callable[[], Awaitable[None]]


@asynccontextmanager
async def sandbox(**options: Any) -> AsyncIterator[Any]:
    made = await e2b.AsyncSandbox.create(timeout=120, **options)
    try:
        yield made
    finally:
        await made.kill()


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def made_found_listed_and_ended() -> None:
    async with sandbox(metadata={"row": "awaited"}, envs={"COLOUR": "blue"}) as made:
        info = await made.get_info()
        assert info.sandbox_id == made.sandbox_id and info.metadata == {"row": "awaited"}
        await made.set_timeout(240)
        assert ((await made.get_info()).end_at - info.end_at).total_seconds() > 100
        same = await e2b.AsyncSandbox.connect(made.sandbox_id)
        assert (await same.commands.run("echo $COLOUR")).stdout == "blue\n"
        query = e2b.SandboxQuery(metadata={"row": "awaited"})
        found = await e2b.AsyncSandbox.list(query=query).next_items()
        assert [one.sandbox_id for one in found] == [made.sandbox_id]
        assert await made.is_running() and await made.kill()
        assert not await made.is_running()
        assert not await e2b.AsyncSandbox.kill(made.sandbox_id)
        with pytest.raises(e2b.exceptions.SandboxException):
            await made.commands.run("true")


async def paused_and_resumed() -> None:
    async with sandbox() as made:
        await made.files.write("kept", "kept")
        assert await made.pause()
        assert not await made.is_running()
        assert (await made.get_info()).state == e2b.SandboxState.PAUSED
        again = await e2b.AsyncSandbox.connect(made.sandbox_id)
        assert await again.is_running() and await again.files.read("kept") == "kept"


async def commands_in_the_foreground() -> None:
    async with sandbox() as made:
        found = await made.commands.run("echo $A; pwd; echo e >&2", envs={"A": "1"}, cwd="/tmp")
        assert (found.stdout, found.stderr, found.exit_code) == ("1\n/tmp\n", "e\n", 0)
        with pytest.raises(e2b.CommandExitException) as raised:
            await made.commands.run("echo so far; exit 7")
        assert raised.value.exit_code == 7 and raised.value.stdout == "so far\n"
        came: list[tuple[float, str]] = []
        await made.commands.run(
            "echo one; sleep 1; echo two",
            on_stdout=lambda text: came.append((time.monotonic(), text)),
        )
        assert [text for _, text in came] == ["one\n", "two\n"] and came[1][0] - came[0][0] > 0.5
        with pytest.raises(e2b.TimeoutException):
            await made.commands.run("sleep 120", timeout=1)
        several = await asyncio.gather(*(made.commands.run(f"echo {n}") for n in range(8)))
        assert [one.stdout for one in several] == [f"{n}\n" for n in range(8)]


async def commands_in_the_background() -> None:
    async with sandbox() as made:
        line = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done"
        command = await made.commands.run(line, background=True)
        assert command.pid in [one.pid for one in await made.commands.list()]
        await command.disconnect()
        heard: list[str] = []
        again = await made.commands.connect(command.pid, on_stdout=heard.append)
        result = await again.wait()
        assert result.exit_code == 0 and result.stdout.endswith("6\n") and heard

        sleeper = await made.commands.run("sleep 300", background=True)
        assert await sleeper.kill()
        with pytest.raises(e2b.CommandExitException) as raised:
            await sleeper.wait()
        assert raised.value.exit_code == 137
        assert not await made.commands.kill(sleeper.pid)
        with pytest.raises(e2b.CommandExitException) as raised:
            await made.commands.run("kill -TERM $$")
        assert raised.value.exit_code == 143


async def input_while_a_command_runs() -> None:
    async with sandbox() as made:
        command = await made.commands.run("cat", stdin=True, background=True)
        await made.commands.send_stdin(command.pid, "one\n")
        await command.send_stdin(b"two\n")
        async with made.commands.stream_input(command.pid) as stream:
            await stream.send("three\n")
            await stream.send(b"four\n")
        await command.close_stdin()
        assert (await command.wait()).stdout == "one\ntwo\nthree\nfour\n"


async def a_terminal() -> None:
    async with sandbox() as made:
        seen: list[bytes] = []
        size = e2b.PtySize(rows=30, cols=90)
        terminal = await made.pty.create(size, on_data=seen.append, timeout=60)
        await made.pty.resize(terminal.pid, e2b.PtySize(rows=40, cols=111))
        await made.pty.send_stdin(terminal.pid, b"stty size; exit 3\n")
        with pytest.raises(e2b.CommandExitException) as raised:
            await terminal.wait()
        assert raised.value.exit_code == 3 and b"40 111" in b"".join(seen)

        left = await made.pty.create(size, on_data=lambda _: None)
        await left.disconnect()
        later: list[bytes] = []
        joined = await made.pty.connect(left.pid, on_data=later.append)
        await made.pty.send_stdin(left.pid, b"echo $((40 + 2))$((7 * 6)); exit 0\n")
        await joined.wait()
        assert b"4242" in b"".join(later)
        killed = await made.pty.create(size, on_data=lambda _: None)
        assert await made.pty.kill(killed.pid)
        with pytest.raises(e2b.CommandExitException) as raised:
            await killed.wait()
        assert raised.value.exit_code == 137


async def files() -> None:
    async with sandbox() as made:
        info = await made.files.write("notes/a.txt", "grün", metadata={"by": "me"})
        assert info.path.endswith("/notes/a.txt")
        assert await made.files.read("notes/a.txt") == "grün"
        found = await made.files.get_info("notes/a.txt")
        assert found.size == 5 and found.metadata == {"by": "me"}
        assert await made.files.make_dir("notes/deep/er")
        assert not await made.files.make_dir("notes/deep")
        names = [entry.name for entry in await made.files.list("notes", depth=3)]
        assert sorted(names) == ["a.txt", "deep", "er"]
        await made.files.rename("notes/a.txt", "notes/b.txt")
        assert await made.files.exists("notes/b.txt")
        await made.files.remove("notes")
        assert not await made.files.exists("notes")
        with pytest.raises(e2b.exceptions.NotFoundException):
            await made.files.read("notes/b.txt")
        many = [{"path": f"many/{n} ü.txt", "data": str(n)} for n in range(3)]
        assert len(await made.files.write_files(many)) == 3
        assert await made.files.read("many/2 ü.txt") == "2"


async def bytes_arrive_as_they_were_sent() -> None:
    data = bytes(range(256)) * 20_000  # 5 MB

    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, len(data), 100_000):
            yield data[begin : begin + 100_000]

    async with sandbox() as made:
        for name, sent, options in (
            ("multipart", data, {}),
            ("octets", data, {"use_octet_stream": True}),
            ("gzip", data, {"gzip": True}),
            ("stream", pieces(), {}),
        ):
            await made.files.write(name, sent, **options)
            assert bytes(await made.files.read(name, format="bytes")) == data, name
        read = await made.files.read("stream", format="stream")
        assert b"".join([piece async for piece in read]) == data


async def a_folder_is_watched() -> None:
    async with sandbox() as made:
        await made.files.make_dir("watched/below")
        events: list[Any] = []
        ends: list[object] = []
        watch = await made.files.watch_dir(
            "watched", on_event=events.append, on_exit=ends.append, recursive=True
        )
        await made.files.write("watched/below/new", "1")

        async def seen() -> bool:
            return any(one.name == "below/new" for one in events)

        await until(seen)
        await watch.stop()

        async def ended() -> bool:
            return bool(ends)

        await until(ended)


async def a_port_is_reached_by_its_host() -> None:
    async with sandbox() as made:
        await made.files.write("answer.py", PORT_PROGRAM)
        await made.commands.run("python3 answer.py", background=True)
        host = made.get_host(8000)

        async def answers() -> bool:
            return (await asyncio.to_thread(at_host, host))[0] != 502

        await until(answers)
        assert await asyncio.to_thread(at_host, host) == (200, b"from inside: /asked")


@pytest.mark.parametrize(
    "walk",
    [
        made_found_listed_and_ended,
        paused_and_resumed,
        commands_in_the_foreground,
        commands_in_the_background,
        input_while_a_command_runs,
        a_terminal,
        files,
        bytes_arrive_as_they_were_sent,
        a_folder_is_watched,
        a_port_is_reached_by_its_host,
    ],
    ids=lambda walk: walk.__name__,
)
def test_the_awaited_sdk(served: Served, walk: Callable[[], Any]) -> None:
    asyncio.run(walk())
