"""gVisor: what is asked for is what runs, or nothing does; and one kernel for all of it."""

from __future__ import annotations

import contextlib
import time

import docker
import pytest

import stockade
from conftest import need
from plugins.docker.conftest import BUSYBOX, PYTHON, is_lost, ours, until
from stockade.errors import SandboxLostError, SandboxStartError
from stockade.results import Verdict

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def _engines(engine: docker.APIClient) -> None:
    need("gvisor")


@pytest.mark.parametrize("image", [PYTHON, BUSYBOX])
def test_the_kernel_is_gvisors(image: str) -> None:
    with stockade.open(f"gvisor:{image}") as session:
        assert "Starting gVisor" in session.shell("dmesg").stdout


def test_another_runtime_by_the_name_is_refused(engine: docker.APIClient) -> None:
    before = ours(engine)
    with pytest.raises(SandboxStartError, match="not gVisor's"):
        stockade.open(f"gvisor:{PYTHON}?runtime=runc")
    assert ours(engine) == before


def test_a_runtime_that_the_engine_lacks() -> None:
    with pytest.raises(
        stockade.ProviderUnavailableError, match=r"no runtime 'runsc-x'.*runsc install"
    ):
        stockade.open(f"gvisor:{PYTHON}?runtime=runsc-x")


@pytest.mark.parametrize("durable", [False, True])
def test_out_of_memory_takes_the_session_at_once(durable: bool) -> None:
    """One kernel holds program and session: E5 says what becomes of it. An engine keeps its
    connection to what was attached."""
    with stockade.open(f"gvisor:{PYTHON}?memory_mb=192", durable=durable) as session:
        other = session.start(["sleep", "30"])
        result = session.code("x = bytearray(1 << 30)\nfor i in range(0, len(x), 4096): x[i] = 1")
        assert result.verdict is Verdict.OUT_OF_MEMORY
        assert other.result(5).verdict is Verdict.OUT_OF_MEMORY
        with pytest.raises((SandboxLostError, stockade.SessionStateError)):
            session.run(["true"])


def test_a_bomb_of_forks_ends_the_session_and_nothing_else() -> None:
    """What the capability's note says of gVisor's process limit."""
    with stockade.open(f"gvisor:{BUSYBOX}") as neighbour:
        with stockade.open(f"gvisor:{BUSYBOX}?max_processes=16") as session:
            line = "i=0; while [ $i -lt 400 ]; do sleep 20 & i=$((i+1)); done; wait"
            try:
                assert not session.shell(line, timeout=10).success
            except SandboxLostError:
                pass
        assert neighbour.run(["true"]).success


def test_programs_that_leave_their_tree_end_with_it() -> None:
    """An old gVisor has nobody adopt orphans: of one execution that runs alone all are its own,
    and with several the session that a process started in says whose it is (D6)."""
    need("gvisor")
    hide = "(exec setsid sleep 611) & exec sleep 60"
    with stockade.open(f"gvisor:{PYTHON}") as session:
        assert session.shell(hide, timeout=1).verdict is Verdict.TIMED_OUT
        assert "611" not in session.shell("cat /proc/[0-9]*/cmdline").stdout
        other = session.start(["sleep", "20"])
        assert session.shell("sleep 612 & exec sleep 60", timeout=1).verdict is Verdict.TIMED_OUT
        assert "612" not in session.shell("cat /proc/[0-9]*/cmdline").stdout
        assert other.future.done() is False


def test_what_cannot_be_distinguished_ends_the_session() -> None:
    """D6 is not broken in silence: two ran when it was left behind, in a session of its own."""
    need("gvisor")
    hide = "(setsid sh -c 'echo away; sleep 613' &); exec sleep 60"
    with stockade.open(f"gvisor:{PYTHON}") as session:
        session.start(["sleep", "50"])
        time.sleep(0.3)
        with contextlib.suppress(SandboxLostError):
            result = session.shell(hide, timeout=3)
            assert result.verdict is Verdict.TIMED_OUT and result.stdout == "away\n"
        assert until(lambda: is_lost(session), 10)
