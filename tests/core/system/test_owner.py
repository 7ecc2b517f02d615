"""Which owners are alive, which are dead, and of which neither is known (C9)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from stockade.system.moments import moment, read_moment
from stockade.system.owner import Life, Owner, life_of

if not os.path.exists("/proc/self/stat"):
    pytest.skip("owners are distinguished by /proc", allow_module_level=True)


def _of_child(child: subprocess.Popen[bytes]) -> Owner:
    started = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
    return attrs.evolve(Owner.current(), pid=child.pid, started=started)


def test_this_process_lives_and_round_trips() -> None:
    me = Owner.current()
    assert me.alive() is Life.ALIVE
    assert Owner.parse(str(me)) == me
    assert len(str(me)) < 200 and str(me).isprintable() and " " not in str(me)


def test_a_process_that_ended_is_dead_as_a_zombie_too() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    owner = _of_child(child)
    assert owner.alive() is Life.ALIVE
    child.send_signal(signal.SIGKILL)
    for _ in range(500):
        if owner.alive() is Life.DEAD:  # not reaped yet: a zombie
            break
        time.sleep(0.01)
    assert owner.alive() is Life.DEAD
    child.wait()
    assert owner.alive() is Life.DEAD


def test_an_id_that_was_taken_again_is_another_process() -> None:
    assert attrs.evolve(Owner.current(), started=Owner.current().started - 1).alive() is Life.DEAD


def test_another_users_process_is_distinguished() -> None:
    """The first process of the system is root's: seen from anybody it is there."""
    first = attrs.evolve(Owner.current(), pid=1, started=12345678901)
    assert first.alive() in (Life.DEAD, Life.UNKNOWN)  # its start is another; /proc may hide it


def test_a_start_that_was_never_recorded_is_unknown() -> None:
    assert attrs.evolve(Owner.current(), started=0).alive() is Life.UNKNOWN


def test_another_boot_of_this_machine_is_over() -> None:
    first = attrs.evolve(Owner.current(), boot="11111111-2222", space="4026531836.4026531834")
    assert first.host and first.alive() is Life.DEAD


@pytest.mark.parametrize(
    "change",
    [
        {"boot": "11111111-2222", "host": "ffff0000ffff0000"},  # another machine
        {"boot": "11111111-2222", "host": ""},  # one without an id
        {"boot": "11111111-2222", "space": "4026532999.1"},  # a container, whose id proves nothing
        {"space": "4026532999.4026531834"},  # another container of this machine
        {"space": ""},
        {"boot": ""},
    ],
)
def test_what_cannot_be_seen_from_here_is_unknown(change: dict[str, str]) -> None:
    dead = attrs.evolve(Owner.current(), pid=2**22 + 7, started=1)
    assert attrs.evolve(dead, **change).alive() is Life.UNKNOWN  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:1:2",
        "2:a:b:c:1:2",
        "1:a:b:c:x:2",
        "1:a:b c:d:1:2",
        "1:a:b:c:-1:2",
        "1:" * 400,
        f"1:a:b:c:{'9' * 480}:2",
    ],
)
def test_what_names_no_owner_is_unknown(text: str) -> None:
    assert life_of(text) is Life.UNKNOWN


def test_a_number_that_no_process_can_have_is_dead_or_unknown_but_never_raises() -> None:
    assert attrs.evolve(Owner.current(), pid=10**30).alive() is not Life.ALIVE


def test_a_forked_child_is_another_owner() -> None:
    before = Owner.current()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(Owner.current()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    child = Owner.parse(os.read(read, 1000).decode())
    os.close(read)
    os.close(write)
    assert child is not None and child.pid == pid and child != before
    assert child.alive() is Life.DEAD


def test_a_moment_survives_the_setting_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    text = moment(real() + 100)
    monkeypatch.setattr(time, "time", lambda: real() + 86_400)  # somebody sets it a day ahead
    later = read_moment(text)
    assert later is not None and 95 < later - time.time() < 101
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    earlier = read_moment(text)
    assert earlier is not None and 95 < earlier - time.time() < 101


def test_a_moment_of_another_boot_is_read_by_the_clock() -> None:
    assert read_moment("1000.0 55.0 another-boot") == 1000.0
    assert read_moment("1000") == 1000.0
    for nonsense in ("", "soon", "nan", "1 2 3 4x" * 9, "inf"):
        assert read_moment(nonsense) is None or nonsense.startswith("1 2")
