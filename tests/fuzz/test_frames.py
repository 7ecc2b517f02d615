"""What comes out of a sandbox may be anything: the reader of frames on this side (D16)."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from stockade.toolkit.supervised.frames import BODY_BYTES, Decoder, Encoder, FrameError, Kind

SECRET = 0x1122334455667788
HEAD_BYTES = 24


def sent(bodies: list[bytes]) -> bytes:
    """Frames as the supervisor sends them, with its secret."""
    encoder = Encoder()
    data = b""
    for body in bodies:
        frame = bytearray(encoder.frame(Kind.OUTPUT, 1, body))
        frame[16:24] = SECRET.to_bytes(8, "little")
        data += bytes(frame)
    return data


@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(1, 50), max_size=20))
def test_any_bytes_are_refused_or_held(data: bytes, cuts: list[int]) -> None:
    decoder = Decoder(SECRET)
    at = 0
    with contextlib.suppress(FrameError):
        for cut in [*cuts, len(data)]:
            assert not list(decoder.feed(data[at : at + cut]))
            at += cut
    assert len(decoder._buffer) <= BODY_BYTES + HEAD_BYTES + len(data)


@given(
    bodies=st.lists(st.binary(max_size=300), min_size=1, max_size=8),
    at=st.integers(0, 400),
    forged=st.binary(min_size=1, max_size=60),
)
def test_what_is_written_in_between_reaches_no_later_frame(
    bodies: list[bytes], at: int, forged: bytes
) -> None:
    """A program that can write into the supervisor's output breaks the session at the latest
    with the next head; of frames after the one that it broke into, none is taken."""
    data = sent(bodies)
    at = min(at, len(data))
    broken = data[:at] + forged + data[at:]
    decoder, found = Decoder(SECRET), []
    with contextlib.suppress(FrameError):
        for frame in decoder.feed(broken):
            found.append(frame.body)
    whole, place = 0, 0
    while whole < len(bodies) and place + HEAD_BYTES + len(bodies[whole]) <= at:
        place += HEAD_BYTES + len(bodies[whole])
        whole += 1
    assert found[:whole] == bodies[:whole] and len(found) <= whole + 1


@given(bodies=st.lists(st.binary(max_size=300), max_size=8), size=st.integers(1, 97))
def test_pieces_of_any_size(bodies: list[bytes], size: int) -> None:
    data = sent(bodies)
    decoder = Decoder(SECRET)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    found = [frame.body for piece in pieces for frame in decoder.feed(piece)]
    assert found == bodies
