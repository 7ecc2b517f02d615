"""envd's process service: commands and terminals of a sandbox."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import attrs

import stockade
from stockade.aio import AsyncExecution, AsyncSession, AsyncTerminal
from stockade.errors import UnsupportedError
from stockade.results import SandboxResult, Verdict
from stockade_server.connect import bytes_of, data_event, text_of, texts_of
from stockade_server.errors import Refused
from stockade_server.journal import Journal
from stockade_server.pumping import Pump

__all__ = ["Event", "Process", "Processes"]

#: One of a stream: an object, or its JSON already.
Event = dict[str, Any] | bytes

_MOST_ARGS = 4096
_MOST_TAG = 256  #: characters
#: Process ids are the server's own numbers, and no program's inside: Linux has none so high.
_FIRST_PID = 1 << 22
#: The signals that the protocol has.
_SIGNALS = {"SIGNAL_SIGTERM": "SIGTERM", "SIGNAL_SIGKILL": "SIGKILL", 15: "SIGTERM", 9: "SIGKILL"}


@attrs.define(eq=False)
class Process:
    """One command or terminal that runs."""

    pid: int  #: the server's own number; inside, the program has another
    tag: str | None
    config: Mapping[str, Any]  #: as the caller gave it
    pump: Pump
    killed: bool = False  #: SIGKILL was asked for

    @property
    def terminal(self) -> AsyncTerminal | None:
        execution = self.pump.execution
        return execution if isinstance(execution, AsyncTerminal) else None

    @property
    def words(self) -> str:
        """The command, as a shell's line."""
        return shlex.join([self.config["cmd"], *self.config["args"]])

    def described(self) -> dict[str, Any]:
        found: dict[str, Any] = {"config": dict(self.config), "pid": self.pid}
        return found if self.tag is None else {**found, "tag": self.tag}


class Processes:
    """Those of one sandbox."""

    def __init__(
        self, session: AsyncSession, env: Mapping[str, str], most: int, journal: Journal
    ) -> None:
        """``env``: variables of every command, below its caller's own."""
        self._session = session
        self._env = env
        self._journal = journal
        self._most = most
        self._running: dict[int, Process] = {}
        self._starting = 0
        self._last = _FIRST_PID - 1
        self.last_end = ""  #: how the command ended that ended last; empty before there is one

    @property
    def count(self) -> int:
        """How many run."""
        return len(self._running)

    def running(self) -> list[Process]:
        """Those that run."""
        return list(self._running.values())

    # -- calls of one answer -------------------------------------------------------

    async def listed(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """``List``"""
        return {"processes": [one.described() for one in self._running.values()]}

    async def send_input(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``SendInput``: waits while the program does not read."""
        await self._write(self._selected(body), body.get("input"))
        return {}

    async def close_stdin(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``CloseStdin``"""
        process = self._selected(body)
        if process.terminal is not None:
            raise Refused(400, "a terminal's input ends with the character 4 (Ctrl-D)")
        await process.pump.execution.close_stdin()
        return {}

    async def send_signal(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``SendSignal``: SIGKILL to the command's whole process group, SIGTERM to itself."""
        process, asked = self._selected(body), body.get("signal")
        signal = _SIGNALS.get(asked) if isinstance(asked, (str, int)) else None
        if signal is None:
            raise Refused(400, "signal is SIGNAL_SIGTERM or SIGNAL_SIGKILL")
        kills = signal == "SIGKILL"
        process.killed = process.killed or kills
        try:
            await process.pump.execution.signal(signal, group=kills)
        except UnsupportedError:
            if not kills:
                raise
            process.pump.execution.cancel()  # the same end
        return {}

    async def update(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``Update``: a terminal's size."""
        terminal = self._selected(body).terminal
        if terminal is None:
            raise Refused(400, "the process has no terminal")
        await terminal.resize(*_size(body.get("pty")))
        return {}

    async def stream_input(self, messages: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
        """``StreamInput``: a stream of the client's, of input to one process."""
        process: Process | None = None
        async for message in messages:
            if "start" in message:
                process = self._selected(_table(message["start"], "start"))
            elif "data" in message:
                if process is None:
                    raise Refused(400, "the stream's first message is start")
                await self._write(process, _table(message["data"], "data").get("input"))
        return {}

    # -- streams -------------------------------------------------------------------

    async def start(
        self, body: Mapping[str, Any], deadline: float | None, keepalive: float
    ) -> AsyncGenerator[Event, None]:
        """``Start``: the command's events. It runs on when the stream is left, to its
        deadline or the sandbox's end, and ``Connect`` hears it again."""
        process = await self._begin(body, deadline)
        async with contextlib.aclosing(self._events(process, keepalive)) as events:
            async for event in events:
                yield event

    async def connect(
        self, body: Mapping[str, Any], _: float | None, keepalive: float
    ) -> AsyncGenerator[Event, None]:
        """``Connect``: a running command's events from now on."""
        async with contextlib.aclosing(self._events(self._selected(body), keepalive)) as events:
            async for event in events:
                yield event

    async def _begin(self, body: Mapping[str, Any], deadline: float | None) -> Process:
        config = _table(body.get("process"), "process")
        argv, env = _argv(config), texts_of(config, "envs")
        tag = text_of(body, "tag") if body.get("tag") is not None else None
        if tag is not None and len(tag) > _MOST_TAG:
            raise Refused(400, f"tag is a text of {_MOST_TAG} characters at most")
        options: dict[str, Any] = {"env": {**self._env, **env}, "timeout": deadline}
        if config.get("cwd"):
            options["working_dir"] = text_of(config, "cwd")
        if len(self._running) + self._starting >= self._most:
            raise Refused(429, f"{self._most} commands run in this sandbox; end one first")
        self._starting += 1
        try:
            execution = await self._execution(body, argv, options)
        finally:
            self._starting -= 1
        self._last += 1
        pid = self._last
        listed = {"cmd": argv[0], "args": argv[1:], "envs": env}
        if "working_dir" in options:
            listed["cwd"] = options["working_dir"]
        pump = Pump(execution, lambda: self._forget(pid))
        process = self._running[pid] = Process(pid, tag, listed, pump)
        self._journal.note(f"command {pid} started: {shlex.join(argv)}", pid=str(pid))
        return process

    async def _execution(
        self, body: Mapping[str, Any], argv: list[str], options: dict[str, Any]
    ) -> AsyncExecution:
        if body.get("pty") is not None:
            rows, columns = _size(body["pty"])
            return await self._session.terminal(argv, rows=rows, columns=columns, **options)
        if body.get("stdin", True):  # open, unless the caller says otherwise
            options["stdin"] = stockade.PIPE
        return await self._session.stream(argv, **options)

    async def _events(self, process: Process, keepalive: float) -> AsyncGenerator[Event, None]:
        listener = process.pump.listen()  # of one that just begins: before the pump's first step
        try:
            yield {"event": {"start": {"pid": process.pid}}}
            while True:
                try:
                    piece = await listener.take(keepalive)
                except TimeoutError:
                    yield {"event": {"keepalive": {}}}
                    continue
                if piece is None:
                    break
                kind, data = piece
                yield data_event(kind, data)
            yield {"event": {"end": self._end(process)}}
        finally:
            listener.close()

    def _end(self, process: Process) -> dict[str, Any]:
        result = process.pump.outcome(killed=process.killed)
        if result.verdict is Verdict.TIMED_OUT:
            raise Refused(504, "the command's deadline has passed")
        return _ended(result)

    # -- which one -----------------------------------------------------------------

    def _selected(self, body: Mapping[str, Any]) -> Process:
        selector = _table(body.get("process"), "process")
        if "tag" in selector:
            tag = text_of(selector, "tag")
            found = [one for one in self._running.values() if one.tag == tag]
            if not found:
                raise Refused(404, f"no process has the tag {tag!r:.80}")
            return found[0]
        pid = selector.get("pid")
        if isinstance(pid, str) and pid.isascii() and pid.isdigit() and len(pid) < 12:
            pid = int(pid)
        process = self._running.get(pid) if isinstance(pid, int) else None
        if process is None:
            raise Refused(404, f"there is no process {pid!r:.40}")
        return process

    async def _write(self, process: Process, given: object) -> None:
        given = _table(given, "input")
        kind = "stdin" if process.terminal is None else "pty"
        if kind not in given:
            raise Refused(400, f"the input of this process is {kind}")
        await process.pump.execution.write(bytes_of(given[kind]))

    def _forget(self, pid: int) -> None:
        process = self._running.pop(pid)
        result = process.pump.result
        if result is None:
            self._journal.note(f"command {pid} was lost", "error", pid=str(pid))
        else:
            level = "info" if result.exit_code == 0 else "warn"
            self.last_end = _ended(result)["status"]
            self._journal.note(f"command {pid} ended: {self.last_end}", level, pid=str(pid))


def _ended(result: SandboxResult) -> dict[str, Any]:
    exited = result.verdict is Verdict.EXITED
    words = f"exit status {result.exit_code}" if exited else str(result.kill_reason)
    if result.verdict is Verdict.SIGNALLED:
        words = f"signal: {result.kill_reason}"
    end: dict[str, Any] = {"exitCode": result.exit_code, "exited": exited, "status": words}
    if result.exit_code != 0 or not exited:
        end["error"] = words
    return end


def _table(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(400, f"{name} is an object")
    return value


def _argv(config: Mapping[str, Any]) -> list[str]:
    args = config.get("args", [])
    if not isinstance(args, list) or len(args) > _MOST_ARGS:
        raise Refused(400, f"args is a list of {_MOST_ARGS} texts at most")
    argv = [text_of(config, "cmd"), *args]
    if not argv[0] or not all(isinstance(one, str) and "\0" not in one for one in argv):
        raise Refused(400, "cmd and args are texts without NUL")
    return argv


def _size(pty: object) -> tuple[int, int]:
    size = _table(_table(pty, "pty").get("size"), "size")
    rows, columns = size.get("rows", 24), size.get("cols", 80)
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise Refused(400, "rows and cols are numbers")
    return rows, columns
