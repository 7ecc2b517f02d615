"""The contract, held to microsandbox; run in the guest of tests/vm, which has a KVM."""

from __future__ import annotations

from stockade.session import Session
from stockade.testing import ProviderConformance


class TestMicrosandboxBusybox(ProviderConformance):
    title = "microsandbox:busybox"
    provider = "microsandbox:/srv/stockade-busybox?memory_mb=128&kill_seconds=6"

    def kill_sandbox(self, session: Session) -> None:
        from stockade_microsandbox.sandbox import VmSandbox

        sandbox = session._record.sandbox
        assert isinstance(sandbox, VmSandbox)
        sandbox.force_end()
