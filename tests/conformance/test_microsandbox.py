"""The contract, held to microsandbox; run in the guest of tests/vm, which has a KVM."""

from __future__ import annotations

from stockade.session import Session
from stockade.testing import ProviderConformance


class TestMicrosandboxBusybox(ProviderConformance):
    title = "microsandbox:busybox"
    # Emulated, its VM takes as much longer to end a program as all else does.
    kill_seconds = 0.75 * ProviderConformance.time_factor
    provider = f"microsandbox:/srv/stockade-busybox?memory_mb=128&kill_seconds={kill_seconds:g}"

    def kill_sandbox(self, session: Session) -> None:
        from stockade_microsandbox.sandbox import VmSandbox

        sandbox = session._record.sandbox
        assert isinstance(sandbox, VmSandbox)
        sandbox.force_end()
