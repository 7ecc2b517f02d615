"""Whether this machine can run virtual machines: for the probes of walls made of them (A8).

A ``/dev/kvm`` that is there proves little: it may belong to somebody else, or to a
hypervisor that offers no further one and hangs or fails when asked to run. So a guest
of a few instructions is run, in a process of its own, with a time limit.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

from stockade.wall import Check

__all__ = ["RUN_SECONDS", "checks"]

#: How long the tiny guest may take: milliseconds, but seconds where the hypervisor is emulated.
RUN_SECONDS = 10.0
_DEVICE = "/dev/kvm"
_ELSEWHERE = "or use another wall, such as gvisor"

# In 64-bit mode with a page table of one entry: a loop, an instruction of SSE, a halt. Less
# would not do: some a /dev/kvm has no hypervisor behind it and interprets what it can.
_GUEST = """
import ctypes, fcntl, mmap, os, struct, sys
kvm = os.open(sys.argv[1], os.O_RDWR | os.O_CLOEXEC)
assert fcntl.ioctl(kvm, 0xAE00) == 12, "another version of KVM's interface"
vm = fcntl.ioctl(kvm, 0xAE01, 0)
ctypes.CDLL(None).ioctl(vm, ctypes.c_ulong(0xAE47), ctypes.c_ulong(0xFFFBD000))
ram = mmap.mmap(-1, 0x5000)
for at, entry in (0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x83):
    struct.pack_into("=Q", ram, at, entry)
code = bytes.fromhex("b9e8030000 e2fe 660fefc0 f4")
ram[0x4000 : 0x4000 + len(code)] = code
start = ctypes.addressof(ctypes.c_char.from_buffer(ram))
fcntl.ioctl(vm, 0x4020AE46, struct.pack("=IIQQQ", 0, 0, 0, len(ram), start))
cpu = fcntl.ioctl(vm, 0xAE41, 0)
state = mmap.mmap(cpu, fcntl.ioctl(kvm, 0xAE04))
special = bytearray(312)
fcntl.ioctl(cpu, 0x8138AE83, special)
segment = "=QIH10B"
codes = struct.pack(segment, 0, 0xFFFFFFFF, 8, 11, 1, 0, 0, 1, 1, 1, 0, 0, 0)
datas = struct.pack(segment, 0, 0xFFFFFFFF, 16, 3, 1, 0, 1, 1, 0, 1, 0, 0, 0)
special[:144] = codes + datas * 5
struct.pack_into("=6Q", special, 224, 0x80050033, 0, 0x1000, 0x620, 0, 0x500)
fcntl.ioctl(cpu, 0x4138AE84, bytes(special))
fcntl.ioctl(cpu, 0x4090AE82, struct.pack("=18Q", *[0] * 16, 0x4000, 2))
fcntl.ioctl(cpu, 0xAE80, 0)
reason = struct.unpack_from("=I", state, 8)[0]
assert reason == 5, f"it left for reason {reason} instead of its halt"
"""


def checks() -> list[Check]:
    """What KVM needs, one thing after another, up to the first that is missing.

    Called by a wall's ``probe``; takes up to ``RUN_SECONDS``. The last check has run a
    guest.
    """
    if platform.system() != "Linux":
        return [Check("KVM", False, f"{platform.system()} has it not", "run on Linux")]
    if not os.path.exists(_DEVICE):
        return [Check("KVM", False, f"there is no {_DEVICE}", _no_device())]
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        remedy = "usermod -aG kvm USER, and log in anew"
        return [Check("KVM", False, f"no permission to open {_DEVICE}", remedy)]
    return [Check(_DEVICE, True, "is there"), _run_guest()]


def _no_device() -> str:
    if platform.machine() == "x86_64":
        module = "kvm_amd" if "AuthenticAMD" in _cpu() else "kvm_intel"
        return f"modprobe {module}, with virtualisation on in the firmware, {_ELSEWHERE}"
    return f"a kernel with KVM, {_ELSEWHERE}"


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return file.read(4096)
    except OSError:
        return ""


def _run_guest() -> Check:
    what = "hypervisor"
    if platform.machine() != "x86_64":  # the guest's instructions are of that machine
        return Check(what, True, f"not tried on {platform.machine()}")
    remedy = f"a machine with virtualisation, nested if it is a virtual one itself, {_ELSEWHERE}"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _GUEST, _DEVICE],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        said = process.communicate(timeout=RUN_SECONDS)[1].decode("utf-8", "replace").strip()
    except subprocess.TimeoutExpired:
        _end(process)
        detail = f"{_DEVICE} is there, and a guest did not run within {RUN_SECONDS:g} s"
        return Check(what, False, detail, remedy)
    if process.returncode:
        last = said.splitlines()[-1][:200] if said else f"code {process.returncode}"
        return Check(what, False, f"{_DEVICE} is there and runs no guest ({last})", remedy)
    return Check(what, True, "ran a guest")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it without waiting for long: it may be stuck in the kernel."""
    process.kill()
    try:
        process.communicate(timeout=1.0)
    except subprocess.TimeoutExpired:
        if process.stderr is not None:
            process.stderr.close()
