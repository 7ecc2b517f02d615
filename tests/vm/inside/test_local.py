"""`local` against the contract, whatever wall that is; run in the guests of Debian's kernels."""

from __future__ import annotations

import os
import signal

from stockade import Session
from stockade.testing import ProviderConformance
from stockade.toolkit.local import LocalSandbox


class TestLocal(ProviderConformance):
    provider = "local"
    title = "local"

    def kill_sandbox(self, session: Session) -> None:
        sandbox = session._record.sandbox
        assert isinstance(sandbox, LocalSandbox)
        os.kill(sandbox.init_pid, signal.SIGKILL)
