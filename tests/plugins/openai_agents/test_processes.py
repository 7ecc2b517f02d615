"""Programs that run on between two calls."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from agents.sandbox.errors import (
    PtySessionNotFoundError,
)
from agents.sandbox.session import SandboxSession

from plugins.openai_agents.sandboxes import BEATING, WALLS, beats, within


@pytest.mark.parametrize("wall", WALLS)
def test_programs_on_a_terminal_and_without(wall: str) -> None:
    async def work(session: SandboxSession) -> None:
        ask = "test -t 0 && echo tty; read x; echo got $x; exit 4"
        first = await session.pty_exec_start(ask, tty=True, yield_time_s=1)
        assert b"tty" in first.output and first.exit_code is None
        assert first.process_id is not None
        typed = await session.pty_write_stdin(
            session_id=first.process_id, chars="yes\n", yield_time_s=5
        )
        assert b"got yes" in typed.output and (typed.process_id, typed.exit_code) == (None, 4)
        with pytest.raises(PtySessionNotFoundError):
            await session.pty_write_stdin(session_id=first.process_id, chars="")
        plain = await session.pty_exec_start("echo a; sleep 1; echo b", yield_time_s=0.3)
        assert plain.output == b"a\n" and plain.process_id is not None
        with pytest.raises(RuntimeError, match="stdin is not available"):
            await session.pty_write_stdin(session_id=plain.process_id, chars="x")
        rest = await session.pty_write_stdin(session_id=plain.process_id, chars="")
        assert (rest.output, rest.exit_code) == (b"b\n", 0)

    within(wall, work)


def test_an_interrupt_is_typed() -> None:
    async def work(session: SandboxSession) -> None:
        one = await session.pty_exec_start("sleep 1000", tty=True, yield_time_s=0.5)
        assert one.process_id is not None
        done = await session.pty_write_stdin(
            session_id=one.process_id, chars="\x03", yield_time_s=5
        )
        assert done.process_id is None and done.exit_code == 130

    within("landlock", work)


def test_all_of_them_end_with_the_session() -> None:
    async def work(session: SandboxSession) -> None:
        inner: Any = session._inner
        await session.pty_exec_start(f"sh -c '{BEATING}' & sleep 1000", yield_time_s=0.5)
        assert len(inner.session.executions()) == 1 and await beats(session)
        await session.pty_terminate_all()
        assert not inner.session.executions() and not await beats(session, 1)

    within("landlock", work)


def test_a_program_that_prints_without_end_is_bounded() -> None:
    async def work(session: SandboxSession) -> None:
        one = await session.pty_exec_start("yes", yield_time_s=0.3)
        assert one.process_id is not None
        await asyncio.sleep(1)
        inner: Any = session._inner
        assert sum(map(len, inner._kept[one.process_id].chunks)) < 4 << 20

    within("landlock", work)


def test_small_pieces_that_nobody_reads_are_joined() -> None:
    """Else each that comes would count all that wait."""
    small = "import sys, time\nfor _ in range(2000): sys.stdout.write('x'); sys.stdout.flush(); "
    small += "time.sleep(0.0005)"

    async def work(session: SandboxSession) -> None:
        one = await session.pty_exec_start(
            "python3", "-c", f"{small}\ntime.sleep(1000)", shell=False, yield_time_s=0.25
        )
        assert one.process_id is not None
        inner: Any = session._inner
        chunks = inner._kept[one.process_id].chunks
        until = time.monotonic() + 60
        while len(one.output) + sum(map(len, chunks)) < 2000:
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
        assert len(chunks) == 1

    within("landlock", work)
