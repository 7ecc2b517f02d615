"""The landlock wall against the contract."""

from __future__ import annotations

import os
import signal

from stockade import Session
from stockade.testing import ProviderConformance


class TestLandlock(ProviderConformance):
    provider = "landlock"

    def kill_sandbox(self, session: Session) -> None:
        sandbox = session._record.sandbox
        os.kill(sandbox.keeper_pid, signal.SIGKILL)  # type: ignore[union-attr]
