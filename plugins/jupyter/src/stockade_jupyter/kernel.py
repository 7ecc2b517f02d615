"""One kernel: its session, its program, and the way to its ports. Blocking."""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import random
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import stockade
from stockade import SandboxResult, Session, Verdict
from stockade.errors import (
    CancelledError,
    CapacityError,
    ConfigError,
    ExecutionEndedError,
    PolicyError,
    PolicyRefusedError,
    ProviderStringError,
    SandboxLostError,
    StockadeError,
)
from stockade_jupyter.doors import CHANNELS, Doors

__all__ = ["NEEDS", "Kernel", "able", "inside", "opened", "why"]

#: What a wall must have: programs, the connection file, the way to ports, interrupts.
NEEDS = ("argv", "files", "ports", "signals")
#: Below those that kernels hand out by themselves; each kernel has a network of its own.
_PORTS = range(20_000, 32_000)
_TAIL_BYTES = 64 * 1024
_LOOK_SECONDS = 0.05
_random = random.SystemRandom()


def able(fields: Mapping[str, Any]) -> str:
    """The provider strings that can, for the end of a message."""
    found = stockade.suitable_providers(needs=NEEDS, **fields)
    return f"Here these can: {', '.join(found) or 'none'}."


def opened(provider: str, fields: Mapping[str, Any], agent: str) -> Session:
    """A session for a kernel. Raises StockadeError that names the walls that can."""
    try:
        return stockade.open(provider, agent_id=agent, needs=NEEDS, **fields)
    except (ConfigError, ProviderStringError):
        raise  # wrong behind every wall
    except (CapacityError, PolicyError, PolicyRefusedError):
        raise  # said by the moment or a policy, and not by the wall
    except StockadeError as error:
        error.args = (f"{error} {able(fields)}",)
        raise


def why(end: SandboxResult | BaseException, session: Session) -> str:
    """How a kernel ended, for people."""
    if isinstance(end, BaseException):
        return f"its sandbox was lost: {end}"
    if end.verdict is Verdict.OUT_OF_MEMORY:
        limit = session.provider.config.memory_mb
        return f"it used more memory than its sandbox may: {limit} MiB"
    said = end.stderr.strip().rpartition("\n")[2] or end.stdout.strip().rpartition("\n")[2]
    return f"{end.verdict}, exit code {end.exit_code}" + (f": {said}" if said else "")


class Kernel:
    """Made at a kernel's first start; ``start`` again after its program has ended."""

    def __init__(self, provider: str, fields: Mapping[str, Any], agent: str) -> None:
        self._provider, self._fields, self._agent = provider, dict(fields), agent
        self._session: Session | None = None
        self._execution: stockade.Execution | None = None
        self._doors: Doors | None = None
        self._given_up = threading.Event()

    def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        folder: str | None,
        key: Mapping[str, str],
    ) -> str:
        """Start the program and wait until it listens; the base of its sockets' paths.

        ``{connection_file}`` in ``argv`` stands for the file's path inside. ``key``: what signs
        messages. Raises StockadeError, OSError; a program that ends at once is a
        SandboxStartError which says why; CancelledError after ``give_up``.
        """
        session = self._ready_session()
        self._go_on()
        ports = _random.sample(_PORTS, len(CHANNELS))
        channels = dict(zip(CHANNELS, ports, strict=True))
        given = {"transport": "tcp", "ip": "127.0.0.1", **channels, **key}
        path = f"/tmp/kernel-{secrets.token_hex(8)}.json"
        session.files.write(path, json.dumps(given).encode(), mode=0o600)
        self._execution = session.start(
            [word.replace("{connection_file}", path) for word in argv],
            env=env,
            timeout=None,
            output_limit_bytes=_TAIL_BYTES,
            output_keep="tail",
            working_dir=folder or session.provider.config.working_dir,
        )
        self._wait_until_it_listens(session, self._execution, ports)
        self._doors = self._doors or Doors()
        self._doors.lead(session, ports)
        return self._doors.base

    def give_up(self) -> None:
        """Have ``start``, in another thread, end soon: its client waits no more. ``close`` next."""
        self._given_up.set()

    def _go_on(self) -> None:
        if self._given_up.is_set():
            raise CancelledError("the kernel's start was cancelled.")

    def _ready_session(self) -> Session:
        """The one that is there, with the files that the last kernel left; else a new one."""
        if self._session is not None and self._session.status is not stockade.SessionStatus.READY:
            self._end_session()
        if self._session is None:
            self._session = opened(self._provider, self._fields, self._agent)
        return self._session

    def _wait_until_it_listens(
        self, session: Session, execution: stockade.Execution, ports: Sequence[int]
    ) -> None:
        until = time.monotonic() + session.provider.config.startup_timeout_seconds
        while not all(_greets(session, port) for port in ports):
            if execution.future.done():
                reason = why(execution.future.exception() or execution.result(), session)
                raise stockade.SandboxStartError(
                    f"the kernel ended at once behind {session.provider.name} ({reason}). What "
                    f"starts it there needs its kernel's package (ipykernel). {able(self._fields)}",
                    retryable=False,
                )
            if time.monotonic() > until:
                execution.cancel()
                raise stockade.SandboxStartError(
                    "the kernel did not listen in time (startup_timeout_seconds).", retryable=False
                )
            self._go_on()
            time.sleep(_LOOK_SECONDS)

    # -- while it runs ------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether a program was started whose end was not taken yet."""
        return self._execution is not None

    def ended(self) -> int | None:
        """The exit code of the program that has ended, else None."""
        execution = self._execution
        if execution is None:
            return 0
        if not execution.future.done():
            return None
        error = execution.future.exception()
        return 1 if error is not None else execution.result().exit_code

    def reason(self) -> str | None:
        """Why the program ended without having been asked to; None while it runs."""
        execution, session = self._execution, self._session
        if execution is None or session is None or not execution.future.done():
            return None
        return why(execution.future.exception() or execution.result(), session)

    def forget(self) -> None:
        """The program's end was taken."""
        self._execution = None

    def signal(self, name: str) -> None:
        """Send the program a signal, such as SIGINT. One that has ended gets none."""
        if self._execution is not None:
            with contextlib.suppress(ExecutionEndedError, SandboxLostError):
                self._execution.signal(name)

    def cancel(self) -> None:
        """End the program with all that it started."""
        if self._execution is not None:
            self._execution.cancel()

    def close(self) -> None:
        """End everything and remove the sockets; may be called again."""
        if self._doors is not None:
            self._doors.close()
            self._doors = None
        self._end_session()
        self._execution = None

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


def _greets(session: Session, port: int) -> bool:
    """Whether somebody listens at the port inside: ZeroMQ speaks first."""
    ours, theirs = socket.socketpair()
    with ours:
        session.forward(theirs, port)
        ours.settimeout(5)
        try:
            return bool(ours.recv(1))
        except OSError:
            return False


def inside(folder: str | None, mounts: Sequence[stockade.Mount]) -> str | None:
    """A folder of this machine (by default this one) as it is called inside, where a mount
    shows it."""
    path = os.path.abspath(folder or os.curdir)
    for mount in mounts:
        if path == mount.source or path.startswith(mount.source.rstrip("/") + "/"):
            return posixpath.normpath(mount.target + path.removeprefix(mount.source))
    return None
