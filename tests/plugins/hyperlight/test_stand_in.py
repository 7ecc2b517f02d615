"""The Hyperlight wall's own part, held to the contract with a stand-in for the microVM.

The pool of processes, deadlines, streams, files and named interpreters are stockade's; only
what the virtual machine isolates cannot be seen here, and is declared.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.session import Session
from stockade.testing import ProviderConformance
from stockade.wall import Availability, Check

pytest.importorskip("stockade_hyperlight", reason="pip install stockade-hyperlight (tox -e vm)")

_NO_WALL = "the stand-in runs in a process of this machine and isolates nothing"
_ELSEWHERE = "another process, which the check starts, has no stand-in"


@pytest.fixture(autouse=True, scope="module")
def stand_in() -> Iterator[None]:
    """The fake package first on the path, which the wall's processes are given."""
    from stockade_hyperlight.wall import HyperlightWall

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "fake"))
        patch.delitem(sys.modules, "hyperlight_sandbox", raising=False)
        there = Availability((Check("stand-in", True),))
        patch.setattr(HyperlightWall, "probe", lambda _: there)
        yield


class TestStandIn(ProviderConformance):
    provider = "hyperlight:python?memory_mb=96&parallel=3"
    title = "hyperlight stand-in"
    deviations = {
        "E2_code_writes_to_two_folders_alone": _NO_WALL,
        "C9_a_sandbox_is_looked_for_where_it_was_made": _ELSEWHERE,
        "C9_what_a_killed_process_left_is_collected": _ELSEWHERE,
        "C12_a_session_stays_with_its_process": _ELSEWHERE,
        "E2_code_shares_memory_between_processes": _NO_WALL,
        "E5_the_memory_limit_holds": _NO_WALL,
        "E5_buffers_of_pipes_count": _NO_WALL,
        "E5_buffers_of_sockets_count": _NO_WALL,
        "E5_connections_that_nobody_accepts_count": _NO_WALL,
        "E5_page_tables_count": _NO_WALL,
        "E5_shared_memory_that_nobody_touches_counts": _NO_WALL,
        "E8_code_leaves_nothing_for_another_session": _NO_WALL,
        "E3_no_way_out": _NO_WALL,
        "E3_no_unix_socket_of_the_host": _NO_WALL,
        "E3_no_family_of_sockets_outside_of_a_namespace": _NO_WALL,
        "E4_threads_count_too": _NO_WALL,
        "E10_an_allow_list_opens_nothing_else": _NO_WALL,
        "E10_a_name_leads_to_no_private_network": _NO_WALL,
        "E10_an_entry_opens_a_private_place_and_no_more": _NO_WALL,
    }

    def kill_sandbox(self, session: Session) -> None:
        from stockade_hyperlight.session import HyperlightSandbox

        sandbox = session._record.sandbox
        assert isinstance(sandbox, HyperlightSandbox)
        for machine in sandbox.machines:
            machine.kill()
