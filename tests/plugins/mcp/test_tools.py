"""Every tool through the official client, in this process, on the reference wall and landlock."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from mcp_types import ImageContent

from conftest import need
from plugins.mcp.serving import (
    REFERENCE,
    behind,
    call,
    connected,
    end,
    fail,
    failing,
    sessions,
    until,
)
from stockade_mcp.client import MOST_PROCESSES
from stockade_mcp.results import kept, read

#: A picture's beginning is enough: nobody decodes it here.
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
#: What a tool may be given. Nothing here says anything about the wall.
PARAMETERS = {
    "run_command": {"command", "stdin", "working_dir", "timeout_seconds"},
    "run_code": {"code", "language", "state", "working_dir", "timeout_seconds"},
    "read_file": {"path", "offset", "length"},
    "write_file": {"path", "text", "base64", "append", "executable"},
    "list_files": {"path"},
    "start_process": {"command", "working_dir"},
    "read_output": {"process_id", "wait_seconds"},
    "send_input": {"process_id", "text", "close"},
    "stop_process": {"process_id", "signal"},
}


@pytest.fixture(params=[REFERENCE, "landlock"])
def wall(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


def test_the_tools_and_nothing_about_the_wall() -> None:
    async def main() -> None:
        of = behind(REFERENCE)
        async with connected(of) as client:
            tools = (await client.list_tools()).tools
            assert {one.name: set(one.input_schema["properties"]) for one in tools} == PARAMETERS
            assert sessions(of) == 0  # the first call opens it

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_commands_and_their_verdicts(wall: str, mode: str) -> None:
    async def main() -> None:
        of = behind(wall, fields={"timeout_seconds": 3.0})
        async with connected(of, mode) as client:
            done = await call(client, "run_command", command="cat; echo no >&2; exit 3", stdin="ä")
            assert (done["verdict"], done["exit_code"]) == ("exited", 3)
            assert (done["stdout"], done["stderr"], done["truncated"]) == ("ä", "no\n", False)
            # A call's own timeout only shortens the server's.
            for seconds in (0.2, 1000):
                given = {"command": "sleep 60", "timeout_seconds": seconds}
                late = await call(client, "run_command", **given)
                assert late["verdict"] == "timed out"
            gone = await call(client, "run_command", command="kill -9 $$")
            assert (gone["verdict"], gone["signal"]) == ("signalled", "SIGKILL")
            assert sessions(of) == 1
        assert sessions(of) == 0

    asyncio.run(main())


def test_output_is_bounded_with_its_head_and_its_tail(wall: str) -> None:
    async def main() -> None:
        async with connected(behind(wall, text_bytes=1000)) as client:
            done = await call(client, "run_command", command="echo begin; seq 99999; echo end")
            assert done["stdout"].startswith("begin\n") and done["stdout"].endswith("end\n")
            assert done["truncated"] and len(done["stdout"]) < 1100 < done["stdout_bytes"]
            missing = done["stdout_bytes"] - 1000
            assert f"[… {missing} bytes are left out …]" in done["stdout"]

    asyncio.run(main())


def test_files(wall: str) -> None:
    async def main() -> None:
        async with connected(behind(wall, text_bytes=1000)) as client:
            await call(client, "write_file", path="a/b.txt", text="grün")
            await call(client, "write_file", path="a/b.txt", text=" und gut", append=True)
            found = await call(client, "read_file", path="a/b.txt")
            assert found == {"text": "grün und gut", "base64": "", "next_offset": 13, "more": False}
            part = await call(client, "read_file", path="a/b.txt", length=3)
            assert (part["text"], part["next_offset"], part["more"]) == ("gr", 2, True)
            raw = b"\0\xff" * 600
            await call(client, "write_file", path="raw", base64=base64.b64encode(raw).decode())
            first = await call(client, "read_file", path="raw")
            rest = await call(client, "read_file", path="raw", offset=first["next_offset"])
            assert raw == b"".join(base64.b64decode(one["base64"]) for one in (first, rest))
            await call(
                client, "write_file", path="run", text="#!/bin/sh\necho ran", executable=True
            )
            done = await call(client, "run_command", command="./run; cat a/b.txt")
            assert done["stdout"] == "ran\ngrün und gut"
            entries = (await call(client, "list_files"))["entries"]
            kinds = {one["name"]: one["kind"] for one in entries}
            assert kinds["a"] == "dir" and kinds["raw"] == "file"
            assert "FileNotFoundError" in await failing(client, "read_file", path="none")
            both = {"path": "x", "text": "a", "base64": "YQ=="}
            assert "not both" in await failing(client, "write_file", **both)

    asyncio.run(main())


def test_programs_that_run_on(wall: str) -> None:
    async def main() -> None:
        async with connected(behind(wall)) as client:
            line = "echo ready; while read x; do echo got $x; done; echo over >&2; exit 5"
            started = await call(client, "start_process", command=line)
            said = await call(client, "read_output", **started)
            assert (said["stdout"], said["running"]) == ("ready\n", True)
            await call(client, "send_input", **started, text="one\n")
            assert (await call(client, "read_output", **started))["stdout"] == "got one\n"
            assert (await call(client, "read_output", **started, wait_seconds=0))["stdout"] == ""
            await call(client, "send_input", **started, text="", close=True)
            last: dict[str, Any] = {"running": True}
            heard = ""
            while last["running"]:
                last = await call(client, "read_output", **started)
                heard += last["stderr"]
            assert (heard, last["exit_code"], last["verdict"]) == ("over\n", 5, "exited")
            assert "InputClosedError" in await failing(client, "send_input", **started, text="late")
            for given, says in (({}, "cancelled"), ({"signal": "SIGTERM"}, "signalled")):
                started = await call(client, "start_process", command="exec sleep 1000")
                await call(client, "run_command", command="true")
                stopped = await call(client, "stop_process", **started, **given)
                assert stopped["verdict"] == says
            unknown = await failing(client, "stop_process", process_id="none\x1b[2J")
            assert "there are" in unknown and "\x1b" not in unknown

    asyncio.run(main())


def test_a_long_output_is_read_in_parts(wall: str) -> None:
    async def main() -> None:
        async with connected(behind(wall, text_bytes=1000)) as client:
            started = await call(client, "start_process", command="seq 2000")
            heard, running = "", True
            while running:
                said = await call(client, "read_output", **started)
                assert len(said["stdout"]) <= 1000 and said["dropped_bytes"] == 0
                heard += said["stdout"]
                running = said["running"] or said["more"]
            assert heard == "".join(f"{n}\n" for n in range(1, 2001))

    asyncio.run(main())


def test_a_process_that_prints_on_and_on_is_left_at_the_time_that_was_given(wall: str) -> None:
    async def main() -> None:
        async with connected(behind(wall)) as client:
            line = "while :; do echo x; sleep 0.05; done"
            started = await call(client, "start_process", command=line)
            for seconds in (0, 1):
                given = {**started, "wait_seconds": seconds}
                said = await asyncio.wait_for(call(client, "read_output", **given), 10)
                assert said["running"]
            assert set(said["stdout"].split()) == {"x"}

    asyncio.run(main())


def test_programs_that_are_started_at_once_are_counted() -> None:
    async def main() -> None:
        async with connected(behind(REFERENCE)) as client:
            given = {"command": "exec sleep 1000"}
            results = await asyncio.gather(
                *(client.call_tool("start_process", given) for _ in range(MOST_PROCESSES + 8))
            )
            assert sum(not one.is_error for one in results) == MOST_PROCESSES

    asyncio.run(main())


def test_too_many_programs_are_refused() -> None:
    async def main() -> None:
        async with connected(behind(REFERENCE)) as client:
            started = [
                await call(client, "start_process", command="exec sleep 1000")
                for _ in range(MOST_PROCESSES)
            ]
            why = await failing(client, "start_process", command="true")
            assert f"{MOST_PROCESSES} processes run" in why
            await call(client, "stop_process", **started[0])
            await call(client, "start_process", command="true")

    asyncio.run(main())


def test_progress_while_output_streams(wall: str) -> None:
    async def main() -> None:
        notes: list[tuple[float, str | None]] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            notes.append((progress, message))

        async with connected(behind(wall)) as client:
            line = "echo first; while [ ! -e go ]; do sleep 0.05; done"
            running = asyncio.ensure_future(
                client.call_tool("run_command", {"command": line}, progress_callback=note)
            )
            await until(lambda: bool(notes))
            assert not running.done() and notes == [(6, "first\n")]
            await call(client, "write_file", path="go", text="")
            assert not (await running).is_error

    asyncio.run(main())


def test_a_cancelled_call_ends_the_tree(wall: str) -> None:
    async def main() -> None:
        async with connected(behind(wall)) as client:
            line = "sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; wait"
            running = asyncio.ensure_future(client.call_tool("run_command", {"command": line}))
            seen = (
                "until [ -e pids ]; do sleep 0.02; done; read a b < pids; kill -0 $a && kill -0 $b"
            )
            assert (await call(client, "run_command", command=seen))["exit_code"] == 0
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()
            gone = "read a b < pids; while kill -0 $a || kill -0 $b; do sleep 0.02; done"
            done = await call(client, "run_command", command=gone, timeout_seconds=20)
            assert done["verdict"] == "exited"

    asyncio.run(main())


def test_a_sandbox_that_ended_is_reported_once(wall: str) -> None:
    async def main() -> None:
        of = behind(wall)
        async with connected(of) as client:
            await call(client, "write_file", path="kept", text="x")
            await asyncio.to_thread(end, of)
            assert "gets a new one" in await failing(client, "read_file", path="kept")
            assert "FileNotFoundError" in await failing(client, "read_file", path="kept")

    asyncio.run(main())


def test_a_sandbox_that_failed_is_ended_when_its_client_gets_another(wall: str) -> None:
    async def main() -> None:
        of = behind(wall)
        async with connected(of) as client:
            await call(client, "list_files")
            fail(of)
            assert "gets a new one" in await failing(client, "list_files")
            assert sessions(of) == 0
            await call(client, "list_files")
            assert sessions(of) == 1

    asyncio.run(main())


def test_names_that_are_no_text_are_listed(wall: str) -> None:
    async def main() -> None:
        async with connected(behind(wall)) as client:
            await call(client, "run_command", command="touch $(printf 'a\\377b')")
            entries = (await call(client, "list_files"))["entries"]
            assert [one["name"] for one in entries] == ["a\ufffdb"]

    asyncio.run(main())


def test_a_wall_that_is_not_there_is_said_at_the_first_call() -> None:
    async def main() -> None:
        async with connected(behind("no-such-wall")) as client:
            for _ in range(2):
                why = await failing(client, "run_command", command="true")
                assert "no-such-wall" in why

    asyncio.run(main())


def test_a_wall_without_named_interpreters_says_so() -> None:
    async def main() -> None:
        async with connected(behind(REFERENCE)) as client:
            assert "stateful" in await failing(client, "run_code", code="1")
            done = await call(client, "run_code", code="print(6 * 7)", state="")
            assert done["stdout"] == "42\n"

    asyncio.run(main())


def test_code_as_in_a_notebook(landlock: str) -> None:
    picture = f"""
class Plot:
    def _repr_png_(self): return {PNG!r}
    def _repr_html_(self): return '<script>steal()</script>'
display(Plot()); print('out'); total = 41"""

    async def main() -> None:
        async with connected(behind(landlock)) as client:
            result = await client.call_tool("run_code", {"code": picture})
            shown = result.structured_content or {}
            assert (shown["stdout"], shown["pictures"], len(shown["displays"])) == ("out\n", 1, 1)
            assert "script" not in str(result.content)
            image = result.content[1]
            assert isinstance(image, ImageContent) and image.mime_type == "image/png"
            assert base64.b64decode(image.data) == PNG
            assert (await call(client, "run_code", code="total + 1"))["value"] == "42"
            failed = (await call(client, "run_code", code="1 / 0"))["error"]
            assert failed["name"] == "ZeroDivisionError" and "line 1" in failed["traceback"]
            other = await call(client, "run_code", code="total", state="other")
            assert other["error"]["name"] == "NameError"

    asyncio.run(main())


def test_texts_are_cut_between_head_and_tail() -> None:
    assert kept(b"abc", 3, None, 3) == ("abc", False)
    assert kept(b"abcdef", 6, None, 4) == ("ab\n[… 2 bytes are left out …]\nef", True)
    # What core kept of a longer stream: three bytes of its head, three of its tail.
    assert kept(b"abcxyz", 100, 3, 6) == ("abc\n[… 94 bytes are left out …]\nxyz", True)


def test_a_part_of_a_file_ends_with_a_whole_character() -> None:
    data = "aä€😀".encode()
    assert [read(data, 0, n).text for n in range(1, 10)] == ["a", "a", *["aä"] * 3, *["aä€"] * 4]
    assert read(data, 0, 10).text == "aä€😀" and not read(data, 0, 10).more
    assert read(data[1:], 1, 1).base64 == "ww=="  # half a character alone still goes on
