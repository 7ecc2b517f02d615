"""What the kernel keeps for sockets, as it says it itself; in a network namespace of its own."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

import pytest

from stockade.toolkit.local import calls, tree, watch
from stockade.toolkit.local.buffers import Buffers
from stockade.toolkit.local.charges import Charges, Status
from stockade.toolkit.local.watch import Watch

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000


def alone(look: Callable[[Buffers], object]) -> str:
    """What ``look`` gives, in a process whose network namespace nobody else is in."""

    def act() -> bytes:
        calls.call("unshare", _NEW_NET if os.geteuid() == 0 else _NEW_USER | _NEW_NET)
        asking = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4)
        return str(look(Buffers(asking))).encode()

    try:
        return calls.in_fork(act)
    except OSError as error:
        if "unshare" in str(error):
            pytest.skip("no network namespace can be had here")
        raise


def fill(end: socket.socket, piece: bytes) -> None:
    end.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            end.send(piece)


@pytest.mark.parametrize("size", [1, 32768])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_E5_unix_sockets_count_open_and_closed(kind: socket.SocketKind, size: int) -> None:
    """What a sender had sent is nobody's in the list once it is closed; it counts all the same."""

    def look(buffers: Buffers) -> list[bool]:
        before = buffers.held()
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        fill(ours, bytes(size))
        filled = buffers.held() - before
        ours.close()
        closed = buffers.held() - before
        theirs.close()
        return [filled > 150_000, closed >= filled, buffers.held() - before < 10_000]

    assert alone(look) == "[True, True, True]"


def test_E5_connections_that_nobody_accepts_count() -> None:
    """Neither they nor who sent, and is closed, are in any list."""

    def look(buffers: Buffers) -> bool:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("\0stockade-test")
            listener.listen(50)
            for _ in range(20):
                with socket.socket(socket.AF_UNIX) as end:
                    end.connect("\0stockade-test")
                    fill(end, bytes(32768))
            return buffers.held() > 20 * 150_000

    assert alone(look) == "True"


def test_E5_many_sockets_are_listed_whole() -> None:
    def look(buffers: Buffers) -> bool:
        pairs = [socket.socketpair() for _ in range(400)]
        for ours, _ in pairs:
            fill(ours, bytes(32768))
        return buffers.held() > 400 * 150_000

    assert alone(look) == "True"


def test_E5_a_kernel_that_does_not_report_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        buffers = Buffers(ours)
        theirs.send(b"\0" * 12)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match="answers nothing"):
            buffers.held()


def test_E5_whoever_has_most_descriptors_answers_for_the_buffers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[int] = []
    files = {11: 10, 12: 500, 13: 20}
    monkeypatch.setattr(tree, "memory_bytes", lambda pid, exact=False: 1 << 20)
    size = Status({b"RssAnon": 1 << 10})
    monkeypatch.setattr(watch, "status_of", lambda pid: size)
    monkeypatch.setattr(Charges, "of_sockets", lambda self, first: 200 << 20)
    monkeypatch.setattr(tree, "open_files", files.__getitem__)
    monkeypatch.setattr(tree, "cpu_seconds", lambda pid: 0.0)
    monkeypatch.setattr("os.kill", lambda pid, number: ended.append(pid))
    for held, expected in ((10 << 20, []), (200 << 20, [12]), (None, [12])):
        ended.clear()
        looking = Watch(
            64 << 20,
            None,
            processes=lambda: (list(files), list(files)),
            count=lambda kills, pid: None,
            buffers=lambda held=held: held,  # type: ignore[misc]
        )
        looking.look()
        assert ended == expected, held
