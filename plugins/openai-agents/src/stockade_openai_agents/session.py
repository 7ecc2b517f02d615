"""One session of stockade's as the SDK's sandbox session."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.sandbox import ExecResult, ExposedPortEndpoint, ExposedPortUnavailableError, User
from agents.sandbox.errors import WorkspaceArchiveReadError, WorkspaceArchiveWriteError
from agents.sandbox.session import BaseSandboxSession
from agents.sandbox.session.runtime_helpers import (
    RESOLVE_WORKSPACE_PATH_HELPER,
    RuntimeHelperScript,
)
from agents.sandbox.session.workspace_payloads import coerce_write_payload

from stockade import OutputKeep, SessionStatus
from stockade.aio import AsyncSession
from stockade.errors import StockadeError, UnsupportedError
from stockade_openai_agents.archives import without
from stockade_openai_agents.options import StockadeSandboxSessionState
from stockade_openai_agents.outcomes import exec_result, not_executed, not_read
from stockade_openai_agents.processes import Processes

__all__ = ["StockadeSandboxSession"]

#: What is kept of each stream of a command.
_OUTPUT_BYTES = 10 * 1024 * 1024
_READ_BYTES = 100 * 1024 * 1024  #: of one file, at most


class StockadeSandboxSession(Processes, BaseSandboxSession):
    """Made by :class:`StockadeSandboxClient`. Commands without a deadline of their own get the
    session's (``timeout_seconds``); programs of ``pty_exec_start`` have none."""

    state: StockadeSandboxSessionState

    def __init__(self, state: StockadeSandboxSessionState, session: AsyncSession) -> None:
        super().__init__(session)
        self.state = state

    # -- commands ------------------------------------------------------------------

    def _prepare_exec_command(
        self, *command: str | Path, shell: bool | list[str], user: str | User | None
    ) -> list[str]:
        _refuse(user)
        # Not a login shell, which would set PATH anew: the session's environment stands.
        return super()._prepare_exec_command(
            *command, shell=["sh", "-c"] if shell is True else shell, user=None
        )

    async def _exec_internal(
        self, *command: str | Path, timeout: float | None = None
    ) -> ExecResult:
        argv = [str(part) for part in command]
        seconds = self.session.provider.config.timeout_seconds if timeout is None else timeout
        try:
            result = await self.session.run(
                argv,
                timeout=seconds,
                env=await self.environment(),
                output_limit_bytes=_OUTPUT_BYTES,
                output_keep=OutputKeep.BOTH,
            )
        except StockadeError as error:
            raise not_executed(argv, error) from error
        return exec_result(argv, result, seconds)

    async def environment(self) -> Mapping[str, str]:
        """The manifest's; resolved for each command and kept nowhere."""
        resolved: Mapping[str, str] = await self.state.manifest.environment.resolve()
        return resolved

    # -- files -----------------------------------------------------------------------

    def _runtime_helpers(self) -> tuple[RuntimeHelperScript, ...]:
        return (RESOLVE_WORKSPACE_PATH_HELPER,)

    def _current_runtime_helper_cache_key(self) -> object | None:
        return self.session.session_id

    async def _validate_path_access(self, path: Path | str, *, for_write: bool = False) -> Path:
        return await self._validate_remote_path_access(path, for_write=for_write)

    async def read(self, path: Path, *, user: str | User | None = None) -> io.IOBase:
        """A file's bytes, 100 MiB at most. Raises WorkspaceReadNotFoundError and
        WorkspaceArchiveReadError."""
        return io.BytesIO(await self._read(path, user, max_bytes=_READ_BYTES))

    async def _read_bounded(self, path: Path, *, max_bytes: int) -> bytes:
        return await self._read(path, None, max_bytes=max_bytes, length=max_bytes)

    async def _read(self, path: Path, user: str | User | None, **options: Any) -> bytes:
        _refuse(user)
        there = await self._validate_path_access(path)
        try:
            return await self.session.files.read(there.as_posix(), **options)
        except (OSError, StockadeError) as error:
            raise not_read(path, error) from error

    async def write(self, path: Path, data: io.IOBase, *, user: str | User | None = None) -> None:
        """Write a file, making its folders. Raises WorkspaceArchiveWriteError."""
        _refuse(user)
        there = await self._validate_path_access(path, for_write=True)
        stream = coerce_write_payload(path=path, data=data).stream
        pieces = iter(lambda: stream.read(1 << 20), b"")
        try:
            await self.session.files.write(there.as_posix(), pieces)
        except (OSError, StockadeError) as error:
            why = {"reason": str(error)}
            raise WorkspaceArchiveWriteError(path=path, context=why, cause=error) from error

    # -- the workspace ------------------------------------------------------------------

    async def persist_workspace(self) -> io.IOBase:
        """The working folder as a tar archive, without what is not to be kept.

        What no archive holds, such as a FIFO, is left out. Raises WorkspaceArchiveReadError.
        """
        root = Path(self.state.manifest.root)
        try:
            found = await self.session.files.get_archive(root.as_posix(), timeout=None)
        except (OSError, StockadeError) as error:
            why = {"reason": str(error)}
            raise WorkspaceArchiveReadError(path=root, context=why, cause=error) from error
        return without(found.data, self._persist_workspace_skip_relpaths())

    async def hydrate_workspace(self, data: io.IOBase) -> None:
        """Put such an archive into the working folder. Raises WorkspaceArchiveWriteError, also
        where it would write elsewhere, or where a part of it could not be put there."""
        root, put = Path(self.state.manifest.root), self.session.files.put_archive
        try:
            await put(bytes(data.read()), root.as_posix(), strict=True, timeout=None)
        except (OSError, StockadeError) as error:
            why = {"reason": str(error)}
            raise WorkspaceArchiveWriteError(path=root, context=why, cause=error) from error

    # -- the session ---------------------------------------------------------------------

    async def running(self) -> bool:
        """Whether it takes commands."""
        return self.session.status in (SessionStatus.READY, SessionStatus.EXECUTING)

    async def _resolve_exposed_port(self, port: int) -> ExposedPortEndpoint:
        try:
            host, number = await self.session.port(port)
        except StockadeError as error:
            raise ExposedPortUnavailableError(
                port=port,
                exposed_ports=self.state.exposed_ports,
                reason="backend_unavailable",
                cause=error,
            ) from error
        return ExposedPortEndpoint(host=host, port=number)

    async def _shutdown_backend(self) -> None:
        """Leave a durable one running, for ``resume`` or ``delete``; end any other."""
        if self.state.durable and await self.running():
            await self.session.detach()
        else:
            await self.end()

    async def end(self) -> None:
        """End the sandbox that this process holds; may be called again. Raises DestroyError."""
        if not self.state.durable or await self.running():
            await self.session.close()


def _refuse(user: str | User | None) -> None:
    """The SDK would run ``sudo``, which no sandbox of stockade's lets through."""
    if user is not None:
        name = user.name if isinstance(user, User) else user
        raise UnsupportedError(
            f"user={name!r}: stockade's sandboxes run every command as one unprivileged user; "
            "leave it out, or state one for the whole sandbox (?user=UID in the provider string)."
        )
