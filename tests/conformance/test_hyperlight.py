"""The contract, held to Hyperlight; run in the guest of tests/vm, which has a KVM."""

from __future__ import annotations

from stockade.session import Session
from stockade.testing import ProviderConformance


class TestHyperlightPython(ProviderConformance):
    provider = "hyperlight:python?memory_mb=96&parallel=3"

    def kill_sandbox(self, session: Session) -> None:
        from stockade_hyperlight.session import HyperlightSandbox

        sandbox = session._record.sandbox
        assert isinstance(sandbox, HyperlightSandbox)
        for machine in sandbox.machines:
            machine.kill()
