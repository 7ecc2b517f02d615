"""Bounded output (D4, D5, D13)."""

from __future__ import annotations

import threading

from stockade.executions._output import BoundedOutput
from stockade.results import Stream

OUT, ERR = Stream.STDOUT, Stream.STDERR


def test_D5_keeps_the_first_bytes_and_counts_all() -> None:
    output = BoundedOutput(10)
    output.write(OUT, b"12345678")
    output.write(OUT, b"90abc")
    output.write(ERR, b"\0\xff")
    assert output.data(OUT) == b"1234567890" and output.total(OUT) == 13 and output.truncated(OUT)
    assert output.data(ERR) == b"\0\xff" and not output.truncated(ERR)


def test_D5_room_and_full_steer_a_wall() -> None:
    output = BoundedOutput(10)
    assert output.room(OUT) == 10 and not output.full(OUT)
    output.write(OUT, bytes(10))
    assert output.room(OUT) == 0 and output.full(OUT) and not output.full(ERR)
    output.drop(OUT, 5)
    assert output.total(OUT) == 15 and output.truncated(OUT)


def test_D5_exactly_the_limit_is_not_truncated() -> None:
    calls: list[int] = []
    output = BoundedOutput(4, on_excess=lambda: calls.append(1))
    output.write(OUT, b"1234")
    assert not output.truncated(OUT) and not calls
    output.drop(OUT, 1)
    output.drop(OUT, 1)
    assert calls == [1]


def test_D13_pieces_come_in_order_and_tagged() -> None:
    output = BoundedOutput(100, live=True)
    output.write(OUT, b"a")
    output.write(ERR, b"b")
    output.end()
    assert [(chunk.stream, chunk.data) for chunk in output] == [(OUT, b"a"), (ERR, b"b")]


def test_D13_a_slow_reader_holds_the_writer_back() -> None:
    output = BoundedOutput(1000, live=True)
    done = threading.Event()

    def write() -> None:
        for _ in range(100):
            output.write(OUT, bytes(100))
        output.end()
        done.set()

    threading.Thread(target=write, daemon=True).start()
    assert not done.wait(0.1) and output.room(OUT) == 0 and not output.full(OUT)
    assert sum(len(chunk.data) for chunk in output) == 10_000
    assert done.wait(5)


def test_release_lets_a_blocked_writer_go() -> None:
    output = BoundedOutput(10, live=True)
    thread = threading.Thread(target=output.write, args=(OUT, bytes(100)), daemon=True)
    thread.start()
    output.release()
    thread.join(5)
    assert not thread.is_alive() and output.total(OUT) == 100


def test_nothing_is_taken_after_the_end() -> None:
    output = BoundedOutput(10)
    output.end()
    output.write(OUT, b"late")
    output.drop(OUT, 3)
    assert output.total(OUT) == 0 and output.full(OUT)
