"""What must not answer from inside, and what is made of what the kernel says there."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.kubernetes.conftest import asked
from stockade.errors import SandboxStartError

inside: Any = pytest.importorskip("stockade_kubernetes.inside")
errors: Any = pytest.importorskip("stockade_kubernetes.errors")

GVISOR = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"
STATUS = (
    "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n"
    "CapEff:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
)
MOUNTS = "".join(
    f"tmpfs {place} tmpfs rw,size=1024k 0 0\n"
    for place in ("/workspace", "/tmp", "/var/tmp", "/dev/shm")
)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What stands in the files that are read inside."""
    found = {"/proc/self/status": STATUS, "/proc/self/mounts": MOUNTS}
    monkeypatch.setattr(inside, "_read", lambda link, path: found.get(path, ""))
    return found


def held(kind: str = "node", **config: Any) -> None:
    inside.check_held(None, asked(**config).config, kind)


def test_the_server_the_node_the_metadata_names_and_other_pods_are_all_tried() -> None:
    around = inside.Surroundings(
        server="https://127.0.0.1:6443",
        service=("10.96.0.1", 443),
        nodes=("192.0.2.7", "2001:db8::7"),
        pods=("10.1.1.1", "10.1.1.2"),
    )
    found = around.targets(["10.1.1.254"])
    for target in (
        "tcp/127.0.0.1/6443",
        "tcp/10.96.0.1/443",
        "udp/10.96.0.10/53",
        "tcp/192.0.2.7/10250",
        "tcp/2001:db8::7/10250",
        "tcp/10.1.1.254/10250",
        "udp/10.1.1.254/53",
        "tcp/169.254.169.254/80",
        "tcp/10.1.1.1/9",
        "tcp/10.1.1.2/9",
        "tcp/1.1.1.1/443",
    ):
        assert target in found
    assert len(found) <= 60 and len(set(found)) == len(found)


def test_a_route_is_read_as_the_kernel_writes_it() -> None:
    table = (
        "Iface\tDestination\tGateway\neth0\t00000000\t0109580A\t0003\neth0\t0009580A\t00000000\n"
    )
    assert inside._gateways(table) == ["10.88.9.1"]
    assert inside._gateways("") == []


def test_a_route_of_ipv6_is_read_as_the_kernel_writes_it() -> None:
    zero, router = "0" * 32, "20010db8000000000000000000000001"
    of_the_link = "fe80000000000000ecee00fffeee0001"
    table = "".join(
        f"{zero} 00 {zero} 00 {via} 00000400 00000001 00000000 00000003     eth0\n"
        for via in (router, zero, of_the_link, router)
    )
    assert inside._gateways_of_v6(table) == ["2001:db8::1"]
    assert inside._gateways_of_v6("") == []


def test_a_policy_that_comes_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [["tcp/1.1.1.1/443"], []]
    monkeypatch.setattr(inside, "_read", lambda link, path: "")
    monkeypatch.setattr(inside, "_reached", lambda link, targets, seconds: answers.pop(0))
    inside.check_closed(None, inside.Surroundings(server="https://127.0.0.1"), 0.1)
    assert answers == []


def test_what_answers_for_good_is_named_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "_AGAIN_SECONDS", 0.2)
    monkeypatch.setattr(inside, "_read", lambda link, path: "")
    monkeypatch.setattr(inside, "_reached", lambda link, targets, seconds: ["tcp/192.0.2.7/10250"])
    with pytest.raises(errors.OpenNetworkError, match=r"192\.0\.2\.7/10250.*network_enabled=true"):
        inside.check_closed(None, inside.Surroundings(server="https://127.0.0.1"), 0.1)


def test_what_is_in_force_passes(files: dict[str, str]) -> None:
    held()


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("Seccomp:\t2", "Seccomp:\t0"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
        ("CapEff:\t0000000000000000", "CapEff:\t0000000000002000"),
        ("NoNewPrivs:\t1\nSeccomp:\t2\n", ""),
    ],
)
def test_a_runtime_that_ignores_the_security_context_is_refused(
    files: dict[str, str], what: str, other: str
) -> None:
    files["/proc/self/status"] = STATUS.replace(what, other)
    with pytest.raises(errors.AdmissionError, match="does not hold the pod's security context"):
        held()


def test_a_folder_without_a_bound_is_refused_unless_none_is_asked(files: dict[str, str]) -> None:
    files["/proc/self/mounts"] = MOUNTS.replace("/tmp tmpfs rw,size=1024k", "/tmp tmpfs rw", 1)
    with pytest.raises(SandboxStartError, match=r"/tmp has no bound.*SizeMemoryBackedVolumes"):
        held()
    held(disk_mb=None)


def test_kata_shows_no_filter_and_holds_the_rest(files: dict[str, str]) -> None:
    files["/proc/self/status"] = STATUS.replace("Seccomp:\t2", "Seccomp:\t0")
    held("kata")
    files["/proc/self/status"] = STATUS.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0")
    with pytest.raises(errors.AdmissionError, match="NoNewPrivs is 0"):
        held("kata")
    files["/proc/self/status"] = STATUS
    files["/proc/self/mounts"] = ""
    with pytest.raises(SandboxStartError, match="has no bound"):
        held("kata")


def test_gvisor_shows_its_capabilities_alone(files: dict[str, str]) -> None:
    files["/proc/self/status"] = STATUS.replace("NoNewPrivs:\t1\nSeccomp:\t2\n", "")
    files["/proc/self/mounts"] = ""
    held("gvisor")
    files["/proc/self/status"] = STATUS.replace("0000000000000000", "0000000000002000")
    with pytest.raises(errors.AdmissionError, match="CapEff"):
        held("gvisor")


def test_gvisor_is_known_by_its_kernel() -> None:
    inside.check_kernel(None, GVISOR, "gvisor", "gvisor", "")
    with pytest.raises(errors.AdmissionError, match="was to be gVisor"):
        inside.check_kernel(None, "Linux version 6.1.0 #1 SMP", "gvisor", "gvisor", "")


def test_kata_is_another_kernel_on_a_hypervisor(files: dict[str, str]) -> None:
    files["/proc/cpuinfo"] = "flags : fpu hypervisor\n"
    inside.check_kernel(None, "Linux version 6.6.1 #1", "kata", "kata", "6.1.0")
    # No such flag elsewhere than on x86: there it is the firmware or the device tree.
    for path, text in (
        ("/sys/hypervisor/type", "xen\n"),
        ("/sys/class/dmi/id/sys_vendor", "QEMU\n"),
        ("/proc/device-tree/hypervisor/compatible", "linux,kvm\0"),
    ):
        files["/proc/cpuinfo"] = "Features : fp asimd\n"
        files[path] = text
        inside.check_kernel(None, "Linux version 6.6.1 #1", "kata", "kata", "6.1.0")
        del files[path]
    for kernel, node, cpu in (
        ("Linux version 6.1.0 #1", "6.1.0", "flags : fpu hypervisor\n"),
        ("Linux version 6.6.1 #1", "6.1.0", "flags : fpu\n"),
        ("Linux version 6.6.1 #1", "", "flags : fpu hypervisor\n"),
    ):
        files["/proc/cpuinfo"] = cpu
        with pytest.raises(errors.AdmissionError):
            inside.check_kernel(None, kernel, "kata", "kata", node)
