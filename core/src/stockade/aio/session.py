"""A session whose calls are awaited."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from stockade.aio.calls import Call, in_thread
from stockade.aio.execution import AsyncExecution, StreamCall
from stockade.aio.files import AsyncFiles, call_awaited
from stockade.aio.terminal import AsyncTerminal
from stockade.config import DEFAULT_SNAPSHOT_BYTES
from stockade.files._calls import Timeout
from stockade.wall import Form

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Unpack

    from stockade.config import Limits
    from stockade.executions._execution import Execution
    from stockade.executions._terminals import TerminalExecution
    from stockade.files._snapshots import Snapshot
    from stockade.results import SandboxResult, SessionStatus
    from stockade.session import RunOptions, Session
    from stockade.sessions._providers import WallProvider
    from stockade.wall import Sandbox

__all__ = ["AsyncSession"]

_T = TypeVar("_T")
_X = TypeVar("_X", bound="Execution")


class AsyncSession:
    """See :class:`stockade.session.Session`: every call of it is here, awaited."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._runtime = session.provider.runtime

    @property
    def sync(self) -> Session:
        """The same session, with blocking calls."""
        return self._session

    @property
    def session_id(self) -> str:
        """As ``Session.session_id``."""
        return self._session.session_id

    @property
    def agent_id(self) -> str:
        """As ``Session.agent_id``."""
        return self._session.agent_id

    @property
    def provider(self) -> WallProvider:
        """The provider it came from; ``provider.name`` is the wall that was chosen (A7)."""
        return self._session.provider

    @property
    def status(self) -> SessionStatus:
        """The present state (C4)."""
        return self._session.status

    @property
    def paused(self) -> bool:
        """As ``Session.paused``."""
        return self._session.paused

    @property
    def limits(self) -> Limits:
        """What it may use, wherever that is fixed (B6)."""
        return self._session.limits

    @property
    def sandbox(self) -> Sandbox:
        """The wall's own object, for its author's tests; programs have no need of it."""
        return self._session.sandbox

    # -- executing -----------------------------------------------------------

    async def run(self, argv: Sequence[str], **options: Unpack[RunOptions]) -> SandboxResult:
        """Run an argument vector, without a shell, to its end; cancelling ends it (D12)."""
        return await self._run(Form.ARGV, argv=argv, **options)

    async def shell(self, line: str, **options: Unpack[RunOptions]) -> SandboxResult:
        """Run a line (or a whole script) with the sandbox's ``sh``; else like ``run``."""
        return await self._run(Form.SHELL, script=line, **options)

    async def code(
        self, text: str, language: str = "python", **options: Unpack[RunOptions]
    ) -> SandboxResult:
        """Run code in a language; else like ``run``."""
        return await self._run(Form.CODE, script=text, language=language, **options)

    async def _run(self, form: Form, **options: Any) -> SandboxResult:
        start = functools.partial(self._session._start, form, joinable=False, **options)
        return await (await self._begin(start)).result()

    def start(
        self,
        argv: Sequence[str] | None = None,
        *,
        shell: str | None = None,
        code: str | None = None,
        language: str = "python",
        **options: Unpack[RunOptions],
    ) -> Call[AsyncExecution]:
        """Start one of the three forms: ``execution = await session.start([...])``, or
        ``async with``, which cancels at the end of the block what still runs."""
        start = functools.partial(
            self._session.start, argv, shell=shell, code=code, language=language, **options
        )
        return Call(self._begin(start))

    def stream(
        self,
        argv: Sequence[str] | None = None,
        *,
        shell: str | None = None,
        code: str | None = None,
        language: str = "python",
        **options: Unpack[RunOptions],
    ) -> StreamCall:
        """Start with live output (D13).

        async with session.stream(["make"]) as execution:
            async for chunk in execution:
                print(chunk.text, end="")
            print((await execution.result()).verdict)
        """
        start = functools.partial(
            self._session.stream, argv, shell=shell, code=code, language=language, **options
        )
        return StreamCall(self._begin(start))

    async def _begin(self, call: Callable[[], Execution]) -> AsyncExecution:
        return AsyncExecution(await self._started(call), self._runtime)

    async def _started(self, call: Callable[[], _X]) -> _X:
        """What ``call`` starts; where nobody awaits it any more it ends, with its tree (D12)."""
        return await in_thread(self._runtime, call, undo=lambda execution: execution.__exit__())

    async def interrupt(self, state: str, language: str = "python") -> bool:
        """Interrupt what a named interpreter runs (D20)."""
        return await self._call(functools.partial(self._session.interrupt, state, language))

    async def restart(self, state: str, language: str = "python") -> None:
        """End a named interpreter, so that the next code finds a new one (D20)."""
        await self._call(functools.partial(self._session.restart, state, language))

    def executions(self) -> tuple[AsyncExecution, ...]:
        """Those that this process runs in the session now (D18)."""
        return tuple(AsyncExecution(one, self._runtime) for one in self._session.executions())

    def execution(self, execution_id: str) -> AsyncExecution:
        """The running one of that id. Raises ExecutionNotFoundError."""
        return AsyncExecution(self._session.execution(execution_id), self._runtime)

    # -- files, and the whole of it --------------------------------------------

    @functools.cached_property
    def files(self) -> AsyncFiles:
        """The sandbox's files (F). Raises UnsupportedError if it has none."""
        return AsyncFiles(self._session)

    async def snapshot(
        self, *, max_bytes: int = DEFAULT_SNAPSHOT_BYTES, timeout: Timeout = "session"
    ) -> Snapshot:
        """Save the session's files (G1); cancelling the await ends it."""
        take = functools.partial(self._session.snapshot, max_bytes=max_bytes, timeout=timeout)
        return await call_awaited(self._session.provider.runtime, take)

    async def pause(self) -> None:
        """As ``Session.pause``: freeze every process; deadlines run on meanwhile (G2)."""
        await self._call(self._session.pause)

    async def resume(self) -> None:
        """As ``Session.resume``: let a paused session go on where it was (G2)."""
        await self._call(self._session.resume)

    async def port(self, number: int) -> tuple[str, int]:
        """Host and port on this machine that lead to a port named in the option ``ports``."""
        return await self._call(functools.partial(self._session.port, number))

    async def forward(self, connection: socket.socket, port: int) -> None:
        """As ``Session.forward``: carry a connected stream socket to a port inside."""
        await self._call(functools.partial(self._session.forward, connection, port))

    def terminal(
        self,
        argv: Sequence[str] = (),
        *,
        rows: int = 24,
        columns: int = 80,
        env: Mapping[str, str] | None = None,
        working_dir: str | None = None,
        timeout: float | None = None,
    ) -> Call[AsyncTerminal]:
        """Start a program, by default the shell, on a terminal of its own (D19)."""
        start = functools.partial(
            self._session.terminal,
            argv,
            rows=rows,
            columns=columns,
            env=env,
            working_dir=working_dir,
            timeout=timeout,
        )
        return Call(self._terminal(start))

    async def _terminal(self, call: Callable[[], TerminalExecution]) -> AsyncTerminal:
        return AsyncTerminal(await self._started(call), self._runtime)

    # -- the end -------------------------------------------------------------

    async def detach(self) -> None:
        """Leave a durable session to others, running (C10)."""
        await self._call(self._session.detach)

    async def close(self) -> None:
        """End the session and all that runs in it; may be called any number of times (C6)."""
        await self._call(self._session.close)

    async def _call(self, call: Callable[[], _T]) -> _T:
        return await in_thread(self._runtime, call)

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self._session)
