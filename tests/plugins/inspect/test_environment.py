"""What inspect's contract says beyond its own checks: limits, ends, losses, users, cancelling."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import anyio
import pytest
from inspect_ai.util import (
    OutputLimitExceededError,
    SandboxUnavailableError,
    SandboxUserUnsupportedError,
)
from inspect_ai.util._sandbox.events import SandboxEnvironmentProxy
from inspect_ai.util._sandbox.limits import override_sandbox_output_limit

import stockade
from conftest import need
from stockade_inspect import cleanup, sandboxes
from stockade_inspect.environment import StockadeSandbox
from stockade_inspect.wanted import Wanted

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def session() -> Iterator[stockade.Session]:
    need("landlock")
    with stockade.open("landlock?memory_mb=256", agent_id="inspect") as opened:
        yield opened


@pytest.fixture
async def env(session: stockade.Session) -> StockadeSandbox:
    return StockadeSandbox(session)


@pytest.fixture
async def alone() -> StockadeSandbox:
    """With a session that the test ends."""
    need("landlock")
    return StockadeSandbox(sandboxes.opened(Wanted(provider="landlock"), {}))


# -- output --------------------------------------------------------------------------------


async def test_the_tail_is_kept(env: StockadeSandbox) -> None:
    with override_sandbox_output_limit(1000):
        result = await env.exec(["sh", "-c", "seq 9999; echo end; seq 9999 >&2"])
        assert len(result.stdout) == 1000 and result.stdout.endswith("9999\nend\n")
        assert len(result.stderr) == 1000 and result.stderr.endswith("9999\n")
        SandboxEnvironmentProxy.verify_exec_result_size(result)


async def test_ten_mebibytes_by_default(env: StockadeSandbox) -> None:
    result = await env.exec(["sh", "-c", "yes | head -c 12000000; echo end"])
    assert len(result.stdout) == 10 << 20 and result.stdout.endswith("y\nend\n")


async def test_what_is_no_utf_8_stays_within_the_limit(env: StockadeSandbox) -> None:
    with override_sandbox_output_limit(1000):
        result = await env.exec(["sh", "-c", "head -c 900 /dev/zero | tr '\\0' '\\377'; echo end"])
        assert len(result.stdout.encode()) <= 1000 and result.stdout.endswith("\ufffdend\n")
        cut = await env.exec(["sh", "-c", "for i in $(seq 500); do printf 'äö€'; done"])
        assert "\ufffd" not in cut.stdout, "a character that was cut off goes"


async def test_no_file_past_the_limit_is_read(env: StockadeSandbox) -> None:
    await env.write_file("large", b"x" * 2000)
    with override_sandbox_output_limit(1024, "read_file"):
        with pytest.raises(OutputLimitExceededError, match="1 KiB"):
            await env.read_file("large", text=False)
    with pytest.raises(UnicodeDecodeError):
        await env.write_file("binary", b"\xff\xfe")
        await env.read_file("binary")


async def test_newlines_stay(env: StockadeSandbox) -> None:
    await env.write_file("crlf", "a\r\nb\n")
    assert await env.read_file("crlf") == "a\r\nb\n"


# -- how programs end ------------------------------------------------------------------------


async def test_a_deadline_keeps_the_output_and_ends_the_tree(
    env: StockadeSandbox, session: stockade.Session
) -> None:
    line = "echo before; echo err >&2; (setsid sleep 1000 &) ; sleep 1000"
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="after 1 seconds") as caught:
        await env.exec(["sh", "-c", line], timeout=1)
    assert time.monotonic() - start < 5, "nothing is tried again"
    assert caught.value.truncated_output == "before\nerr\n"  # type: ignore[attr-defined]
    assert not sleeping(session), "by /proc: self_check asks ps, which images may lack"


def sleeping(session: stockade.Session) -> bool:
    line = "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $f; done 2>/dev/null"
    return "sleep 1000" in session.shell(line).stdout


async def test_out_of_memory_is_said(env: StockadeSandbox) -> None:
    result = await env.exec(["python3", "-c", "x = bytearray(1 << 30); print(len(x))"])
    assert not result.success and result.returncode == 137
    assert "stockade: out of memory" in result.stderr


async def test_126_of_a_program_s_own_is_a_result(env: StockadeSandbox) -> None:
    assert (await env.exec(["sh", "-c", "exit 126"])).returncode == 126
    assert (await env.exec(["sh", "-c", "/etc/passwd"])).returncode == 126
    assert (await env.exec(["no-such-program"])).returncode == 127
    with pytest.raises(PermissionError, match="/etc/passwd"):
        await env.exec(["/etc/passwd"])


async def test_a_folder_that_is_not_there(env: StockadeSandbox) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such"):
        await env.exec(["true"], cwd="/no/such")


async def test_a_cancelled_call_s_program_is_ended_first(
    env: StockadeSandbox, session: stockade.Session
) -> None:
    with anyio.move_on_after(0.7) as scope:
        await env.exec(["sh", "-c", "(setsid sleep 1000 &) ; sleep 1000"])
    assert scope.cancelled_caught
    assert not session.executions() and not sleeping(session)


async def test_a_call_cancelled_at_once_leaves_nothing(
    env: StockadeSandbox, session: stockade.Session
) -> None:
    for _ in range(20):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(env.exec, ["sleep", "1000"])
                await anyio.sleep(0)
                scope.cancel()
    assert not session.executions()


async def test_many_at_the_same_time(env: StockadeSandbox) -> None:
    seen: list[str] = []

    async def one(number: int) -> None:
        seen.append((await env.exec(["sh", "-c", f"sleep 0.5; echo {number}"])).stdout)

    start = time.monotonic()
    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(one, number)
    assert sorted(map(int, seen)) == list(range(50))
    assert time.monotonic() - start < 20, "no pool of 40 threads holds them up"


# -- users -----------------------------------------------------------------------------------


async def test_users(env: StockadeSandbox) -> None:
    name = (await env.exec(["id", "-un"])).stdout.strip()
    assert (await env.exec(["id", "-un"], user=name)).stdout.strip() == name
    number = (await env.exec(["id", "-u"])).stdout.strip()
    assert (await env.exec(["id", "-u"], user=number)).stdout.strip() == number
    with pytest.raises(SandboxUserUnsupportedError, match="nothing runs as root"):
        await env.exec(["id"], user="root")
    with pytest.raises(SandboxUserUnsupportedError, match="user: in compose.yaml"):
        await env.exec(["id"], user="4321")


# -- sandboxes that are gone -------------------------------------------------------------------


async def test_a_sandbox_that_died(alone: StockadeSandbox) -> None:
    alone.session.close()
    for call in (
        lambda: alone.exec(["true"]),
        lambda: alone.read_file("x"),
        lambda: alone.write_file("x", "y"),
    ):
        with pytest.raises(SandboxUnavailableError, match="the sandbox is gone"):
            await call()
    with pytest.raises(ConnectionError):
        await alone.connection()
    await StockadeSandbox.sample_cleanup("t", None, {"default": alone}, False)


async def test_one_that_ends_meanwhile(alone: StockadeSandbox) -> None:
    async with anyio.create_task_group() as group:

        async def end() -> None:
            await anyio.sleep(0.5)
            await anyio.to_thread.run_sync(alone.session.close)

        group.start_soon(end)
        with pytest.raises(SandboxUnavailableError):
            await alone.exec(["sleep", "1000"])


async def test_no_connection_where_nobody_else_reaches_it(env: StockadeSandbox) -> None:
    with pytest.raises(NotImplementedError, match="durable=true"):
        await env.connection()


# -- the life of samples -----------------------------------------------------------------------


async def test_a_sample_s_sandboxes_end_with_it() -> None:
    need("landlock")
    kind = StockadeSandbox
    spec = {"__sample_id__": "s\n1"}
    before = len(stockade.default_runtime().registry.records())
    found = await kind.sample_init("t", None, spec)
    assert list(found) == ["default"]
    (env,) = found.values()
    assert (await env.exec(["echo", "hi"])).stdout == "hi\n"
    await kind.sample_cleanup("t", None, found, True)
    assert len(stockade.default_runtime().registry.records()) == before


async def test_an_opening_that_is_cancelled_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need("landlock")
    came: list[stockade.Session] = []
    opened, fetched = sandboxes.opened, threading.Event()

    def slowly(wanted: Wanted, labels: dict[str, str]) -> stockade.Session:
        came.append(opened(wanted, labels))
        fetched.wait(30)
        return came[0]

    monkeypatch.setattr(sandboxes, "opened", slowly)
    with anyio.move_on_after(0.05) as scope:
        await StockadeSandbox.sample_init("t", None, {})
    assert scope.cancelled_caught, "it waits for no image"
    fetched.set()
    until = time.monotonic() + 30
    while not came or str(came[0].status) != "destroyed":
        assert time.monotonic() < until, "what came late ends by itself"
        await anyio.sleep(0.05)


async def test_labels_are_printable() -> None:
    made = cleanup.labels("t" * 500, "line\nbreak", "default")
    assert made["inspect-sample"] == "line?break" and len(made["inspect-task"]) == 128
