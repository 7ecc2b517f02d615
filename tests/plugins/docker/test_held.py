"""An engine that holds no limits: what asks for one is refused, and nothing is started."""

from __future__ import annotations

from typing import Any

import attrs
import docker
import pytest

import stockade
from plugins.docker.conftest import BUSYBOX, ours
from stockade import UnsupportedError
from stockade.capabilities import Feature
from stockade_docker import engine as engines
from stockade_docker import held
from stockade_docker.wall import ContainerWall

_ALL = (Feature.MEMORY, Feature.CPU, Feature.PROCESSES)
_TRUE = {"MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True}


@pytest.mark.parametrize(
    ("info", "rootless", "lacking"),
    [
        ({**_TRUE, "CgroupVersion": "1", "CgroupDriver": "cgroupfs"}, False, ()),
        ({**_TRUE, "CgroupVersion": "2", "CgroupDriver": "systemd"}, True, ()),
        # podman of an ordinary user says so, and ignores the limits
        ({**_TRUE, "CgroupVersion": "1", "CgroupDriver": "cgroupfs"}, True, _ALL),
        ({**_TRUE, "CgroupVersion": "2", "CgroupDriver": "none"}, True, _ALL),
        ({**_TRUE, "CpuCfsQuota": False, "CgroupVersion": "2"}, True, (Feature.CPU,)),
        ({"CgroupVersion": "1"}, False, ()),  # too old to report it
    ],
)
def test_what_an_engine_reports_is_what_it_lacks(
    info: dict[str, Any], rootless: bool, lacking: tuple[Feature, ...]
) -> None:
    assert held.unheld(info, rootless=rootless) == lacking
    assert [check.ok for check in held.check(lacking)] == [True] * bool(lacking)


def test_what_the_memory_limit_leaves_out_is_said() -> None:
    """Buffers of internet sockets, on cgroup version 1; a kernel inside has them itself."""
    (check,) = held.buffers_check("1")
    assert check.ok and "net.ipv4.tcp_mem" in check.detail and "version 2" in check.remedy
    assert not held.buffers_check("2")


@pytest.fixture
def without_limits(engine: docker.APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = ContainerWall._info

    def reported(wall: ContainerWall, api: docker.APIClient) -> engines.EngineInfo:
        return attrs.evolve(usual(wall, api), unheld=_ALL)

    monkeypatch.setattr(ContainerWall, "_info", reported)


def test_a_limit_that_is_asked_for_is_refused_by_name(
    engine: docker.APIClient, without_limits: None
) -> None:
    before = ours(engine)
    with pytest.raises(UnsupportedError, match=r"memory_mb=512 .*set memory_mb=None.*cpu_limit"):
        stockade.open(f"docker:{BUSYBOX}?pull=never")
    assert ours(engine) == before


def test_without_limits_it_serves(without_limits: None) -> None:
    string = f"docker:{BUSYBOX}?pull=never"
    with stockade.open(string, memory_mb=None, cpu_limit=None, max_processes=None) as session:
        assert session.run(["echo", "x"]).stdout == "x\n"
