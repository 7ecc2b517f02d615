"""A supervisor's streams over the service's calls, against a service that is played."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from plugins.e2b.conftest import need_parts
from stockade.toolkit.supervised import LinkLost

need_parts()
ProcessTransport: Any = pytest.importorskip("stockade_e2b.streams").ProcessTransport

Until = Callable[[Callable[[], object], float], bool]


@attrs.frozen
class Word:
    """One of the protocol's messages: a field of several, and its value."""

    field: str
    value: Any = None


def data(stream: str, content: bytes) -> Any:
    return _event(Word("data", attrs.make_class("Data", ["output"])(Word(stream, content))))


def ended(code: int) -> Any:
    return _event(Word("end", attrs.make_class("End", ["exit_code"])(code)))


def _event(word: Word | None) -> Any:
    inner = attrs.make_class("Event", ["event"])
    return inner(inner(word))


class Played:
    """A service: what it says comes from a queue, what it is sent is kept."""

    def __init__(self) -> None:
        self.said: queue.Queue[Any] = queue.Queue()
        self.sent: list[bytes] = []
        self.closed = 0
        self.joined = 0
        self.go = threading.Event()
        self.go.set()
        self.fails: Exception | None = None

    @property
    def commands(self) -> Played:
        return self

    def send_stdin(self, pid: int, content: bytes, request_timeout: float) -> None:
        assert pid == 7 and self.go.wait(10)
        if self.fails is not None:
            raise self.fails
        self.sent.append(content)

    def close_stdin(self, pid: int, request_timeout: float) -> None:
        self.closed += 1

    def connect(self, request: Any, headers: Any) -> Iterator[Any]:
        self.joined += 1
        return self.events()

    def events(self) -> Iterator[Any]:
        while True:
            word = self.said.get()
            if isinstance(word, Exception):
                raise word
            yield word


@pytest.fixture
def played() -> Played:
    return Played()


@pytest.fixture
def transport(played: Played) -> Iterator[Any]:
    made = ProcessTransport(played, played, played.events(), 7)
    yield made
    played.go.set()
    made.close()


def test_bytes_stay_bytes_and_the_standard_error_apart(played: Played, transport: Any) -> None:
    played.said.put(_event(Word("keepalive")))
    played.said.put(_event(None))
    played.said.put(data("stderr", b"x" * 10_000))
    played.said.put(data("stdout", b"\0\xff\xc3"))
    played.said.put(ended(5))
    assert transport.receive() == b"\0\xff\xc3"
    assert transport.receive() == b"" and transport.exit_code == 5
    assert len(transport.stderr) == 4096


def test_one_call_carries_all_that_waits_in_its_order(
    played: Played, transport: Any, until: Until
) -> None:
    played.go.clear()
    pieces = [bytes([number]) * 100 for number in range(50)]
    for piece in pieces:
        transport.send(piece)
    played.go.set()
    assert until(lambda: b"".join(played.sent) == b"".join(pieces), 5)
    assert len(played.sent) <= 3


def test_what_waits_is_bounded(played: Played, transport: Any, until: Until) -> None:
    played.go.clear()
    sent = 0

    def send() -> None:
        nonlocal sent
        for _ in range(100):
            transport.send(b"x" * 65536)
            sent += 1

    thread = threading.Thread(target=send)
    thread.start()
    assert not until(lambda: sent > 20, 0.5), sent
    played.go.set()
    thread.join(10)
    assert until(lambda: sum(map(len, played.sent)) == 100 * 65536, 5)


def test_input_that_fails_is_reported_at_once(played: Played, transport: Any, until: Until) -> None:
    told: list[LinkLost] = []
    transport.on_failure = told.append
    played.fails = RuntimeError("no way")
    transport.send(b"x")
    assert until(lambda: told, 5) and "no way" in str(told[0])
    with pytest.raises(BrokenPipeError, match="no way"):
        transport.send(b"y")


def test_its_end_ends_the_input_and_wakes_who_waits_to_send(
    played: Played, transport: Any, until: Until
) -> None:
    transport.wind_down(5)
    assert played.closed == 1
    with pytest.raises(BrokenPipeError, match="closed"):
        transport.send(b"x")


def test_an_answer_that_breaks_is_an_error_but_for_a_pause(played: Played, transport: Any) -> None:
    transport.hold()
    played.said.put(RuntimeError("reset by the pause"))
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(transport.receive()))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive() and not played.joined  # a paused sandbox would be woken by it
    transport.go_on()
    played.said.put(data("stdout", b"goes on"))
    thread.join(5)
    assert got == [b"goes on"] and played.joined == 1
    played.said.put(RuntimeError("reset by peer"))
    with pytest.raises(OSError, match="reset by peer"):
        transport.receive()
