"""An engine's framed connection, cut and damaged in any way."""

from __future__ import annotations

import socket
import threading

from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from stockade.results import Stream
from stockade_docker.channel import EngineChannel

NUMBERS = {1: Stream.STDOUT, 2: Stream.STDERR}


def received(data: bytes, cuts: list[int]) -> dict[Stream, bytes]:
    """What a channel makes of bytes that arrive in such pieces."""
    ours, theirs = socket.socketpair()
    found = dict.fromkeys(Stream, b"")

    def feed() -> None:
        left = data
        with theirs:
            for cut in cuts:
                theirs.sendall(left[:cut])
                left = left[cut:]
            theirs.sendall(left)

    thread = threading.Thread(target=feed)
    thread.start()
    channel = EngineChannel(ours)
    try:
        while pieces := channel.receive(20):
            for stream, piece in pieces:
                found[stream] += piece
    finally:
        channel.close()
        thread.join()
    return found


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
    expected = {
        stream: b"".join(data for number, data in frames if NUMBERS[number] is stream)
        for stream in Stream
    }
    assert received(wire, cuts) == expected


@examples(150)
@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=10))
def test_any_bytes_end(data: bytes, cuts: list[int]) -> None:
    assert sum(map(len, received(data, cuts).values())) <= len(data)
