"""Faults, produced for real: each gives its error in bounded time, and nothing is left."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import docker
import pytest

import stockade
from plugins.docker.conftest import BUSYBOX, PYTHON, container_of, ours, until
from stockade.errors import SandboxLostError, SessionStateError
from stockade.results import Stream, Verdict

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("engine")]


def test_a_container_removed_behind_our_back(engine: docker.APIClient) -> None:
    session = stockade.open(f"docker:{BUSYBOX}")
    running = session.start(shell="echo so far; sleep 30")
    assert until(lambda: running._output.total(Stream.STDOUT))
    began = time.monotonic()
    engine.remove_container(container_of(session), force=True)
    with pytest.raises(SandboxLostError) as caught:
        running.result(20)
    assert time.monotonic() - began < 15
    assert caught.value.partial is not None and caught.value.partial.stdout == "so far\n"
    with pytest.raises((SandboxLostError, SessionStateError)):
        session.run(["true"])
    session.close()  # what is gone already counts as ended


def test_a_supervisor_that_is_killed_from_inside() -> None:
    for line in ("kill -9 -1", "kill -9 $PPID", "kill -STOP $PPID; sleep 30"):
        with stockade.open(f"docker:{PYTHON}") as session:
            began = time.monotonic()
            try:
                result = session.shell(line, timeout=2)
                assert result.killed or not result.success
            except SandboxLostError:
                pass
            assert time.monotonic() - began < 15


def test_what_looks_like_a_frame_is_output() -> None:
    """A program prints what ends others' streams, as far as it can know it."""
    with stockade.open(f"docker:{PYTHON}") as session:
        forged = b"\x1d" + b"0" * 32 + b"0 0 0 0 9\n"
        data = (forged + b"\x1d" * 40 + b"\x01\0\0\0\0\0\0\x05hello") * 3
        result = session.run(["cat"], stdin=data)
        assert result.stdout_bytes == data
        line = "cat /proc/$PPID/fd/3 & sleep 0.5; echo junk > /proc/$PPID/fd/4 2>/dev/null; exit 4"
        session.shell(line, timeout=5)  # its own session may go wrong; nothing hangs
    with stockade.open(f"docker:{PYTHON}") as session:
        assert session.run(["echo", "fine"]).stdout == "fine\n"


def test_programs_that_close_their_streams_or_stop() -> None:
    with stockade.open(f"docker:{PYTHON}") as session:
        closed = session.shell("exec <&- >&- 2>&-; sleep 0.3; exit 5")
        assert closed.exit_code == 5 and closed.verdict is Verdict.EXITED
        stopped = session.shell("kill -STOP $$", timeout=1)
        assert stopped.verdict is Verdict.TIMED_OUT, stopped
        assert session.shell("kill 0; sleep 5", timeout=8).killed  # its group is not ours
        assert session.run(["echo", "fine"]).stdout == "fine\n"


def test_daemons_that_hide_are_ended() -> None:
    """Cleared environments, double forks, sessions of their own, a lowered limit."""
    hide = (
        "env -i setsid sleep 61 & (setsid sh -c 'env -i sleep 62 & sleep 63' &) ; "
        "(ulimit -d 1000000; setsid sleep 64 &) ; exec sleep 65"
    )
    with stockade.open(f"docker:{PYTHON}") as session:
        keep = session.start(shell="setsid sleep 71 & sleep 72")
        assert session.shell(hide, timeout=1).verdict is Verdict.TIMED_OUT
        look = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
        assert until(lambda: "sleep 6" not in session.shell(look).stdout, 3)
        seen = session.shell(look).stdout
        assert "sleep 71" in seen and "sleep 72" in seen  # nobody else's
        keep.cancel()


def test_a_full_disk_is_an_error_and_no_more() -> None:
    with stockade.open(f"docker:{BUSYBOX}?disk_mb=4") as session:
        with pytest.raises(OSError, match="No space"):
            session.files.write("/workspace/big", bytes(8 << 20))
        session.files.remove("/workspace/big")
        session.files.write("/workspace/small", b"x")
        assert session.files.read("/workspace/small") == b"x"


def test_input_that_nobody_reads_and_a_deadline() -> None:
    with stockade.open(f"docker:{PYTHON}") as session:
        session.run(["true"])
        began = time.monotonic()
        result = session.run(["sleep", "30"], stdin=bytes(20 << 20), timeout=1)
        assert result.verdict is Verdict.TIMED_OUT
        assert time.monotonic() - began < 10
        assert session.run(["echo", "fine"]).stdout == "fine\n"


def test_a_reader_that_stops_holds_nobody_else_up() -> None:
    with stockade.open(f"docker:{PYTHON}") as session:
        with session.stream(["yes"], output_limit_bytes=65536) as slow:
            assert slow.take() is not None
            began = time.monotonic()
            assert session.run(["echo", "fine"]).stdout == "fine\n"
            assert time.monotonic() - began < 15  # it stops for as long as nobody reads


def test_an_owner_that_is_killed_leaves_nothing_running(engine: docker.APIClient) -> None:
    code = (
        "import stockade, sys, time\n"
        f"s = stockade.open('docker:{BUSYBOX}')\n"
        "e = s.start(['sleep', '300'])\n"
        "print('up', flush=True); time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"up\n"
    (made,) = ours(engine, owner.pid)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()

    # Its supervisor's input has ended: it ends what ran, and itself.
    def ended() -> bool:
        return not engine.inspect_container(made)["State"]["Running"]

    assert until(ended, 10)
    engine.remove_container(made)


@pytest.mark.slow
def test_two_hundred_sessions_in_a_row(engine: docker.APIClient) -> None:
    count = int(os.environ.get("STOCKADE_SESSIONS", "40"))
    before = ours(engine)
    threads = descriptors = memory = 0
    for number in range(count):
        with stockade.open(f"docker:{BUSYBOX}") as session:
            assert session.run(["echo", "hi"]).stdout == "hi\n"
        if number == count // 3:
            gc.collect()
            threads, descriptors, memory = _mine()
    assert until(lambda: ours(engine) == before)
    gc.collect()
    now = _mine()
    assert until(lambda: _mine()[0] <= threads + 2), threading.enumerate()
    assert until(lambda: _mine()[1] <= descriptors + 4)
    print(
        f"{count} sessions: threads {threads} to {now[0]}, files {descriptors} to {now[1]}, "
        f"memory {memory} to {now[2]} KiB"
    )
    assert now[2] - memory < 16 * 1024, f"{now[2] - memory} KiB more"


@pytest.mark.slow
def test_ten_at_once(engine: docker.APIClient) -> None:
    seconds = float(os.environ.get("STOCKADE_SOAK", "8"))
    before = ours(engine)
    until_then = time.monotonic() + seconds
    errors: list[BaseException] = []
    done = []

    def work() -> None:
        try:
            while time.monotonic() < until_then:
                with stockade.open(f"docker:{PYTHON}") as session:
                    for word in ("a", "b"):
                        assert session.run(["echo", word]).stdout == f"{word}\n"
                    assert session.code("print(6*7)").stdout == "42\n"
                done.append(1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    time.sleep(min(10.0, seconds / 3))
    _, _, memory = _mine()
    for thread in threads:
        thread.join(seconds + 60)
    grown = _mine()[2] - memory
    print(f"{len(done)} sessions by ten threads in {seconds:g} s, {memory} KiB and {grown} more")
    assert grown < 32 * 1024, f"{grown} KiB more"
    assert not errors and len(done) >= 10, errors
    assert until(lambda: ours(engine) == before)


def _mine() -> tuple[int, int, int]:
    """Threads, descriptors and the peak of memory (KiB) of this process."""
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return threading.active_count(), descriptors, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
