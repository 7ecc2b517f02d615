"""Chaos at rate 0 is the wall that it is over: the reference wall passes through it, too."""

from __future__ import annotations

from stockade.session import Session
from stockade.testing import ProviderConformance
from stockade.testing.subprocesses import PlainSandbox
from stockade_chaos.sandbox import ChaosSandbox


class TestChaos(ProviderConformance):
    provider = "chaos:reference-no-isolation?seed=1"
    over = ("reference-no-isolation",)

    def kill_sandbox(self, session: Session) -> None:
        sandbox = session._record.sandbox
        assert isinstance(sandbox, ChaosSandbox) and isinstance(sandbox.inner, PlainSandbox)
        sandbox.inner.die()
