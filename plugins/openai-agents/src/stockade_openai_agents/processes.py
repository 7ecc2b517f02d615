"""Programs that run on between the SDK's calls (``pty_exec_start``, ``pty_write_stdin``)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import attrs
from agents.sandbox import User
from agents.sandbox.session import BaseSandboxSession
from agents.sandbox.session.pty_output import collect_pty_output
from agents.sandbox.session.pty_types import (
    PTY_PROCESSES_MAX,
    PtyExecUpdate,
    allocate_pty_process_id,
    clamp_pty_yield_time_ms,
    process_id_to_prune_from_meta,
    resolve_pty_write_yield_time_ms,
)

import stockade
from stockade.aio import AsyncExecution, AsyncSession
from stockade.errors import StockadeError
from stockade_openai_agents.outcomes import not_executed

__all__ = ["Processes"]

#: Unread output of one program, at most; its oldest pieces go.
_WAITING_BYTES = 1024 * 1024
#: Small pieces are joined until one has as much: each that comes counts all that wait.
_PIECE_BYTES = 16 * 1024


@attrs.define(eq=False)
class _Process:
    execution: AsyncExecution
    tty: bool
    pump: asyncio.Task[None] = attrs.field(init=False)
    last_used: float = attrs.field(factory=time.monotonic)
    chunks: deque[bytes] = attrs.field(factory=deque)
    lock: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    notify: asyncio.Event = attrs.field(factory=asyncio.Event)
    exit_code: int | None = None

    @property
    def done(self) -> bool:
        return self.pump.done()


class Processes(BaseSandboxSession):
    """The part of a sandbox session that keeps programs; it has the session, too."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self._kept: dict[int, _Process] = {}

    def supports_pty(self) -> bool:
        """Programs run on everywhere; with ``tty=True`` where the wall has terminals."""
        return True

    async def environment(self) -> Mapping[str, str]:
        """What programs get in their environment."""
        raise NotImplementedError

    async def pty_exec_start(
        self,
        *command: str | Path,
        timeout: float | None = None,
        shell: bool | list[str] = True,
        user: str | User | None = None,
        tty: bool = False,
        yield_time_s: float | None = None,
        max_output_tokens: int | None = None,
    ) -> PtyExecUpdate:
        """Start a program, on a terminal where ``tty`` asks for one, and give what it printed
        within ``yield_time_s`` seconds (10); one that runs on has a ``process_id`` then."""
        argv = self._prepare_exec_command(*command, shell=shell, user=user)
        try:
            process = await self._started(argv, tty)
        except StockadeError as error:
            raise not_executed(argv, error) from error
        await self._make_room()
        process_id = allocate_pty_process_id(set(self._kept))
        self._kept[process_id] = process
        wait = clamp_pty_yield_time_ms(10_000 if yield_time_s is None else int(yield_time_s * 1000))
        return await self._update(process_id, process, wait, max_output_tokens)

    async def pty_write_stdin(
        self,
        *,
        session_id: int,
        chars: str,
        yield_time_s: float | None = None,
        max_output_tokens: int | None = None,
    ) -> PtyExecUpdate:
        """Type into a program on a terminal, or wait for what it prints where ``chars`` is
        empty. Raises PtySessionNotFoundError; RuntimeError for one without a terminal."""
        process = self._resolve_pty_session_entry(pty_processes=self._kept, session_id=session_id)
        process.last_used = time.monotonic()
        if chars:
            if not process.tty:
                raise RuntimeError("stdin is not available for this process")
            with contextlib.suppress(stockade.ExecutionEndedError, stockade.InputClosedError):
                await process.execution.write(chars)
            await asyncio.sleep(0.1)  # as the SDK's own backends: an answer is part of the update
        wait = resolve_pty_write_yield_time_ms(
            yield_time_ms=250 if yield_time_s is None else int(yield_time_s * 1000),
            input_empty=not chars,
        )
        return await self._update(session_id, process, wait, max_output_tokens)

    async def pty_terminate_all(self) -> None:
        """End every program that was started here."""
        for process_id in list(self._kept):
            await self._drop(process_id)

    # -- one program -----------------------------------------------------------------

    async def _started(self, argv: list[str], tty: bool) -> _Process:
        env = dict(await self.environment())
        execution: AsyncExecution
        if tty:
            execution = await self.session.terminal(argv, env=env)
        else:
            execution = await self.session.start(argv, env=env, merge=True, timeout=None)
        process = _Process(execution, tty)
        process.pump = asyncio.create_task(_pumped(process))
        return process

    async def _update(
        self, process_id: int, process: _Process, wait_ms: int, most: int | None
    ) -> PtyExecUpdate:
        output, tokens, closed = await collect_pty_output(
            output_chunks=process.chunks,
            output_lock=process.lock,
            output_notify=process.notify,
            is_done=lambda: process.done,
            yield_time_ms=wait_ms,
            max_output_tokens=most,
        )
        if closed:
            self._kept.pop(process_id, None)
        return PtyExecUpdate(
            process_id=None if closed else process_id,
            output=output,
            exit_code=process.exit_code if closed else None,
            original_token_count=tokens,
        )

    async def _make_room(self) -> None:
        if len(self._kept) < PTY_PROCESSES_MAX:
            return
        meta = [(key, one.last_used, one.done) for key, one in self._kept.items()]
        oldest = process_id_to_prune_from_meta(meta)
        if oldest is not None:
            await self._drop(oldest)

    async def _drop(self, process_id: int) -> None:
        process = self._kept.pop(process_id)
        process.execution.cancel()
        await asyncio.wait([process.pump])


async def _pumped(process: _Process) -> None:
    """Take in what it prints, until it has ended; awaited by nobody, so it raises nothing."""
    execution = process.execution
    reader = execution.follow()
    try:
        async for chunk in reader:
            async with process.lock:
                _keep(process.chunks, chunk.data)
            process.notify.set()
        process.exit_code = (await execution.result()).exit_code
    except StockadeError as error:  # the sandbox died, or is being closed
        process.chunks.append(f"\n[{error}]\n".encode())
        process.exit_code = -1
    finally:
        process.notify.set()


def _keep(chunks: deque[bytes], data: bytes) -> None:
    """Add what came to what waits to be read, and drop the oldest of what is too much."""
    if chunks and len(chunks[-1]) < _PIECE_BYTES:
        data = chunks.pop() + data
    chunks.append(data)
    waiting = sum(map(len, chunks))
    while waiting > _WAITING_BYTES and len(chunks) > 1:
        waiting -= len(chunks.popleft())
