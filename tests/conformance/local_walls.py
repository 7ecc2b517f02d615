"""What the walls of this machine's own processes are held to alike: the contract with limits held
by cgroup where one can be made, and what limits touch with limits that are watched."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stockade import Session
from stockade.testing import ProviderConformance
from stockade.testing.base import ConformanceBase
from stockade.testing.checks.d_trees import Trees
from stockade.testing.checks.e_kept_memory import Kept
from stockade.testing.checks.e_limits import Limits
from stockade.toolkit.local import LocalSandbox
from stockade.toolkit.local.cgroups import parents

__all__ = ["OnThisMachine", "Watched"]


#: Where it is watched 64 MiB in pipes come on top of 128 (docs/bubblewrap.md, docs/landlock.md).
_WATCHED = 1.5


class _AsSlowAsTheMachine(ConformanceBase):
    @pytest.fixture(autouse=True)
    def killed_programs_may_end_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On an emulated machine; these walls have no option for it, as others do."""
        usual = LocalSandbox.kill_seconds
        monkeypatch.setattr(LocalSandbox, "kill_seconds", usual * self.time_factor)


class OnThisMachine(_AsSlowAsTheMachine, ProviderConformance):
    """Of itself no wall."""

    memory_factor = 1.0 if "memory" in parents() else _WATCHED

    def kill_sandbox(self, session: Session) -> None:
        sandbox = session._record.sandbox
        assert isinstance(sandbox, LocalSandbox)
        os.kill(sandbox.init_pid, signal.SIGKILL)

    @contextmanager
    def showing(self, folder: str) -> Iterator[tuple[Session, str]]:
        self.provider = f"{type(self).provider}?python={folder}"  # type: ignore[misc]
        with self.session() as session:
            yield session, folder


class Watched(_AsSlowAsTheMachine, Trees, Limits, Kept):
    """Of itself no wall."""

    memory_factor = _WATCHED
