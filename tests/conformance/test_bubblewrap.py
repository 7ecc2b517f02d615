"""The bubblewrap wall against the contract: all of it with limits held by cgroup where one can
be made, and what limits touch with limits that are watched."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from stockade import Session
from stockade.testing import ProviderConformance
from stockade.testing.base import ConformanceBase
from stockade.testing.group_d_trees import Trees
from stockade.testing.group_e_limits import Limits
from stockade.toolkit.supervised import SupervisedSandbox
from stockade_bubblewrap.sandbox import BubblewrapSandbox

_SHELLS = "its shells and pipes are open to the programs of its user"
#: What the supervisor holds, once this wall's programs start through it.
_HARMED = {
    "D6_no_change_of_its_own_saves_a_program": _SHELLS,
    "D16_what_outlives_its_execution_is_not_heard_in_the_next": _SHELLS,
    "D16_writing_to_what_reports_changes_no_result": _SHELLS,
    "D16_signals_to_what_reports_cost_no_session": _SHELLS,
    "D20_a_named_interpreter_starts_as_a_fresh_one": "it has its lane's arguments",
    "D20_an_exit_ends_a_named_interpreter": "it lives on",
}
NO_TEMPORARY_FILES = {
    "E2_temporary_files_and_shared_memory": "/var/tmp is read-only, /dev/shm unless asked for",
    "E2_temporary_files_and_shared_memory_are_bounded": "as above",
    "E2_code_shares_memory_between_processes": "as above",
}


class TestBubblewrap(ProviderConformance):
    provider = "bubblewrap"
    deviations = {
        **NO_TEMPORARY_FILES,
        **({} if issubclass(BubblewrapSandbox, SupervisedSandbox) else _HARMED),
    }

    def kill_sandbox(self, session: Session) -> None:
        sandbox = session._record.sandbox
        assert isinstance(sandbox, BubblewrapSandbox)
        os.kill(sandbox.init_pid, signal.SIGKILL)

    @contextmanager
    def showing(self, folder: str) -> Iterator[tuple[Session, str]]:
        self.provider = f"bubblewrap?python={folder}"  # type: ignore[misc]
        with self.session() as session:
            yield session, folder


class TestBubblewrapWatched(Trees, Limits, ConformanceBase):
    title = "bubblewrap-watched"
    provider = "bubblewrap?limits=watch"
    deviations = NO_TEMPORARY_FILES
