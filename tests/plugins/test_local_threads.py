"""Threads that name themselves to the kernel, as ZeroMQ's do, work behind the local walls."""

from __future__ import annotations

import pytest

import stockade
from conftest import need

#: What pthread_setschedparam calls: the thread is named by its number, not by 0.
_THREADS = """
import os, threading

def set_it(policy):
    try:
        os.sched_setscheduler(threading.get_native_id(), policy, os.sched_param(0))
        print("set")
    except PermissionError:
        print("refused")

for policy in (os.SCHED_OTHER, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.SCHED_BATCH):
    thread = threading.Thread(target=set_it, args=(policy,))
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize("wall", ["landlock", "bubblewrap"])
def test_D16_a_thread_is_given_the_usual_policy_and_no_other(wall: str) -> None:
    need(wall)
    with stockade.open(wall) as session:
        result = session.run(["python3", "-c", _THREADS])
    assert result.stdout.split() == ["set", "refused", "refused"], result
