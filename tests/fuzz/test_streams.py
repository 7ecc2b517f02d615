"""An engine's framed connection, cut and damaged in any way."""

from __future__ import annotations

import socket
import threading

from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from stockade_docker.streams import EngineTransport

#: So much of the standard error is kept, its end.
KEPT = 2048


def received(data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """What a transport makes of bytes that arrive in such pieces: both streams."""
    ours, theirs = socket.socketpair()

    def feed() -> None:
        left = data
        with theirs:
            for cut in cuts:
                theirs.sendall(left[:cut])
                left = left[cut:]
            theirs.sendall(left)

    thread = threading.Thread(target=feed)
    thread.start()
    transport = EngineTransport(ours)
    found = b""
    try:
        while piece := transport.receive():
            found += piece
    finally:
        transport.close()
        thread.join()
    return found, transport.stderr


@examples(150)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=10),
    st.lists(st.integers(1, 20), max_size=20),
)
def test_frames_arrive_whole_however_they_are_cut(
    frames: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    wire = b"".join(
        bytes([number, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for number, data in frames
    )
    expected = [b"".join(data for number, data in frames if number == one) for one in (1, 2)]
    assert received(wire, cuts) == (expected[0], expected[1][-KEPT:])


@examples(150)
@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=10))
def test_any_bytes_end(data: bytes, cuts: list[int]) -> None:
    assert sum(map(len, received(data, cuts))) <= len(data)
