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
STRING = (
    f"microsandbox:{FOLDER}?memory_mb=128&max_processes=40&cpu_limit=0.5"
    f"&kill_seconds={0.75 * FACTOR:g}"
)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    need("microsandbox")
    with stockade.open(STRING, startup_timeout_seconds=60 * FACTOR) as opened:
        yield opened


def test_the_limits_are_the_control_groups(session: Session) -> None:
    group = "/sys/fs/cgroup/microsandbox-workload"
    result = session.shell(f"cd {group} && cat memory.max pids.max cpu.max")
    # The supervisor and two keepers have room beside the programs.
    assert result.stdout.splitlines() == [str(128 << 20), "43", "50000 100000"]
    assert not session.shell(f"echo max > {group}/memory.max").success


def test_there_is_no_network_device(session: Session) -> None:
    links = "for n in /sys/class/net/*; do [ ! -e $n/device ] || echo $n; done"
    assert session.shell(links).stdout == ""
    assert session.shell("ip addr | grep -c inet6; ip route; ip -6 route").stdout == "1\n"  # ::1
    driven = session.shell("ls /sys/bus/virtio/drivers/virtio_net").stdout
    assert "virtio" not in driven


def test_there_is_no_socket_of_the_hosts(session: Session) -> None:
    """A vsock device would be one, and the package's could open the host's network."""
    kinds = session.shell("cat /sys/bus/virtio/devices/*/device").stdout.split()
    assert "0x0003" in kinds  # consoles: the agent's own way
    assert "0x0013" not in kinds


#: What hostile code tries in a VM; each must fail. The agent is its first process, and speaks to
#: the host through consoles; the host shares one folder with it.
_TRIES = """
kill -9 1
cat /proc/1/environ
cat /proc/1/mem
ls /proc/1/fd
echo x >/.msb/x
echo x >/.msb/heartbeat.json
echo x >/.msb/scripts/sh
rm -r /.msb/tls
echo x >/dev/hvc0
for d in /dev/vport*; do echo x >$d; done
cat /dev/vda
cat /dev/mem
cat /dev/port
echo $$ >/sys/fs/cgroup/cgroup.procs
mkdir /sys/fs/cgroup/mine
mkdir /sys/fs/cgroup/microsandbox-workload/mine
echo max >/sys/fs/cgroup/microsandbox-workload/pids.max
for d in /sys/bus/virtio/devices/*; do echo ${d##*/} >/sys/bus/virtio/drivers/virtio_net/bind; done
echo 99 >/proc/sys/user/max_user_namespaces
unshare -U true
unshare -m true
mount -t tmpfs t /tmp
chroot / true
su root -c true
mknod /tmp/null c 1 3
reboot -f
echo b >/proc/sysrq-trigger
nice -n -5 true
hostname other
"""


def test_what_hostile_code_tries_first(session: Session) -> None:
    script = "".join(
        f"({line}) >/dev/null 2>&1 </dev/null && echo '{line}'\n"
        for line in ["true", *_TRIES.strip().splitlines()]
    )
    assert session.shell(script, timeout=20.0 * FACTOR).stdout == "true\n"


def test_of_devices_only_the_harmless_are_everybodys(session: Session) -> None:
    found = session.shell("find /dev -perm -2 ! -type l ! -type d; find /dev -perm -4 -type b")
    usual = {"full", "null", "ptmx", "random", "tty", "urandom", "zero"}
    assert set(found.stdout.split()) <= {f"/dev/{name}" for name in usual}


def test_code_that_kills_all_it_can_harms_its_session_alone(session: Session) -> None:
    with stockade.open(STRING, startup_timeout_seconds=60 * FACTOR) as victim:
        name = victim.session_id
        assert _machines(name)
        # The supervisor is root's, so the session outlives what its programs do to each other.
        victim.shell("kill -9 -1", timeout=10.0 * FACTOR)
        assert victim.shell("echo usable").stdout == "usable\n"
    assert session.shell("echo usable").stdout == "usable\n"
    # What it printed was logged by the package: that goes with the session.
    home = Path(os.environ.get("MSB_HOME") or Path.home() / ".microsandbox")
    assert not [path for path in home.rglob(f"*{name}*") if path.is_dir() or path.stat().st_size]
    assert not _machines(name)


def test_the_code_has_no_privilege(session: Session) -> None:
    printed = session.shell(
        "grep -E '^(CapPrm|CapEff|NoNewPrivs)' /proc/self/status"
    ).stdout.split()
    assert printed == ["CapPrm:", "0" * 16, "CapEff:", "0" * 16, "NoNewPrivs:", "1"]


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
