"""One session as deepagents' sandbox: commands and files."""

from __future__ import annotations

import functools
import inspect
import posixpath
import re
from collections.abc import Callable
from typing import Any, TypeVar

from deepagents.backends import protocol
from deepagents.backends.protocol import (
    ExecuteResponse,
    FileDownloadResponse,
    FileUploadResponse,
)
from deepagents.backends.sandbox import BaseSandbox

from stockade import OutputKeep, Session
from stockade.aio import AsyncSession
from stockade.aio.files import call_awaited
from stockade.session import RunOptions
from stockade_deepagents.outcomes import file_error, response

__all__ = ["StockadeSandbox"]

_T = TypeVar("_T")
#: What is kept of a command's output, as much as the framework's own capture keeps; what is
#: more than a model can read the framework writes to a file.
_OUTPUT_BYTES = 10 * 1024 * 1024
#: Where the framework puts what it takes out of a conversation when nobody names a root.
_ARTEFACT = re.compile(r"/(?:large_tool_results|conversation_history|blobs)(?:/|$)")
#: Methods of BaseSandbox that take a path, and what they call it.
_WITH_PATHS = ("ls", "read", "write", "edit", "grep", "glob")
_PATHS = ("path", "file_path")


class StockadeSandbox(BaseSandbox):
    """deepagents' sandbox over a session; usually made by :class:`StockadeBackend`.

    Takes any open session of stockade's; whoever opened it closes it. Commands, and the file
    tools that the framework makes of commands, need ``sh`` and ``python3`` inside. Artefacts
    that the framework would put at the top of the root, which no wall lets be written, land in
    the working folder. Errors of a single file are results; a sandbox that failed raises
    StockadeError.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._aio = AsyncSession(session)

    @property
    def id(self) -> str:
        """The session's id, by which a durable one is attached to."""
        return self.session.session_id

    @property
    def working_dir(self) -> str:
        """Where commands start, and artefacts land."""
        return self.session.provider.config.working_dir

    def placed(self, path: str) -> str:
        """The path, or where in the working folder an artefact of that path lies."""
        return f"{self.working_dir}{path}" if _ARTEFACT.match(path) else path

    # -- commands ----------------------------------------------------------------

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a shell line; ``timeout`` in seconds, None or 0 for the session's.

        The framework lets 0 mean none. Here it does not: a model may pass it, and what the
        session's owner set is not a model's to lift.
        """
        options = self._options(timeout)
        return response(self.session.shell(command, **options), self._seconds(timeout))

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """As ``execute``; cancelling the await ends the command with all that it started."""
        options = self._options(timeout)
        return response(await self._aio.shell(command, **options), self._seconds(timeout))

    def _options(self, timeout: int | None) -> RunOptions:
        return RunOptions(
            timeout=self._seconds(timeout),
            merge=True,
            output_limit_bytes=_OUTPUT_BYTES,
            output_keep=OutputKeep.BOTH,
        )

    def _seconds(self, timeout: int | None) -> float | None:
        return timeout or self.session.provider.config.timeout_seconds

    # -- files ----------------------------------------------------------------------

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write each, making parent folders; what fails is in its response."""
        return [self._upload(path, data) for path, data in files]

    async def aupload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """As ``upload_files``; cancelling the await ends it."""
        return await self._awaited(lambda: self.upload_files(files))

    def _upload(self, path: str, data: bytes) -> FileUploadResponse:
        try:
            self.session.files.write(self._whole(path), data)
        except (OSError, ValueError) as error:
            return FileUploadResponse(path=path, error=file_error(error))
        return FileUploadResponse(path=path)

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read each whole; what fails is in its response."""
        return [self._download(path) for path in paths]

    async def adownload_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """As ``download_files``; cancelling the await ends it."""
        return await self._awaited(lambda: self.download_files(paths))

    def _download(self, path: str) -> FileDownloadResponse:
        try:
            content = self.session.files.read(self._whole(path))
        except (OSError, ValueError) as error:
            return FileDownloadResponse(path=path, error=file_error(error))
        return FileDownloadResponse(path=path, content=content)

    def delete(self, file_path: str) -> protocol.DeleteResult:
        """Remove a file, or a folder with all that is in it; for the tool of deepagents 0.7."""
        try:
            self.session.files.remove(self._whole(file_path), tree=True)
        except FileNotFoundError:
            return protocol.DeleteResult(error=f"Error: '{file_path}' not found")
        except (OSError, ValueError) as error:
            return protocol.DeleteResult(
                error=f"Error deleting file '{file_path}': {file_error(error)}"
            )
        return protocol.DeleteResult(path=file_path)

    async def adelete(self, file_path: str) -> protocol.DeleteResult:
        """As ``delete``; cancelling the await ends it."""
        return await self._awaited(lambda: self.delete(file_path))

    async def _awaited(self, call: Callable[[], _T]) -> _T:
        return await call_awaited(self.session.provider.runtime, call)

    def _whole(self, path: str) -> str:
        """Raises ValueError where it is not absolute, as the framework asks."""
        if not posixpath.isabs(path):
            raise ValueError(path)
        return self.placed(path)


def _led(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of the framework's, blocking or not, with its path led to where artefacts lie."""
    shape = inspect.signature(method)

    @functools.wraps(method)
    def call(self: StockadeSandbox, *args: Any, **options: Any) -> Any:
        given = shape.bind(self, *args, **options)
        for name in _PATHS:
            if given.arguments.get(name):
                given.arguments[name] = self.placed(given.arguments[name])
        return method(*given.args, **given.kwargs)

    return call


for _name in _WITH_PATHS:
    for _method in (_name, f"a{_name}"):
        setattr(StockadeSandbox, _method, _led(getattr(BaseSandbox, _method)))
