"""A process that has imported what a keeper needs, and forks a keeper for each session.

An interpreter takes several times as long to start as a sandbox. What is forked is the owner's
child, as if the owner had started it, so nothing of it hangs on this process, which ends with
its owner. It has one thread, and does nothing but wait and fork.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from stockade.toolkit.local import calls, kernel, messages
from stockade.toolkit.local.marks import SERVES

__all__ = ["serve_forks"]

_CLONE_PARENT = 0x8000


def serve_forks(descriptor: int, be: Callable[[socket.socket], None]) -> NoReturn:
    """Serve the requests that come over the socket ``descriptor`` until the owner closes it or
    ends. ``be`` is called in each fork, with a control socket of the fork's own; when it returns
    the fork ends."""
    requests = socket.socket(fileno=descriptor)
    requests.set_inheritable(False)
    calls.hide_command_line(b"stockade-forkserver")
    parent = os.getppid()
    if os.environ.get(SERVES) != str(parent):
        os._exit(0)  # the owner has ended
    owner = os.pidfd_open(parent)
    poll = select.poll()
    for waited in (requests.fileno(), owner):
        poll.register(waited, select.POLLIN)
    gc.collect()
    gc.freeze()  # forks leave alone, and share, what no collection looks at
    while True:
        # A fork of the owner may hold the socket open, so the owner itself is looked at too.
        received = None
        if owner not in [ready for ready, _ in poll.poll()]:
            received = messages.receive(requests)
        if received is None:
            os._exit(0)
        message, passed = received
        _serve_one(requests, owner, message, passed, be)


def _serve_one(
    requests: socket.socket,
    owner: int,
    message: dict[str, Any],
    passed: list[int],
    be: Callable[[socket.socket], None],
) -> None:
    def fork() -> dict[str, Any]:
        pid = kernel.clone(_CLONE_PARENT)
        if pid:
            return {"pid": pid}
        try:
            requests.close()
            os.close(owner)
            _become(message)
            be(socket.socket(fileno=passed[0]))
        finally:
            os._exit(0)

    messages.answer_with(requests, fork)
    for held in passed:
        os.close(held)


def _become(message: dict[str, Any]) -> None:
    """As the owner would have started it now."""
    calls.hide_command_line(b"stockade-keeper")
    calls.show_environment(message["marks"])
    os.setsid()
    with contextlib.suppress(OSError):  # a cpu may have gone
        os.sched_setaffinity(0, message["cpus"])
