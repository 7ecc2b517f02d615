"""The contract, held to gVisor."""

from __future__ import annotations

from conformance.test_docker import kill_container
from stockade.session import Session
from stockade.testing import ProviderConformance

#: Of versions that show a process's descriptors although it hides.
LOST = "gVisor does not hide the supervisor from programs of its user: the session is lost"


class TestGVisor(ProviderConformance):
    provider = "gvisor:stockade-test/python?pull=never"
    elsewhere = {"DOCKER_HOST": "unix:///nowhere"}
    deviations = {
        "E1_no_new_privs_and_a_filter": "gVisor filters its own system calls, outside of what "
        "/proc shows to the programs",
        "E4_the_process_limit_holds": "the engine limits gVisor's own processes, and gVisor ends "
        "when it meets that limit: the session is lost, the host notices nothing",
        "E4_threads_count_too": "threads are gVisor's own, and no limit of the engine's sees them; "
        "what they use is held by the memory limit",
        "D16_writing_to_what_reports_changes_no_result": LOST,
        "D16_signals_to_what_reports_cost_no_session": LOST,
        "D16_signals_to_who_waits_for_code_hold_none_up": LOST,
        "D16_what_is_left_reaches_into_no_later_execution": "gVisor has no Landlock, by which "
        "executions are apart",
        "D16_limits_and_priorities_of_others_are_no_programs": "gVisor takes no filter of an "
        "engine's, and lets a program change the limits of others of its user",
        "D19_keys_that_mean_a_signal_send_it": "gVisor's terminals make no signal of a key; a "
        "caller sends it",
    }
    #: If the kill for memory comes late, the program's own end may be seen first.
    unsteady = {
        "D6_a_bomb_of_forks_ends": "it may meet the process limit, as in E4, before its deadline",
    }

    def kill_sandbox(self, session: Session) -> None:
        kill_container(session)
