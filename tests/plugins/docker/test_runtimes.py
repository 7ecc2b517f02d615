"""gVisor and Kata: what is asked for is what runs, or nothing does."""

from __future__ import annotations

import contextlib
import os
import time
from types import SimpleNamespace
from urllib.parse import quote

import docker
import pytest

import stockade
from conftest import need
from plugins.docker.conftest import BUSYBOX, PYTHON, is_lost, ours, until
from stockade.errors import SandboxLostError, SandboxStartError
from stockade.results import Verdict
from stockade.sessions._providers import inspect_providers
from stockade_docker import engine as engines
from stockade_docker import transport

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def _engines(engine: docker.APIClient) -> None:
    need("gvisor")


def _podman() -> str:
    """Its socket as the option ``engine`` has it; skips where there is none."""
    socket = os.environ.get("STOCKADE_PODMAN", "/var/lib/stockade-engines/podman.sock")
    if not os.path.exists(socket):
        pytest.skip(f"podman: nobody listens on {socket}")
    return quote(f"unix://{socket}", safe="")


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


def test_podman_takes_a_runtime_and_ignores_it() -> None:
    engine = _podman()
    for name in ("gvisor", "kata"):
        with pytest.raises(stockade.ProviderUnavailableError, match="ignores it"):
            stockade.open(f"{name}:{BUSYBOX}?engine={engine}")


@pytest.mark.parametrize("wall", ["docker", "gvisor", "podman"])
def test_there_is_no_network_device_but_loopback(wall: str) -> None:
    """An engine may ignore how it is told so, as podman does with NetworkDisabled (E3)."""
    string = f"{wall}:{BUSYBOX}"
    if wall == "podman":
        string = f"docker:{BUSYBOX}?engine={_podman()}"
    else:
        need(wall)
    with stockade.open(string) as session:
        devices = session.shell("cut -d: -f1 /proc/net/dev | tail -n +3").stdout.split()
        assert devices in ([], ["lo"])
        assert len(session.shell("cat /proc/net/route").stdout.splitlines()) <= 1


def test_kata_refuses_a_runtime_that_is_runc(engine: docker.APIClient) -> None:
    """The engine's `kata-runtime` is a shim of the tests' own around runc."""
    if "kata-runtime" not in engine.info()["Runtimes"]:
        pytest.skip("the engine has no runtime by Kata's name")
    before = ours(engine)
    found = inspect_providers(["kata"])[0]
    assert found.available and not found.broken
    with pytest.raises(SandboxStartError, match="the kernel inside is the host's own"):
        stockade.open(f"kata:{PYTHON}")
    assert ours(engine) == before


def test_out_of_memory_takes_the_session_at_once() -> None:
    """One kernel holds program and session: E5 says what becomes of it."""
    with stockade.open(f"gvisor:{PYTHON}?memory_mb=192") as session:
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


def test_what_one_engine_told_is_not_taken_for_anothers(engine: docker.APIClient) -> None:
    """docker-py gives every local socket one address."""
    ours = engines.client(None)
    other = transport.make("unix:///elsewhere", version="1.24", timeout=5, pool=1)
    try:
        assert ours.base_url == other.base_url
        engines.cached_look(ours)
        with pytest.raises(engines.FAILURES):
            engines.cached_look(other)
    finally:
        other.close()


def test_an_engine_elsewhere_is_not_local() -> None:
    for url in ("tcp://10.0.0.1:2375", transport.REMOTE):
        assert not engines.is_local(SimpleNamespace(base_url=url))  # type: ignore[arg-type]
    assert engines.is_local(SimpleNamespace(base_url="http+docker://localhost"))  # type: ignore[arg-type]


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


def test_what_cannot_be_told_apart_ends_the_session() -> None:
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
