"""Malformed input to a warm interpreter, and a named one that lies: bounded, and not believed."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from stockade.toolkit.supervised.inside import named, warm


class Left(Exception):
    """In place of a process's end."""


@pytest.fixture(autouse=True)
def no_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def leave(status: int) -> None:
        raise Left(status)

    with monkeypatch.context() as patch:
        patch.setattr(os, "_exit", leave)
        yield


TEXTS = st.lists(st.binary(max_size=30).filter(lambda text: b"\0" not in text), max_size=5)


@contextlib.contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(20)
        yield ours, theirs


def send(ours: socket.socket, pieces: list[bytes], descriptors: int) -> None:
    """The first piece with its descriptors, then the rest and the end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    packed = struct.pack(f"{descriptors}i", *[nothing] * descriptors)
    extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)] if descriptors else []
    with contextlib.suppress(BrokenPipeError):
        ours.sendmsg([pieces[0]], extra)
        for piece in pieces[1:]:
            ours.sendall(piece)
    ours.shutdown(socket.SHUT_WR)
    os.close(nothing)


def nothings() -> set[int]:
    """The descriptors of what is sent: others belong to threads of other tests, maybe."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{name}") == os.devnull:
                found.add(int(name))
    return found


def taken(pieces: list[bytes], descriptors: int) -> warm.Execution | int:
    """What the reader makes of it: an execution, or the status with which it leaves."""
    with sockets() as (ours, theirs):
        sender = threading.Thread(target=send, args=(ours, pieces, descriptors))
        before = nothings()
        sender.start()
        try:
            execution = warm.take(theirs)
        except Left as left:
            return int(left.args[0])
        finally:
            theirs.close()
            sender.join()
            for number in nothings() - before:
                os.close(number)
        return execution


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({place % (len(data) + 1) for place in places} - {0, len(data)})
    ends = zip([0, *at], [*at, len(data)], strict=True)
    return [data[start:end] for start, end in ends]


@examples(150)
@given(TEXTS, TEXTS, st.binary(max_size=20), st.lists(st.integers(0, 999), max_size=6))
def test_a_job_is_read_as_it_was_sent(
    arguments: list[bytes], variables: list[bytes], folder: bytes, places: list[int]
) -> None:
    texts = [folder.replace(b"\0", b"/"), *arguments, *variables]
    body = b"".join(text + b"\0" for text in texts)
    data = struct.pack("<III", len(body), len(arguments), len(variables)) + body
    execution = taken(cut(data, places), 4)
    assert isinstance(execution, warm.Execution)
    assert execution.folder == texts[0]
    assert [os.fsencode(argument) for argument in execution.arguments] == arguments
    assert execution.variables == variables
    assert execution.message == data and len(execution.descriptors) == 4


NUMBERS = st.one_of(st.integers(0, 9), st.sampled_from([0xFFFFFFFF, 0x7FFFFFFF, 64 << 20, 1 << 16]))


@examples(200)
@given(
    st.tuples(st.none() | st.none() | st.none() | NUMBERS, NUMBERS, NUMBERS),
    st.binary(max_size=60) | st.text("a\0/", max_size=9).map(str.encode),
    st.lists(st.integers(0, 99), max_size=4),
    st.sampled_from([4, 4, 4, 4, 0, 3, 5]),
)
def test_anything_else_ends_it(
    numbers: tuple[int | None, int, int], rest: bytes, places: list[int], descriptors: int
) -> None:
    length = len(rest) if numbers[0] is None else numbers[0]
    data = struct.pack("<III", length, *numbers[1:]) + rest
    parts = rest.split(b"\0")
    whole = length == len(rest) and len(parts) == numbers[1] + numbers[2] + 2 and not parts[-1]
    seen = taken(cut(data, places), descriptors)
    if whole and descriptors == 4:
        assert isinstance(seen, warm.Execution)
    else:
        # Bytes that come too late for the execution are the next one's, which it is not.
        late = isinstance(seen, warm.Execution) and len(seen.message) < len(data)
        assert seen in (0, 2) or late, seen


WORDS = st.one_of(
    st.tuples(st.integers(0, 5), st.integers(0, 0xFFFFFFFF)),
    st.tuples(
        st.sampled_from([warm.TAKEN, warm.ENDED, warm.NOWHERE]),
        st.sampled_from([0, 256, 2, 13]),
    ),
)


@examples(150)
@given(st.lists(WORDS, max_size=6), st.binary(max_size=7), st.integers(0, 0xFFFF))
def test_what_an_interpreter_says_is_passed_on_as_far_as_it_can_be_so(
    words: list[tuple[int, int]], rest: bytes, status: int
) -> None:
    """The supervisor hears TAKEN with the true number and then one ENDED, or NOWHERE alone."""
    ended: list[int] = []
    with (
        sockets() as (ours, theirs),
        sockets() as (host, supervisor),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(os, "waitpid", lambda pid, options: (pid, status))
        patch.setattr(os, "kill", lambda pid, number: ended.append(number))
        ours.sendall(b"".join(struct.pack("<II", *word) for word in words) + rest)
        ours.shutdown(socket.SHUT_WR)
        with contextlib.suppress(Left):
            named.relay(host, theirs, 4242)
        host.close()
        said = b""
        while part := supervisor.recv(999):
            said += part
    heard = [struct.unpack_from("<II", said, at) for at in range(0, len(said), 8)]
    kinds = [kind for kind, _ in heard]
    assert kinds in ([], [warm.NOWHERE], [warm.TAKEN, warm.ENDED]), heard
    assert all(value == 4242 for kind, value in heard if kind == warm.TAKEN)
    assert set(ended) <= {9}
