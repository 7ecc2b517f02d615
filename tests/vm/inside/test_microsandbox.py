"""The microsandbox wall beyond the contract; run in the guest, which has a KVM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import stockade
from conftest import need
from stockade.errors import ConfigError, SandboxStartError
from stockade.session import Session

FACTOR = float(os.environ.get("STOCKADE_TIME_FACTOR", "1"))
FOLDER = "/srv/stockade-busybox"
STRING = f"microsandbox:{FOLDER}?memory_mb=128&max_processes=40&cpu_limit=0.5&kill_seconds=6"


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    need("microsandbox")
    with stockade.open(STRING, startup_timeout_seconds=60 * FACTOR) as opened:
        yield opened


def test_the_limits_are_the_control_groups(session: Session) -> None:
    group = "/sys/fs/cgroup/microsandbox-workload"
    result = session.shell(f"cd {group} && cat memory.max pids.max cpu.max")
    assert result.stdout.splitlines() == [str(128 << 20), "40", "50000 100000"]
    assert not session.shell(f"echo max > {group}/memory.max").success


def test_there_is_no_network_device(session: Session) -> None:
    assert session.shell("ls /sys/class/net").stdout == "lo\n"


def test_the_code_has_no_privilege(session: Session) -> None:
    told = session.shell("grep -E '^(CapPrm|CapEff|NoNewPrivs)' /proc/self/status").stdout.split()
    assert told == ["CapPrm:", "0" * 16, "CapEff:", "0" * 16, "NoNewPrivs:", "1"]


def test_the_root_folder_stays_as_it_is(session: Session) -> None:
    before = sorted(str(path) for path in Path(FOLDER).rglob("*"))
    session.shell("echo x > /var/tmp/x; echo x > /etc/x; echo x > /x; rm -f /bin/ls")
    assert sorted(str(path) for path in Path(FOLDER).rglob("*")) == before


def test_a_target_that_is_none_is_named(tmp_path: Path) -> None:
    need("microsandbox")
    with pytest.raises(ConfigError, match="needs a target"):
        stockade.open("microsandbox")
    broken = tmp_path / "image.tar"
    broken.write_bytes(b"no archive")
    with pytest.raises(SandboxStartError, match="could not be loaded"):
        stockade.open(f"microsandbox:{broken}")


_OWNER = f"""
import sys, stockade
session = stockade.open({STRING!r}, startup_timeout_seconds={60 * FACTOR})
print(session.session_id, flush=True)
sys.stdin.read()
"""


def _machines(name: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"machine" in words and name.encode() in words:
            found.append(path.parent.name)
    return found


def test_the_vm_ends_with_its_owner() -> None:
    need("microsandbox")
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    try:
        name = owner.stdout.readline().decode().strip()
        assert _machines(name)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        deadline = time.monotonic() + 5.0 * FACTOR
        while _machines(name) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _machines(name)
    finally:
        owner.kill()
        owner.stdin.close()
        owner.stdout.close()
        owner.wait()
