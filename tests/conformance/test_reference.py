"""The reference wall passes all that it claims."""

from __future__ import annotations

from stockade.session import Session
from stockade.testing import ProviderConformance
from stockade.testing.subprocesses import PlainSandbox


class TestReference(ProviderConformance):
    provider = "reference-no-isolation"

    def kill_sandbox(self, session: Session) -> None:
        sandbox = session._record.sandbox
        assert isinstance(sandbox, PlainSandbox)
        sandbox.die()
