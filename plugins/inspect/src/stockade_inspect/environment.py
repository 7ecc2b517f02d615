"""The sandbox environment: inspect's interface over a session of stockade's."""

from __future__ import annotations

import functools
import os
from typing import Any, Literal, overload

import anyio
from inspect_ai.util import (
    ExecResult,
    SandboxConnection,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
)
from pydantic import BaseModel

import stockade
from stockade_inspect import cleanup, compose, sandboxes
from stockade_inspect.config import CONFIG_FILES, StockadeConfig, wanted
from stockade_inspect.outcomes import errors_mapped, finished
from stockade_inspect.users import options_for
from stockade_inspect.waiting import awaited, called, made

__all__ = ["StockadeSandbox"]

#: Seconds that reading or writing one file may take, as with inspect's docker sandbox.
_FILE_SECONDS = 600.0


class StockadeSandbox(SandboxEnvironment):
    """A session behind the wall that the configuration names; see docs/inspect.md."""

    #: The wall of a type that stands for one, such as ``stockade-gvisor``.
    wall = ""

    def __init__(self, session: stockade.Session) -> None:
        super().__init__()
        self.session = session  #: for tasks that use stockade's own interface

    # -- what tools and scorers call -------------------------------------------

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,  # noqa: ASYNC109 - inspect's own signature
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a program. A deadline ends its whole tree, so nothing is tried again: what it did
        until then it would do twice."""
        options: dict[str, Any] = {
            "timeout": timeout,
            "stdin": b"" if input is None else input,
            "env": env or {},
            "output_limit_bytes": SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE,
            "output_keep": "tail",
        }
        if cwd is not None:
            options["working_dir"] = cwd
        with errors_mapped():
            options |= await options_for(self.session, user)
            start = functools.partial(self.session.start, cmd, **options)
            execution = await called(start, undo=lambda begun: begun.__exit__())
            result = await awaited(execution.future, execution.cancel)
        return finished(cmd, result, timeout)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        data = contents.encode("utf-8") if isinstance(contents, str) else contents
        with errors_mapped():
            await called(lambda: self.session.files.write(file, data, timeout=_FILE_SECONDS))

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        most = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        with errors_mapped():
            data = await called(
                lambda: self.session.files.read(file, max_bytes=most, timeout=_FILE_SECONDS)
            )
        return data.decode("utf-8") if text else data

    async def connection(self, *, user: str | None = None) -> SandboxConnection:
        with errors_mapped():
            await options_for(self.session, user)
        return cleanup.connection(self.session)

    def default_polling_interval(self) -> float:
        return 0.2

    # -- what inspect calls, for a task and for each sample ----------------------

    @classmethod
    def config_files(cls) -> list[str]:
        return [name for name in CONFIG_FILES if not cls.wall or name != "stockade.toml"]

    @classmethod
    def is_docker_compatible(cls) -> bool:
        return True

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        return StockadeConfig(**config)

    @classmethod
    def default_concurrency(cls) -> int | None:
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        most = stockade.default_runtime().settings.max_sessions
        return min(2 * (cpus or 1), most or 1 << 20)

    @classmethod
    async def task_init(cls, task_name: str, config: BaseModel | str | None) -> None:
        for one in wanted(config, cls.wall, {}):
            await made(functools.partial(sandboxes.checked, one), lambda _: None)

    @classmethod
    async def task_init_environment(
        cls, config: BaseModel | str | None, metadata: dict[str, str]
    ) -> dict[str, str]:
        if not isinstance(config, str) or not await anyio.Path(config).is_file():
            return {}
        text = await anyio.Path(config).read_text(encoding="utf-8", errors="replace")
        return compose.variables(text, metadata)

    @classmethod
    async def sample_init(
        cls, task_name: str, config: BaseModel | str | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        sample = str(metadata.get("__sample_id__", ""))
        found: dict[str, SandboxEnvironment] = {}
        try:
            for one in wanted(config, cls.wall, metadata):
                labels = cleanup.labels(task_name, sample, one.name)
                start = functools.partial(sandboxes.opened, one, labels)
                with errors_mapped():
                    found[one.name] = cls(await made(start, sandboxes.close))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await cls.sample_cleanup(task_name, config, found, True)
            raise
        return found

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: BaseModel | str | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        async with anyio.create_task_group() as group:
            for one in environments.values():
                session = one.as_type(StockadeSandbox).session
                group.start_soon(called, functools.partial(sandboxes.close, session))

    @classmethod
    async def task_cleanup(
        cls, task_name: str, config: BaseModel | str | None, cleanup: bool
    ) -> None:
        kept = await called(functools.partial(sandboxes.close_all, not cleanup))
        _report(kept)

    @classmethod
    async def cli_cleanup(cls, id: str | None) -> None:
        await called(functools.partial(cleanup.collected, id))


def _report(kept: list[str]) -> None:
    for session_id in kept:
        print(f"stockade: left running: {cleanup.command(session_id)}")
