"""Children that wait for executions: how many, whose turn it is, and what their programs see."""

from __future__ import annotations

import os
import signal
import socket
import time
import warnings
from pathlib import Path

import pytest

from core.toolkit.supervised.double import GONE, Double
from core.toolkit.supervised.programs import PYTHONS
from stockade.toolkit.supervised.inside.children import PAUSE_SECONDS, Children
from stockade.toolkit.supervised.warm import BOOT, FRESH, warm_source

MOST = 6
PYTHON = next(iter(PYTHONS.values()))
LIMIT = "QUICK_SECONDS = 0.003"


def made(quick: float, env: dict[str, str] | None = None) -> Double:
    """One whose forks are quick if they take less than ``quick`` seconds."""
    source = warm_source()
    assert source.count(LIMIT) == 1
    source = source.replace(LIMIT, f"QUICK_SECONDS = {quick}")
    return Double(PYTHON, BOOT, source.encode(), FRESH, env)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def waiting(double: Double, count: int) -> list[int]:
    """Its children, once so many are there."""
    until = time.monotonic() + 20
    while len(found := children(double.pid)) != count and time.monotonic() < until:
        time.sleep(0.02)
    assert len(found) == count
    return found


def test_where_forks_are_quick_one_waits() -> None:
    with made(quick=100) as double:
        for _ in range(3):
            assert double.run("print(1)").out == b"1\n"
        time.sleep(10 * PAUSE_SECONDS)  # in which more would be made
        waiting(double, 1)


def test_where_forks_are_slow_some_are_made_in_a_pause() -> None:
    with made(quick=0) as double:
        ahead = waiting(double, MOST)
        programs = [double.run("print(1)").pid for _ in range(2 * MOST)]
        assert programs[: len(ahead)] == ahead, "they are taken in the order of their forks"
        assert len(set(programs)) == 2 * MOST
        again = waiting(double, MOST)
        assert not set(again) & set(programs)
        double.close()
    for pid in again:
        gone(pid)


def gone(pid: int) -> None:
    until = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < until:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")


def test_a_program_has_no_socket_of_those_that_wait() -> None:
    look = """
import os
names = [f"/proc/self/fd/{number}" for number in range(50)]
print([os.readlink(name) for name in names if os.path.lexists(name)])
"""
    with made(quick=0) as double:
        waiting(double, MOST)
        for _ in range(2 * MOST):
            assert b"socket" not in (ended := double.run(look)).out, ended.out


def test_an_execution_in_many_pieces_is_one_childs() -> None:
    with made(quick=0) as double:
        waiting(double, MOST)
        for length in (1 << 20, 10, 3 << 20):
            program = "import os; print(len(os.environ['X']), os.environ['X'][-1])"
            ended = double.run(program, env={"X": "a" * length + "z"})
            assert ended.out == f"{length + 1} z\n".encode()


@pytest.mark.parametrize("which", range(3))
def test_one_that_waits_may_be_ended(which: int) -> None:
    """What comes before its turn is run; then the interpreter ends, which is replaced."""
    with made(quick=0) as double:
        os.kill(waiting(double, MOST)[which], signal.SIGKILL)
        outcomes = [double.run("print(1)") for _ in range(which)]
        assert all(outcome.out == b"1\n" for outcome in outcomes)
        until = time.monotonic() + 10
        while (said := double.hear())[0] != GONE and time.monotonic() < until:
            pass
        assert said[0] == GONE


def test_one_that_is_ended_before_it_knows_of_its_turn_has_ended() -> None:
    link, its = socket.socketpair()
    with link:
        several = Children(link)
        several.waiting.append((1, link))
        link.send(b"g")
        its.close()
        assert several.hear() == b""


def test_one_that_cannot_be_forked_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", fails)
    link, its = socket.socketpair()
    with link, its, warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always", ResourceWarning)
        several = Children(link)
        assert several.add(once=True) is None
    assert several.full and not several.waiting and left_open == []


def test_what_was_installed_meanwhile_is_found(tmp_path: Path) -> None:
    """The next starts anew, and none that waits is used after it."""
    home = tmp_path / "home"
    home.mkdir()
    with made(quick=0, env={"HOME": str(home)}) as double:
        site = double.run("import site; print(site.getusersitepackages())").out.decode().strip()
        ahead = waiting(double, MOST)
        Path(site).mkdir(parents=True)
        (Path(site) / "stockade_later.py").write_text("print('found')")
        seen = double.run("import stockade_later")
        assert seen.out == b"found\n", seen
        assert double.hear() == (GONE, 0)
        double.close()
    for pid in ahead:
        gone(pid)
