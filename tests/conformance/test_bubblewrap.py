"""The bubblewrap wall against the contract: limits by cgroup where one can be made, and watched."""

from __future__ import annotations

import os
import signal

from stockade import Session
from stockade.testing import ProviderConformance
from stockade_bubblewrap.sandbox import BubblewrapSandbox


class TestBubblewrap(ProviderConformance):
    provider = "bubblewrap"

    def kill_sandbox(self, session: Session) -> None:
        sandbox = session._record.sandbox
        assert isinstance(sandbox, BubblewrapSandbox)
        os.kill(sandbox.init_pid, signal.SIGKILL)


class TestBubblewrapWatched(TestBubblewrap):
    provider = "bubblewrap?limits=watch"
