"""Live output of a sandbox's commands for who only looks: it holds no program back."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import anyio

from stockade_server.errors import has_ended
from stockade_server.process import Process
from stockade_server.sandbox import Sandbox

__all__ = ["events"]

_EVERY = 0.5  #: seconds between two looks at what runs
_KEEPALIVE = 15.0  #: seconds of quiet, after which a comment says that the stream lives
_MOST_PIECES = 256  #: that wait for a browser; older ones are dropped


class _Looked:
    """What was printed and not yet sent."""

    def __init__(self) -> None:
        self.pieces: deque[dict[str, Any]] = deque(maxlen=_MOST_PIECES)
        self.came = asyncio.Event()
        self._dropped = False

    def add(self, process: Process, text: str) -> None:
        if len(self.pieces) == _MOST_PIECES:
            self._dropped = True
        self.pieces.append({"pid": process.pid, "text": text})
        self.came.set()

    def taken(self) -> list[dict[str, Any]]:
        """All of it, marked where something was dropped before it."""
        found, dropped = list(self.pieces), self._dropped
        self.pieces.clear()
        self.came.clear()
        self._dropped = False
        return [{"pid": 0, "text": "\n[…]\n"}, *found] if dropped else found


async def _follow(process: Process, looked: _Looked) -> None:
    """To the command's end."""
    listener = process.pump.listen()
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    try:
        while (piece := await listener.take()) is not None:
            if text := decode(piece[1]):
                looked.add(process, text)
    finally:
        listener.close()


async def events(sandbox: Sandbox) -> AsyncGenerator[bytes, None]:
    """Server-sent events, until the sandbox ends or nobody looks."""
    looked, following = _Looked(), dict[int, asyncio.Task[None]]()
    quiet = 0.0
    try:
        yield b": live\n\n"
        while sandbox.alive:
            following = {pid: work for pid, work in following.items() if not work.done()}
            for process in sandbox.processes.running():
                if process.pid not in following:
                    work = asyncio.ensure_future(_follow(process, looked))
                    following[process.pid] = work
            with anyio.move_on_after(_EVERY):
                await looked.came.wait()
            quiet = 0.0 if looked.pieces else quiet + _EVERY
            if quiet >= _KEEPALIVE:
                quiet = 0.0
                yield b": quiet\n\n"
            for piece in looked.taken():
                yield b"data: " + json.dumps(piece).encode() + b"\n\n"
        raise has_ended()
    finally:
        for work in following.values():
            work.cancel()
        for work in following.values():
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work
