"""The landlock wall against the contract."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from stockade import Session
from stockade.testing import ProviderConformance


class TestLandlock(ProviderConformance):
    provider = "landlock"
    deviations = {
        "D20_a_named_interpreter_starts_as_a_fresh_one": "the shell supervisor's does not",
        "D20_an_exit_ends_a_named_interpreter": "the shell supervisor's lives on",
        "E2_no_call_changes_a_file_of_the_host": "sandlock lets some calls through",
        "E2_files_behave_as_a_kernels_do": "sandlock translates paths, and not all of them",
        "E2_temporary_files_and_shared_memory": "there is neither /var/tmp nor /dev/shm",
        "E2_temporary_files_and_shared_memory_are_bounded": "there is neither",
        "E2_code_shares_memory_between_processes": "there is no /dev/shm",
        "E4_threads_count_too": "sandlock counts processes",
        "E5_buffers_of_sockets_count": "the watch sees memory alone",
        "E5_page_tables_count": "the watch sees memory alone",
        "E5_shared_memory_that_nobody_touches_counts": "the watch sees memory alone",
        "F4_modes_times_and_hard_links_are_kept": "sandlock lets nobody change some modes",
        "E8_no_quota_is_used_up_for_another_session": "started by root, all sessions run as one "
        "user",
    }

    def kill_sandbox(self, session: Session) -> None:
        sandbox = session._record.sandbox
        os.kill(sandbox.keeper_pid, signal.SIGKILL)  # type: ignore[union-attr]

    @contextmanager
    def showing(self, folder: str) -> Iterator[tuple[Session, str]]:
        self.provider = f"landlock?python={folder}"  # type: ignore[misc]
        with self.session() as session:
            yield session, folder
