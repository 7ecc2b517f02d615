"""The environment: Harbor's interface over a session of stockade's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, override

from harbor.environments.base import BaseEnvironment, ExecResult
from harbor.environments.capabilities import (
    EnvironmentCapabilities,
    EnvironmentResourceCapabilities,
)

import stockade
from stockade import aio
from stockade.errors import (
    CapacityError,
    ConfigError,
    PolicyError,
    PolicyRefusedError,
    ProviderStringError,
    StockadeError,
    UnsupportedError,
)
from stockade.results import Verdict
from stockade.system.versions import untested
from stockade_harbor import images

__all__ = ["StockadeEnvironment"]

#: The versions of harbor that the tests ran with, the first and the last.
_TESTED = ("0.25.0", "0.25.0")
_AGENT = "harbor"
_NEEDS = ("argv", "files", "background")
_OUTPUT_BYTES = 10 << 20
#: Files may be large, and engines slow.
_FILE_SECONDS = 600.0
_FILE_BYTES = 1 << 30
_DEFAULT = "gvisor | docker"


class StockadeEnvironment(BaseEnvironment):
    """Made by Harbor for each trial, by this class's import path.

    ``provider`` (``--ek provider=…``) is a provider string without a target, or several with
    ``|`` between them; by default STOCKADE_PROVIDER, else gvisor, else docker.
    """

    def __init__(self, *args: Any, provider: str | None = None, **kwargs: Any) -> None:
        self._provider = provider or os.environ.get("STOCKADE_PROVIDER") or _DEFAULT
        self._session: aio.AsyncSession | None = None
        self._folder = "/"
        super().__init__(*args, **kwargs)
        if (warning := untested("stockade-harbor", "harbor", *_TESTED)) is not None:
            self.logger.warning(warning)

    # -- what Harbor asks before a trial -----------------------------------------

    @staticmethod
    @override
    def type() -> str:
        return "stockade"

    @property
    @override
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities(
            disable_internet=True, network_allowlist=True, network_allowlist_hostnames=True
        )

    @classmethod
    @override
    def resource_capabilities(cls) -> EnvironmentResourceCapabilities:
        return EnvironmentResourceCapabilities(
            cpu_limit=True, memory_limit=True, fractional_cpus=True
        )

    @override
    def _validate_definition(self) -> None:
        compose = ("docker-compose.yaml", "docker-compose.yml", "compose.yaml", "compose.yml")
        if any((self.environment_dir / name).exists() for name in compose):
            raise ValueError(
                "a stockade environment is one sandbox, and this task is of compose's services: "
                "run it in Harbor's own docker environment."
            )
        named = self.task_env_config.docker_image is not None
        if not named and not (self.environment_dir / "Dockerfile").exists():
            raise FileNotFoundError(f"{self.environment_dir} has no Dockerfile.")

    # -- the sandbox ---------------------------------------------------------------

    @override
    async def start(self, force_build: bool) -> None:
        """The image is made where it is not there, and a session opened."""
        problems = []
        for text in self._provider.split("|"):
            try:
                self._session = await self._opened(text.strip(), force_build)
                break
            except (ConfigError, ProviderStringError):
                raise  # wrong behind every wall
            except (CapacityError, PolicyError, PolicyRefusedError):
                raise  # said by the moment or a policy, and not by the wall
            except StockadeError as error:
                problems.append(str(error))
        else:
            able = await asyncio.to_thread(
                stockade.suitable_providers, needs=_NEEDS, **self._fields()
            )
            raise UnsupportedError(
                f"{' '.join(problems)} Tasks are images, so what can serve here is: "
                f"{', '.join(able) or 'nothing'}."
            )
        if self._mount_targets(writable_only=True):
            await self.ensure_dirs(self._mount_targets(writable_only=True))
        await self._upload_environment_dir_after_start()

    async def _opened(self, text: str, force_build: bool) -> aio.AsyncSession:
        name, _, options = text.partition("?")
        if ":" in name:
            raise ConfigError(f"provider={text!r}: the image is the task's; name the wall alone.")
        config = self.task_env_config
        tag, self._folder = await asyncio.to_thread(
            lambda: images.made(
                text,
                self.environment_name,
                environment=self.environment_dir,
                image=config.docker_image,
                folder=config.workdir,
                more=self._mount_targets(),
                seconds=config.build_timeout_sec,
                fresh=force_build,
            )
        )
        string = f"{name}:{tag}" + (f"?{options}" if options else "")
        fields = self._fields()
        for field in fields.keys() & {one.partition("=")[0] for one in options.split("&")}:
            del fields[field]  # what the operator says stands over the task
        return await aio.open(string, agent_id=_AGENT, needs=_NEEDS, **fields)

    def _fields(self) -> dict[str, Any]:
        """Of the configuration, as the task states it."""
        found: dict[str, Any] = {
            "read_only_fs": False,
            "lifetime_seconds": None,
            "labels": {"harbor": self.session_id[:1000]},
        }
        if self._network_is_public:
            found["network_enabled"] = True
        if self._network_is_allowlist:
            found["network_allow"] = tuple(self.network_policy.allowed_hosts)
        if (cpus := self._effective_cpus) is not None:
            found["cpu_limit"] = float(cpus)
        if (memory := self._effective_memory_mb) is not None:
            found["memory_mb"] = memory
        return found

    @override
    async def stop(self, delete: bool) -> None:
        """End it; a sandbox does not outlive its trial, whatever ``delete`` says."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _running(self) -> aio.AsyncSession:
        if self._session is None:
            raise RuntimeError("the environment is not started")
        return self._session

    # -- commands --------------------------------------------------------------------

    @override
    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:
        """Run a line with bash, else sh. A deadline ends its whole tree, and raises."""
        options: dict[str, Any] = {}
        asked = self._resolve_user(user)
        if asked is not None and str(asked) not in ("root", "0"):
            if not str(asked).partition(":")[0].isdigit():
                raise UnsupportedError(
                    f"user={asked!r}: a sandbox has one user for all; take it out of task.toml."
                )
            options["user"] = str(asked)
        line = ["sh", "-c", 'command -v bash >/dev/null && exec bash -c "$1"; exec sh -c "$1"', "-"]
        result = await self._running().run(
            [*line, command],
            working_dir=cwd or self._folder,
            env=self._merge_env(env) or {},
            timeout=timeout_sec,
            output_limit_bytes=_OUTPUT_BYTES,
            output_keep="both",
            **options,
        )
        if result.verdict is Verdict.TIMED_OUT:
            raise RuntimeError(f"Command timed out after {timeout_sec} seconds")
        said = result.stderr
        if result.verdict is not Verdict.EXITED:
            said += f"\nstockade: {result.verdict}"
        return ExecResult(stdout=result.stdout, stderr=said, return_code=result.exit_code)

    # -- files -------------------------------------------------------------------------

    @override
    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        session = self._running().sync
        await asyncio.to_thread(_put, session, Path(source_path), target_path)

    @override
    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        files = self._running().files
        self._report(await files.put_tree(source_dir, target_dir, timeout=_FILE_SECONDS))

    @override
    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        session = self._running().sync
        await asyncio.to_thread(_get, session, source_path, Path(target_path))

    @override
    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        """Links that lead out of the folder, and what is no file, stay inside; the log says so."""
        files = self._running().files
        self._report(await files.get_tree(source_dir, target_dir, timeout=_FILE_SECONDS))

    def _report(self, missed: Sequence[Any]) -> None:
        for miss in missed:
            self.logger.warning("not copied: %s", miss)


def _put(session: stockade.Session, source: Path, target: str) -> None:
    with source.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        session.files.write(target, file, mode=mode, timeout=_FILE_SECONDS)


def _get(session: stockade.Session, source: str, target: Path) -> None:
    data = session.files.read(source, max_bytes=_FILE_BYTES, timeout=_FILE_SECONDS)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
