"""A terminal by the engine's exec: the one thing that no shell of pipes can give."""

from __future__ import annotations

import contextlib
from typing import Any

import docker

from stockade.errors import SandboxLostError
from stockade.wall import Terminal, TerminalRequest
from stockade_docker.channel import hang_up
from stockade_docker.engine import FAILURES

__all__ = ["EngineTerminal"]


class EngineTerminal(Terminal):
    """The connection carries the terminal's bytes as they are, without frames."""

    def __init__(
        self, api: docker.APIClient, container: str, user: str, request: TerminalRequest
    ) -> None:
        self._api = api
        argv = list(request.argv) or ["sh", "-c", "exec $(command -v bash || echo sh)"]
        try:
            made = api.exec_create(
                container, argv, stdin=True, tty=True, user=user, workdir=request.working_dir,
                environment={"TERM": "xterm-256color", **request.env},
            )  # fmt: skip
            self._id: str = made["Id"]
            self._keep: Any = api.exec_start(self._id, socket=True, tty=True)
        except FAILURES as error:
            raise SandboxLostError(f"the engine could not start a terminal: {error}") from error
        self._socket: Any = getattr(self._keep, "_sock", self._keep)
        with contextlib.suppress(AttributeError):
            self._socket.settimeout(None)
        self.resize(request.rows, request.columns)

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def read(self) -> bytes:
        try:
            data = bytes(self._socket.recv(65536))
            while getattr(self._socket, "pending", int)():  # of TLS, which no descriptor shows
                data += self._socket.recv(65536)
        except OSError:
            return b""
        return data

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def resize(self, rows: int, columns: int) -> None:
        with contextlib.suppress(*FAILURES):  # the program may have ended
            self._api.exec_resize(self._id, height=rows, width=columns)

    def exit_code(self) -> int:
        try:
            code = self._api.exec_inspect(self._id).get("ExitCode")
        except FAILURES:
            return 125
        return 125 if code is None else int(code)

    def close(self) -> None:
        hang_up(self._keep)
