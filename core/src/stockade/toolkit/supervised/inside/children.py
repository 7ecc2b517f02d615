"""The children that a warm interpreter forks for executions to come.

They take the executions in the order in which they were forked: the first has the turn, and
alone reads from the socket that all of them have. Where a fork is quick, one is enough. Where
it is slow (under gVisor it takes longer than a short program), a few are made in a pause, and
none while a program runs, since parent and child copy what the other touches.
"""

import _socket
import os
import time

from stockade.toolkit.supervised.inside.ending import attempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

NONE = -1
#: For so long a process is waited for where an execution is there and the limit is reached.
FORK_SECONDS = 1.0
#: A fork of an interpreter that takes less is a quick one.
QUICK_SECONDS = 0.003
#: So many wait where forks are slow.
MOST = 6
#: Where nobody has come for so long, nobody waits for a fork.
PAUSE_SECONDS = 0.01


def fork(connection: "_socket.socket", waits: bool) -> int:
    """Fork. Where the process limit is reached, try again for FORK_SECONDS, but not before an
    execution ``waits``. Ends this process where that is in vain."""
    end = None
    while True:
        try:
            return os.fork()
        except OSError:
            if not waits and not connection.recv(1, _socket.MSG_PEEK):
                os._exit(0)
        waits = True
        end = end or time.monotonic() + FORK_SECONDS
        if time.monotonic() > end:
            os._exit(1)
        time.sleep(0.02)


class Children:
    """Those that wait, with the parent's ends of their sockets: by one a child is given the
    turn and says what became of it, and it ends with the child. It is no pipe, which programs
    could open by its name in /proc."""

    def __init__(self, host: "_socket.socket") -> None:
        self.host = host
        self.waiting: list[tuple[int, _socket.socket]] = []
        self.quickest = FORK_SECONDS
        self.full = False

    def quick(self) -> bool:
        return self.quickest < QUICK_SECONDS

    def add(self, once: bool = False) -> "Optional[_socket.socket]":
        """Fork one more; in the child its own end, in the parent None. ``once``: no child
        where the process limit is reached now."""
        ours, theirs = _socket.socketpair()
        began = time.monotonic()
        try:
            pid = os.fork() if once else fork(self.host, False)
        except OSError:
            pid, self.full = NONE, True
        if not pid:
            for _, end in self.waiting:
                end.close()
            self.waiting.clear()
            ours.close()
            return theirs
        theirs.close()
        if pid == NONE:
            ours.close()
            return None
        self.quickest = min(self.quickest, time.monotonic() - began)
        if not self.waiting:
            ours.send(b"g")
        self.waiting.append((pid, ours))
        return None

    def hear(self) -> "Optional[bytes]":
        """What became of the first: one byte, or none if it has ended; None if nobody
        came for it for a while and one more may be made."""
        more = not (self.full or self.quick()) and len(self.waiting) < MOST
        first = self.waiting[0][1]
        first.settimeout(PAUSE_SECONDS if more else None)
        try:
            return first.recv(1)
        except _socket.timeout:
            return None
        except OSError:  # it was ended before it knew that it has the turn
            return b""

    def take(self, last: bool) -> int:
        """The first, which waits no more; the turn is the next one's, if this is not the
        ``last``: one that had it would hold the host's socket open after the parent's end."""
        pid, end = self.waiting.pop(0)
        end.close()
        if self.waiting and not last:
            # One that has ended is noticed when it is heard.
            attempt(lambda: self.waiting[0][1].send(b"g"))
        self.full = False
        return pid
