"""Frames that no host of ours sends: the supervisor ends or answers, and touches nothing else.

The other direction, what a program could have written into the supervisor's output, is
tests/fuzz/test_frames.py.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stockade.toolkit.supervised.frames import BODY_BYTES, Encoder, Kind

HELLO = struct.pack("<IQI", 1, 7, 0)
HEAD = struct.Struct("<IBBHIIQ")
HOST_KINDS = [kind for kind in Kind if kind < Kind.HELLO_BACK]
#: A program that ends at once, whatever is asked of it.
ORDER = struct.pack("<7I", 0, 0, 0, 24, 80, 1, 0) + b"\0/\0true\0"

kinds = st.sampled_from([kind for kind in HOST_KINDS if kind not in (Kind.HELLO, Kind.QUIT)])
bodies = st.one_of(
    st.binary(max_size=200),
    st.just(ORDER),
    st.builds(lambda cut, more: ORDER[:cut] + more, st.integers(0, 36), st.binary(max_size=40)),
    st.builds(struct.pack, st.just("<I"), st.integers(0, 2**32 - 1)),
    st.builds(struct.pack, st.just("<Q"), st.integers(2**20, 2**63)),
)
frames = st.lists(st.tuples(kinds, st.integers(0, 4), bodies, st.integers(0, 2)), max_size=30)


def spoken_to(program: str, data: bytes) -> tuple[int, bytes]:
    """Its exit code and standard error after these bytes and the end of its input."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [program, "serve"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "ASAN_OPTIONS": "detect_leaks=0"},
        )
        theirs.close()
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        while ours.recv(1 << 16):
            pass
        _, error = process.communicate(timeout=20)
    return process.returncode, error


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(said=frames)
def test_whole_frames_of_any_kind(sanitized: str, said: list[tuple[Kind, int, bytes, int]]) -> None:
    encoder = Encoder()
    data = encoder.frame(Kind.HELLO, 0, HELLO)
    for kind, number, body, arg in said:
        data += encoder.frame(kind, number, body, arg)
    code, error = spoken_to(sanitized, data)
    assert code == 0 and b"runtime error" not in error and b"Sanitizer" not in error, error


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=400), greeted=st.booleans())
def test_any_bytes(sanitized: str, data: bytes, greeted: bool) -> None:
    hello = Encoder().frame(Kind.HELLO, 0, HELLO) if greeted else b""
    code, error = spoken_to(sanitized, hello + data)
    assert code == 0 and b"runtime error" not in error and b"Sanitizer" not in error, error


@pytest.mark.parametrize("length", [BODY_BYTES + 1, 2**31, 2**32 - 1])
def test_a_length_that_is_too_long_allocates_nothing(sanitized: str, length: int) -> None:
    hello = Encoder().frame(Kind.HELLO, 0, HELLO)
    head = HEAD.pack(length, Kind.START, 0, 0, 1, 1, 0)
    assert spoken_to(sanitized, hello + head + b"x" * 100)[0] == 0


@pytest.mark.parametrize("count", [65537, 2**31, 2**32 - 1])
def test_a_number_of_words_that_were_not_sent(sanitized: str, count: int) -> None:
    encoder = Encoder()
    start = struct.pack("<7I", 0, 0, 0, 24, 80, count, count) + b"\0/\0true\0"
    data = encoder.frame(Kind.HELLO, 0, HELLO) + encoder.frame(Kind.START, 1, start)
    code, error = spoken_to(sanitized, data)
    assert code == 0 and b"Sanitizer" not in error, error


def test_it_serves_as_the_shipped_one_does(sanitized: str) -> None:
    """What is asked of the shipped program elsewhere, of this one."""
    encoder = Encoder()
    data = encoder.frame(Kind.HELLO, 0, HELLO)
    for number in range(1, 40):
        flags = (0, 1, 2, 4)[number % 4]
        start = struct.pack("<7I", flags, 0, 0, 24, 80, 3, 1) + b"\0/\0sh\0-c\0echo $A\0A=b\0"
        data += encoder.frame(Kind.BLOB, number, b"x" * 1000)
        data += encoder.frame(Kind.START, number, start)
        data += encoder.frame(Kind.INPUT, number, b"in") + encoder.frame(Kind.KILL, number)
    code, error = spoken_to(sanitized, data)
    assert code == 0 and not error, error
