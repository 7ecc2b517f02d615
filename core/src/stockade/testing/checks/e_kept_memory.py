"""Checks of E5: memory that a program has and that is no page of its own."""

from __future__ import annotations

from typing import ClassVar

from stockade.capabilities import Feature
from stockade.errors import SandboxLostError
from stockade.results import Verdict
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect

_LIMIT_MB = 128

#: Each keeps what it can in one kind, prints how many MiB that is as it grows, and takes its
#: time, so that a watcher has looked. What is refused ends it in order.
_KINDS = {
    "buffers of sockets": """
import socket
while held < most:
    one, other = socket.socketpair()
    kept.append((one, other))
    for end in (one, other):
        end.setblocking(False)
        try:
            while True: grown(end.send(piece))
        except BlockingIOError: pass
""",
    "buffers of connections that nobody accepts": """
import os, socket
while held < most:
    listener = socket.socket(socket.AF_UNIX)
    path = f"/tmp/{os.getpid()}-{len(kept)}"
    listener.bind(path)
    listener.listen(100)
    kept.append(listener)
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as end:
            end.setblocking(False)
            try:
                end.connect(path)
                while True: grown(end.send(piece))
            except OSError: pass
    os.unlink(path)
""",
    "buffers of pipes": """
import os
while held < most:
    ends = os.pipe()
    kept.append(ends)
    os.set_blocking(ends[1], False)
    try:
        while True: grown(os.write(ends[1], piece))
    except BlockingIOError: pass
""",
    "page tables": """
import mmap
one = 4 << 30
while held < most:
    area = mmap.mmap(-1, one, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000,
                     prot=mmap.PROT_READ)
    try: area.madvise(15)
    except OSError: pass
    kept.append(area)
    for at in range(0, one, 2 << 20):
        area[at]
        grown(4096)
""",
    "shared memory that is mapped and not touched any more": """
import mmap
while held < most:
    area = mmap.mmap(-1, 4 << 20)
    for at in range(0, 4 << 20, 4096): area[at] = 1
    area.madvise(mmap.MADV_DONTNEED)
    kept.append(area)
    grown(4 << 20)
""",
}
_PROGRAM = """
import sys, time
held, reported, kept, piece, most = 0, 0, [], bytes(65536), {most}
def grown(count):
    global held, reported
    held += count
    if held - reported > 4 << 20:
        reported = held
        print(held >> 20, flush=True)
        time.sleep(0.01)
try:
    exec({body!r})
except (OSError, ImportError, AttributeError, ValueError):
    pass
time.sleep(1)
"""


class Kept(ConformanceBase):
    """What the kernel keeps for a program counts as its memory does."""

    #: How many times ``memory_mb`` a program may have when what the kernel keeps for it is
    #: counted in: more than 1 where the wall's documentation states such a bound.
    memory_factor: ClassVar[float] = 1.0

    def test_E5_buffers_of_sockets_count(self) -> None:
        self._held("buffers of sockets")

    def test_E5_connections_that_nobody_accepts_count(self) -> None:
        self._held("buffers of connections that nobody accepts")

    def test_E5_buffers_of_pipes_count(self) -> None:
        self._held("buffers of pipes")

    def test_E5_page_tables_count(self) -> None:
        self._held("page tables")

    def test_E5_shared_memory_that_nobody_touches_counts(self) -> None:
        self._held("shared memory that is mapped and not touched any more")

    def _held(self, kind: str) -> None:
        self.need(Feature.MEMORY, Feature.CODE)
        with self.session(memory_mb=_LIMIT_MB) as session:
            self.need_python(session)
            self._keep(session, kind)

    def _keep(self, session: Session, kind: str) -> None:
        bound = int(_LIMIT_MB * self.memory_factor)
        most = (bound + _LIMIT_MB) << 20
        code = _PROGRAM.format(most=most, body=_KINDS[kind])
        try:
            result = session.code(code, timeout=self.scaled(40))
        except SandboxLostError:
            if self.one_kernel(session):
                return
            raise
        held = int((result.stdout.split() or ["0"])[-1])
        expect(held <= bound, "E5", f"at most {bound} MiB of {kind}", f"{held} MiB")
        known = (Verdict.EXITED, Verdict.OUT_OF_MEMORY)
        expect(result.verdict in known, "E5", "out of memory, or a call refused", result)
        if not self.one_kernel(session):
            self.usable(session, "E5")
