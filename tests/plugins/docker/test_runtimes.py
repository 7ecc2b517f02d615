"""What an engine says of its runtimes and of itself, and which engine it is."""

from __future__ import annotations

import os
from types import SimpleNamespace
from urllib.parse import quote

import docker
import pytest

import stockade
from conftest import need
from plugins.docker.conftest import BUSYBOX
from stockade_docker import engine as engines
from stockade_docker import transport

pytestmark = pytest.mark.engine


def _podman() -> str:
    """Its socket as the option ``engine`` has it; skips where there is none."""
    socket = os.environ.get("STOCKADE_PODMAN", "/var/lib/stockade-engines/podman.sock")
    if not os.path.exists(socket):
        pytest.skip(f"podman: nobody listens on {socket}")
    return quote(f"unix://{socket}", safe="")


def test_podman_takes_a_runtime_and_ignores_it() -> None:
    engine = _podman()
    for name in ("gvisor", "kata"):
        with pytest.raises(stockade.ProviderUnavailableError, match="ignores it"):
            stockade.open(f"{name}:{BUSYBOX}?engine={engine}")


@pytest.mark.parametrize("wall", ["docker", "gvisor", "podman"])
def test_there_is_no_network_device_but_loopback(wall: str) -> None:
    """An engine may ignore the field that says so, as podman does with NetworkDisabled (E3)."""
    string = f"{wall}:{BUSYBOX}"
    if wall == "podman":
        string = f"docker:{BUSYBOX}?engine={_podman()}"
    else:
        need(wall)
    with stockade.open(string) as session:
        devices = session.shell("cut -d: -f1 /proc/net/dev | tail -n +3").stdout.split()
        assert devices in ([], ["lo"])
        assert len(session.shell("cat /proc/net/route").stdout.splitlines()) <= 1


def test_what_one_engine_reported_is_not_taken_for_anothers(engine: docker.APIClient) -> None:
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
