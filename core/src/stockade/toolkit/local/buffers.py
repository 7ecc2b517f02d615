"""What the kernel keeps for a sandbox's sockets, asked of the kernel itself (E5).

It is in no process's size. A socket of the sandbox's own network namespace lists every
other one there with what it holds, by sock_diag(7), from outside and whole: programs can
neither hide one nor keep the listing from being made.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping

from stockade.toolkit.local import calls
from stockade.toolkit.local.bounds import buffer_bytes

__all__ = ["Buffers"]

_NEW_USER, _NEW_NET, _NS_GET_USERNS = 0x10000000, 0x40000000, 0xB701
_SOCK_DIAG, _BY_FAMILY = 4, 20
_REQUEST, _DUMP, _ERROR, _DONE = 1, 0x300, 2, 3
_HEAD, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
#: rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog
_MEMORY = struct.Struct("=8I")
_RECEIVE_BYTES = 1 << 18
_ANSWER_SECONDS = 2.0

#: For TCP and UDP of both versions: struct inet_diag_req_v2; what an answer has before its
#: attributes, and the attribute that holds the memory.
_INTERNET = tuple(
    struct.pack("=BBBxI48x", family, protocol, 1 << 6, 0xFFFFFFFF)
    for family in (socket.AF_INET, socket.AF_INET6)
    for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
)
_INTERNET_LENGTH, _INTERNET_MEMORY = 72, 7
#: struct netlink_diag_req, of all protocols.
_NETLINK = struct.pack("=BBxxII8x", socket.AF_NETLINK, 0xFF, 0, 1)
_NETLINK_LENGTH, _NETLINK_MEMORY = 28, 0
#: struct unix_diag_req: the peer, what is in the queue, and the memory.
_UNIX = struct.pack("=BBxxIII8x", socket.AF_UNIX, 0, 0xFFFFFFFF, 0, 0x04 | 0x10 | 0x20)
_UNIX_LENGTH, _UNIX_PEER, _UNIX_QUEUE, _UNIX_MEMORY = 16, 2, 4, 5
_DATAGRAMS, _LISTENS = 2, 10
#: A single byte that is sent takes so many.
_DEAREST_BYTE = 1280


class Buffers:
    """A way to ask, made for one sandbox; of one thread."""

    def __init__(self, asking: socket.socket) -> None:
        """``asking`` is a sock_diag socket of the sandbox's network namespace."""
        self._asking = asking
        asking.settimeout(_ANSWER_SECONDS)
        self._number = 0
        #: What one socket can have sent at most that was not read.
        self._most = buffer_bytes("wmem")

    @classmethod
    def of(cls, pid: int, ids: tuple[int, int] | None) -> Buffers:
        """Of the network namespace that a sandbox's process is in; ``ids`` as in
        ``calls.settle``. Raises OSError if the kernel does not report it."""
        ours, theirs = socket.socketpair()

        def make() -> bytes:
            if ids is not None:
                calls.take_ids(ids)
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # the owner of this very one needs no entering
                calls.call("setns", fcntl.ioctl(namespace, _NS_GET_USERNS), _NEW_USER)
            calls.call("setns", namespace, _NEW_NET)
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG)
            socket.send_fds(theirs, [b"x"], [made.fileno()])
            return b"done"

        with ours, theirs:
            calls.in_fork(make)
            descriptors = array.array("i")
            room = socket.CMSG_SPACE(descriptors.itemsize)
            _, beside, _, _ = ours.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
            descriptors.frombytes(beside[0][2])
        found = cls(socket.socket(fileno=descriptors[0]))
        found.held()  # where the kernel does not report it, say so now
        return found

    def held(self) -> int:
        """Bytes that all sockets of the sandbox hold. Raises OSError."""
        total = 0
        for request in _INTERNET:
            for answer in self._ask(request):
                total += _taken(_attributes(answer, _INTERNET_LENGTH).get(_INTERNET_MEMORY))
        for answer in self._ask(_NETLINK):
            total += _taken(_attributes(answer, _NETLINK_LENGTH).get(_NETLINK_MEMORY))
        for answer in self._ask(_UNIX):
            total += self._of_unix(answer)
        return total

    def close(self) -> None:
        self._asking.close()

    def _of_unix(self, answer: bytes) -> int:
        """A unix socket's buffers are its sender's, which is in no list once it is closed."""
        found = _attributes(answer, _UNIX_LENGTH)
        own = _taken(found.get(_UNIX_MEMORY))
        queued, peer = (
            int(struct.unpack_from("=I", found.get(kind, bytes(4)))[0])
            for kind in (_UNIX_QUEUE, _UNIX_PEER)
        )
        kind, state = answer[1], answer[2]
        if state == _LISTENS:  # connections that nobody has accepted are in no list, either
            return own + queued * self._most
        if peer or not queued:
            return own
        # Of datagrams the kernel gives the first one's length, of streams what all hold.
        return own + (self._most if kind == _DATAGRAMS else min(self._most, queued * _DEAREST_BYTE))

    def _ask(self, request: bytes) -> Iterator[bytes]:
        self._number += 1
        length = _HEAD.size + len(request)
        head = _HEAD.pack(length, _BY_FAMILY, _REQUEST | _DUMP, self._number, 0)
        self._asking.send(head + request)
        while True:
            data = self._asking.recv(_RECEIVE_BYTES)
            if not data:
                raise OSError("sock_diag answers nothing")
            at = 0
            while at + _HEAD.size <= len(data):
                size, kind, _, number, _ = _HEAD.unpack_from(data, at)
                if number == self._number:
                    if kind == _DONE:
                        return
                    if kind == _ERROR:
                        error = -struct.unpack_from("=i", data, at + _HEAD.size)[0]
                        raise OSError(error, os.strerror(error), "sock_diag")
                    yield data[at + _HEAD.size : at + size]
                at += (size + 3) & ~3


def _attributes(answer: bytes, start: int) -> Mapping[int, bytes]:
    found = {}
    at = start
    while at + _ATTRIBUTE.size <= len(answer):
        size, kind = _ATTRIBUTE.unpack_from(answer, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind] = answer[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return found


def _taken(memory: bytes | None) -> int:
    if memory is None or len(memory) < _MEMORY.size:
        return 0
    received, _, sent, _, ahead, queued, options, backlog = _MEMORY.unpack_from(memory)
    return int(received + max(sent, queued) + ahead + options + backlog)
