"""The contract, held to gVisor."""

from __future__ import annotations

from conformance.test_docker import kill_container
from stockade.session import Session
from stockade.testing import ProviderConformance


class TestGVisor(ProviderConformance):
    provider = "gvisor:stockade-test/python?pull=never"
    deviations = {
        "E1_no_new_privs_and_a_filter": "gVisor filters its own system calls, outside of what "
        "/proc shows to the programs",
        "E4_the_process_limit_holds": "the engine limits gVisor's own processes, and gVisor ends "
        "when it meets that limit: the session is lost, the host notices nothing",
        "D6_a_bomb_of_forks_ends": "it meets the process limit, as in E4",
        "C10_another_process_attaches_and_destroys": "the engine leaves the connection of an "
        "exec under gVisor open when another process removes the container: the call that runs "
        "into that times out instead of telling that the session is gone",
    }

    def kill_sandbox(self, session: Session) -> None:
        kill_container(session)
