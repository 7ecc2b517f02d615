"""A supervisor that lies: whatever comes from it, a lane ends in bounded time and memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from stockade.output import BoundedOutput
from stockade.resident.channel import Channel
from stockade.resident.lane import Ended, Lane, LaneLostError, _Scanner
from stockade.resident.script import prepare
from stockade.results import Stream
from stockade.wall import ExecRequest, Form

Piece = tuple[Stream, bytes]


class Hostile(Channel):
    """Answers every order with the pieces that ``script`` makes of its token, then ends."""

    def __init__(self, script: Callable[[bytes], Iterator[Piece]]) -> None:
        self._script = script
        self._pieces: Iterator[Piece] = iter(())
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        words = data.split(b" ")
        if len(words) > 1 and words[1].startswith(b"\x1d"):
            self._pieces = self._script(words[1][:33])

    def receive(self, seconds: float | None = None) -> list[Piece]:
        if seconds is not None and seconds < 0:
            raise AssertionError("a time limit below zero")
        piece = next(self._pieces, None)
        return [] if piece is None else [piece]

    def close(self) -> None:
        return None


STREAMS = st.sampled_from(list(Stream))
#: What a liar would say: tokens, halves of them, numbers, anything.
WORDS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"TOKEN", b"TOKEN\n", b"\x1d", b"TOK", b"\n", b" ", b"0 0 0 0 9\n", b"-1",
                     b"1" * 5000, b"9 9 /usr/bin/python3 Linux\n", b"NaN", b"\xff\xfe 1 N 2 3\n"]),
)  # fmt: skip
SCRIPTS = st.lists(st.tuples(STREAMS, st.lists(WORDS, max_size=4).map(b"".join)), max_size=12)


def playing(script: list[Piece]) -> Callable[[bytes], Iterator[Piece]]:
    def play(token: bytes) -> Iterator[Piece]:
        for stream, data in script:
            data = data.replace(b"TOKEN", token).replace(b"TOK", token[:-4])
            if data:
                yield stream, data

    return play


@examples(150)
@given(SCRIPTS)
def test_small_orders_are_answered_or_the_lane_is_lost(script: list[Piece]) -> None:
    for order in (lambda lane: lane.greet(5), Lane.count, Lane.clean):
        try:
            order(Lane(1, Hostile(playing(script))))
        except LaneLostError:
            pass


@examples(150)
@given(SCRIPTS, st.integers(1, 64))
def test_a_program_ends_or_the_lane_is_lost(script: list[Piece], limit: int) -> None:
    channel = Hostile(playing(script))
    lane, output = Lane(1, channel), BoundedOutput(limit)
    lane.begin(prepare(ExecRequest(execution_id="e", form=Form.ARGV, argv=("x",)), warm=False))
    try:
        ended = lane.finish(output, lambda: True)
    except LaneLostError:
        return
    assert isinstance(ended, Ended) and 0 <= ended.status <= 255
    assert len(output.data(Stream.STDOUT)) <= limit


@examples(150)
@given(
    st.lists(st.tuples(STREAMS, st.binary(max_size=60)), max_size=8),
    st.lists(st.integers(1, 40), max_size=40),
)
def test_an_honest_supervisors_bytes_arrive_whole(pieces: list[Piece], cuts: list[int]) -> None:
    """However the streams are cut, and even where they hold what begins a token."""
    whole = {s: b"".join(data for stream, data in pieces if stream is s) for s in Stream}

    def play(token: bytes) -> Iterator[Piece]:
        for stream in Stream:
            whole[stream] = whole[stream].replace(b"\x01", token[:-1])
            left = whole[stream] + token
            if stream is Stream.STDOUT:
                left += b"3 0 0 0 9\n"
            for cut in cuts:
                if left:
                    yield stream, left[:cut]
                    left = left[cut:]
            if left:
                yield stream, left

    lane, output = Lane(1, Hostile(play)), BoundedOutput(1 << 20)
    lane.begin(prepare(ExecRequest(execution_id="e", form=Form.ARGV, argv=("x",)), warm=False))
    assert lane.finish(output, lambda: True) == Ended(3, False, False, 0, 0, 9)
    assert {stream: output.data(stream) for stream in Stream} == whole


@given(st.binary(min_size=1, max_size=30), st.lists(st.binary(max_size=30), max_size=10))
def test_a_scanner_loses_nothing(token: bytes, pieces: list[bytes]) -> None:
    scanner = _Scanner(token)
    passed = b"".join(scanner.feed(piece) for piece in pieces)
    whole = b"".join(pieces)
    if token in whole:
        assert passed == whole[: whole.find(token)]
        assert scanner.rest == whole[len(passed) + len(token) :]
    else:
        assert whole.startswith(passed) and len(whole) - len(passed) < len(token)


def flood(stream: Stream, token: bytes, first: bytes) -> Iterator[Piece]:
    """Never ends; the token only once."""
    yield stream, first.replace(b"TOKEN", token)
    block = bytes(64 * 1024)
    while True:
        yield stream, block


@pytest.mark.parametrize("stream", list(Stream))
@pytest.mark.parametrize("first", [b"x", b"TOKEN", b"TOKEN1 2 - k\n"])
def test_an_endless_answer_has_an_end(stream: Stream, first: bytes) -> None:
    channel = Hostile(lambda token: flood(stream, token, first))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with pytest.raises(LaneLostError):
        Lane(1, channel).greet(0.5)
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def test_what_a_background_program_prints_after_the_end_breaks_nothing() -> None:
    def play(token: bytes) -> Iterator[Piece]:
        yield Stream.STDOUT, token + b"0 0 0 0 9\n" + bytes(100_000)
        yield Stream.STDERR, bytes(100_000) + token + bytes(100_000)

    lane, output = Lane(1, Hostile(play)), BoundedOutput(1024)
    lane.begin(prepare(ExecRequest(execution_id="e", form=Form.ARGV, argv=("x",)), warm=False))
    assert lane.finish(output, lambda: True).status == 0
    assert output.total(Stream.STDERR) == 100_000
