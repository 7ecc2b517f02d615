"""A supervisor that writes no newline, for what takes lines apart (a pod's log)."""

from __future__ import annotations

import socket
import subprocess

import pytest

from stockade.results import Stream
from stockade.toolkit.supervised import Link, OneLine, SocketTransport, StartRequest


class Carried(SocketTransport):
    """Keeps what came, as it came."""

    one_line = True

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.came = bytearray()
        self._lines = OneLine()

    def receive(self) -> bytes:
        while data := super().receive():
            self.came += data
            if found := self._lines.feed(data):
                return found
        return b""


class Collected:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, stream: Stream, data: bytes) -> None:
        self.data += data

    def room(self, stream: Stream) -> int:
        return 0

    def full(self, stream: Stream) -> bool:
        return False

    def drop(self, stream: Stream, count: int) -> None:
        return


def test_no_newline_is_written_and_none_is_lost(sanitized: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        end = theirs.fileno()
        held = subprocess.Popen([sanitized, "serve"], cwd="/", stdin=end, stdout=end)
    carried = Carried(ours)
    link = Link(carried)
    try:
        link.handshake(10)
        every = bytes(range(256))
        text = "\\n\\013\\001\\013\\002\\n%s\\n"
        line = f"i=0; while [ $i -lt 2000 ]; do printf '{text}' $i; i=$((i+1)); done"
        wanted = b"".join(b"\n\x0b\x01\x0b\x02\n%d\n" % i for i in range(2000))
        for argv, stdin, right in (
            (("cat",), every * 3000, every * 3000),
            (("sh", "-c", line), b"", wanted),
        ):
            found = Collected()
            env = {"PATH": "/usr/bin:/bin"}
            link.start(StartRequest(argv=argv, cwd="/", env=env), found, stdin).wait(lambda: 30)
            assert bytes(found.data) == right
        assert b"\n" not in carried.came and len(carried.came) > 700_000
    finally:
        link.close()
        held.wait(10)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pieces_of_any_size_come_out_whole(size: int) -> None:
    right = b"a\n\x0b\n\n\x0b\x0bb\x0b"
    sent = right.replace(b"\x0b", b"\x0b\x02").replace(b"\n", b"\x0b\x01")
    lines = OneLine()
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    assert b"".join(map(lines.feed, pieces)) == right
