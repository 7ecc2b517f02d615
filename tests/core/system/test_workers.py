"""Core's threads and clock."""

from __future__ import annotations

import threading
import time

import pytest

from stockade.system.threads import Clock, Narrow, Workers, all_at_once, bounded


def test_threads_are_reused() -> None:
    workers = Workers()
    names = set()
    for _ in range(20):
        names.add(workers.submit(lambda: threading.current_thread().name).result(5))
        time.sleep(0.005)
    assert len(names) <= 3


def test_many_at_once_do_not_wait_for_one_another() -> None:
    workers = Workers()
    barrier = threading.Barrier(20, timeout=10)
    assert all(f.result(10) >= 0 for f in [workers.submit(barrier.wait) for _ in range(20)])


def test_what_work_raises_reaches_the_future() -> None:
    with pytest.raises(ZeroDivisionError):
        Workers().submit(lambda: 1 // 0).result(5)


def test_a_worker_survives_work_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers()
    workers.run(lambda: 1 // 0)  # type: ignore[arg-type]
    assert workers.submit(lambda: 7).result(5) == 7


def test_the_clock_calls_in_order_and_not_what_was_cancelled() -> None:
    clock, called, done = Clock(), list[str](), threading.Event()
    clock.after(0.1, lambda: called.append("b"))
    clock.after(0.05, lambda: called.append("a"))
    clock.after(0.07, lambda: called.append("never")).cancel()
    clock.after(0.15, done.set)
    assert done.wait(5) and called == ["a", "b"]


def test_the_clock_survives_a_call_that_raises() -> None:
    clock, done = Clock(), threading.Event()
    clock.after(0, lambda: 1 // 0)  # type: ignore[arg-type]
    clock.after(0.01, done.set)
    assert done.wait(5)


def test_cancelled_timers_do_not_pile_up() -> None:
    clock = Clock()
    for _ in range(5000):
        clock.after(1000, lambda: None).cancel()
    assert len(clock._heap) < 2000


def test_bounded_gives_up_and_hands_over_what_comes_late() -> None:
    go, late = threading.Event(), list[int]()
    with pytest.raises(TimeoutError):
        bounded(Workers(), lambda: (go.wait(10) and 7) or 0, 0.05, late=late.append)
    go.set()
    deadline = time.monotonic() + 5
    while not late and time.monotonic() < deadline:
        time.sleep(0.01)
    assert late == [7]


def test_bounded_passes_on_a_timeout_of_the_work_itself() -> None:
    def work() -> None:
        raise TimeoutError("the engine's own")

    with pytest.raises(TimeoutError, match="the engine's own"):
        bounded(Workers(), work, 5)


def test_a_clock_with_nothing_to_do_ends_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.system.threads._IDLE_SECONDS", 0.1)
    clock, called = Clock(), threading.Event()
    for _ in range(2):
        called.clear()
        clock.after(60, called.set).cancel()
        clock.after(0.01, called.set)
        assert called.wait(10)
        thread = clock._thread
        assert thread is not None
        thread.join(10)
        assert not thread.is_alive()


def test_so_many_at_a_time_and_the_rest_in_its_order() -> None:
    narrow, lock = Narrow(Workers(), 3), threading.Lock()
    now, most = [0], [0]

    def work(number: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.005)
        with lock:
            now[0] -= 1
        if number == 7:
            raise ZeroDivisionError
        return number

    futures = [narrow.submit(lambda n=n: work(n)) for n in range(30)]  # type: ignore[misc]
    with pytest.raises(ZeroDivisionError):
        futures[7].result(10)
    assert [f.result(10) for n, f in enumerate(futures) if n != 7] == [*range(7), *range(8, 30)]
    assert most[0] <= 3
    one, order = Narrow(Workers(), 1), list[int]()
    for future in [one.submit(lambda n=n: order.append(n)) for n in range(50)]:  # type: ignore[misc]
        future.result(10)
    assert order == list(range(50))


def test_all_at_once_is_bounded() -> None:
    done: list[int] = []
    began = time.monotonic()

    def work() -> None:
        time.sleep(0.3)
        done.append(1)

    all_at_once(Workers(), [work] * 100, 0.5, width=2)
    assert time.monotonic() - began < 5
    time.sleep(0.5)
    assert 2 <= len(done) <= 6  # what had not begun is not begun any more
    all_at_once(Workers(), [], 1, width=2)
