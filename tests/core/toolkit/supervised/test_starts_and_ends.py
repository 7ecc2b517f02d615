"""What a program finds at its start, and ends that come early."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest

from stockade.executions._output import BoundedOutput
from stockade.results import Stream
from stockade.toolkit.supervised import Link, SocketTransport, StartRequest
from stockade.toolkit.supervised.ends import End

MIB = 1 << 20


def printed(link: Link, *argv: str) -> str:
    output = BoundedOutput(MIB)
    execution = link.start(StartRequest(argv=argv), output)
    execution.wait(lambda: None)
    link.forget(execution)
    return output.data(Stream.STDOUT).decode()


def _within(seconds: float) -> Callable[[], float]:
    """For ``Call.wait``: fail where it takes longer than this."""
    until = time.monotonic() + seconds

    def left() -> float:
        assert time.monotonic() < until, f"it has not ended within {seconds:g} s"
        return until - time.monotonic()

    return left


@pytest.mark.parametrize("field", ["SigBlk", "SigIgn", "SigPnd"])
def test_signals_are_as_a_new_program_expects_them(link: Link, field: str) -> None:
    for _ in range(3):  # by a keeper of its own, and by those that waited
        line = printed(link, "grep", f"^{field}:", "/proc/self/status")
        # 32 and 33 are the C library's; a host may have had them blocked.
        assert int(line.split()[1], 16) & ~(0b11 << 31) == 0, line


def test_a_program_has_its_own_descriptors_alone(link: Link) -> None:
    for _ in range(3):
        assert printed(link, "ls", "/proc/self/fd").split() == ["0", "1", "2", "3"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who gives programs another user")
def test_E2_a_program_of_another_user_may_open_its_own_streams(link: Link) -> None:
    link.user = 65534, 65534
    line = "cat /dev/stdin >/dev/stdout; echo more >>/dev/stdout"
    output = BoundedOutput(MIB)
    execution = link.start(StartRequest(argv=["sh", "-c", line]), output, b"given\n")
    execution.wait(lambda: None)
    link.forget(execution)
    assert output.data(Stream.STDOUT) == b"given\nmore\n", output.data(Stream.STDERR)


def test_a_program_is_a_session_and_a_group_of_its_own(link: Link) -> None:
    line = "read -r pid name state parent group session rest </proc/self/stat; echo $group $session"
    group, session = printed(link, "sh", "-c", line).split()
    assert group == session != str(os.getsid(0))


def test_a_kill_that_comes_at_once(link: Link) -> None:
    for _ in range(20):
        output = BoundedOutput(MIB)
        execution = link.start(StartRequest(argv=["sleep", "60"]), output)
        execution.kill()
        end = execution.wait(lambda: None)
        assert isinstance(end, End)
        assert os.waitstatus_to_exitcode(end.status) == -signal.SIGKILL
        link.forget(execution)
    assert printed(link, "echo", "on") == "on\n"


def test_D6_an_end_leaves_nobody_stopped_who_is_just_being_started(first: Link) -> None:
    """As process 1 it stops all for an instant to end a tree; a fork may be under way then."""
    for _ in range(300):
        held = first.start(StartRequest(argv=["sleep", "60"]), BoundedOutput(MIB))
        started = threading.Thread(target=held.kill)
        started.start()
        execution = first.start(StartRequest(argv=["true"]), BoundedOutput(MIB))
        ended = execution.wait(_within(20))
        assert isinstance(ended, End) and ended.status == 0
        started.join()
        held.wait(lambda: None)
        first.forget(held)
        first.forget(execution)


def test_what_is_left_behind_speaks_to_nobody(link: Link) -> None:
    """D16: late output of a program that outlived its execution reaches no later one."""
    assert (
        printed(link, "sh", "-c", "(sleep 0.3; echo late; echo late >&2) & echo mine") == "mine\n"
    )
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        assert printed(link, "echo", "other") == "other\n"


def test_closing_a_transport_wakes_its_reader() -> None:
    ours, theirs = socket.socketpair()
    transport = SocketTransport(ours)
    seen: list[bytes] = []

    def read() -> None:
        try:
            seen.append(transport.receive())
        except OSError:
            seen.append(b"")

    reader = threading.Thread(target=read)
    reader.start()
    transport.close()
    reader.join(5)
    assert not reader.is_alive() and seen == [b""]
    theirs.close()
