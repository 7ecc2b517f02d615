"""The frames of the forwarder inside, from whoever speaks there by now (E10)."""

from __future__ import annotations

import queue
import resource
import struct
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from stockade.resident import Channel
from stockade.results import Stream
from stockade.toolkit.egress import Gateway, Names, RefusedError
from stockade_docker.forwarding import Forwarding

_HEAD = struct.Struct(">IcI")


class Forwarder(Channel):
    """The hostile end inside: says what it is told to, remembers what it hears."""

    def __init__(self, *says: bytes) -> None:
        self.says: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        for data in says:
            self.says.put(data)
        self.heard: dict[int, bytes] = {}
        self.closed: set[int] = set()
        self.changed = threading.Condition()

    def send(self, data: bytes) -> None:
        number, kind, length = _HEAD.unpack_from(data)
        assert len(data) == _HEAD.size + length
        with self.changed:
            if kind == b"d":
                self.heard[number] = self.heard.get(number, b"") + data[_HEAD.size :]
            elif kind == b"c":
                self.closed.add(number)
            self.changed.notify_all()

    def receive(self, seconds: float | None = None) -> list[tuple[Stream, bytes]]:
        try:
            data = self.says.get(timeout=20 if seconds is None else seconds)
        except queue.Empty:
            raise TimeoutError from None
        return [(Stream.STDOUT, data)] if data else []

    def close(self) -> None:
        self.says.put(b"")

    def wait_closed(self, number: int) -> bytes:
        with self.changed:
            assert self.changed.wait_for(lambda: number in self.closed, 20)
            return self.heard.get(number, b"")


def gateway() -> Gateway:
    return Gateway(Names.of(["good.example"]), resolver=lambda *_: [("127.0.0.1", 9)])


def test_a_connection_is_served() -> None:
    request = b"GET http://evil.example/ HTTP/1.1\r\n\r\n"
    forwarder = Forwarder(b"8080\n", _HEAD.pack(1, b"o", 0))
    forwarding = Forwarding(forwarder, gateway())
    assert forwarding.start(5) == 8080
    forwarder.says.put(_HEAD.pack(1, b"d", len(request)) + request + _HEAD.pack(1, b"c", 0))
    assert forwarder.wait_closed(1).startswith(b"HTTP/1.1 403")
    forwarding.close()


FRAMES = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from([b"o", b"d", b"w", b"c", b"?"]), st.binary(max_size=80)
    ),
    max_size=12,
)


@examples(100)
@given(FRAMES, st.lists(st.integers(1, 30), max_size=10), st.binary(max_size=8))
def test_any_frames_end_with_their_channel(
    frames: list[tuple[int, bytes, bytes]], cuts: list[int], junk: bytes
) -> None:
    wire = b"".join(_HEAD.pack(n, kind, len(data)) + data for n, kind, data in frames) + junk
    pieces = []
    for cut in cuts:
        pieces.append(wire[:cut])
        wire = wire[cut:]
    forwarder = Forwarder(b"8080\n", *(piece for piece in [*pieces, wire] if piece))
    forwarding = Forwarding(forwarder, gateway())
    forwarding.start(5)
    forwarder.close()
    opened = {number for number, kind, _ in frames if kind == b"o"}
    deadline = time.monotonic() + 20
    while forwarding._connections and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not forwarding._connections
    assert set(forwarder.heard) <= opened


def test_many_small_frames_cost_little() -> None:
    """They are cut from what was read at once: a copy each would be gigabytes."""
    frames = _HEAD.pack(7, b"w", 0) * 300_000
    forwarder = Forwarder(b"8080\n", frames)
    began = time.process_time()
    forwarding = Forwarding(forwarder, gateway())
    forwarding.start(5)
    forwarder.says.put(_HEAD.pack(1, b"o", 0) + _HEAD.pack(1, b"c", 0))
    assert forwarder.wait_closed(1).startswith(b"HTTP/1.1 403")
    assert time.process_time() - began < 5
    forwarding.close()


@pytest.mark.parametrize("says", [b"x" * 300, b"-5\n", b"99999999\n", b"\n", "²\n".encode()])
def test_a_forwarder_that_says_no_port(says: bytes) -> None:
    forwarder = Forwarder(*[says] * 20)
    with pytest.raises(OSError):
        Forwarding(forwarder, gateway()).start(0.5)


def test_data_that_nobody_asked_for_is_bounded() -> None:
    block = bytes(256 * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    forwarder = Forwarder(b"8080\n", _HEAD.pack(1, b"o", 0))

    def never(*_: object) -> list[tuple[str, int]]:
        time.sleep(1.0)
        raise RefusedError("no")

    forwarding = Forwarding(forwarder, Gateway(Names.of(["good.example"]), resolver=never))
    forwarding.start(5)
    forwarder.says.put(
        _HEAD.pack(1, b"d", 45) + b"CONNECT good.example:443 HTTP/1.1\r\n\r\n" + bytes(8)
    )
    for _ in range(400):
        forwarder.says.put(_HEAD.pack(1, b"d", len(block)) + block)
    forwarder.wait_closed(1)
    forwarding.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 140 * 1024
