"""Run a job in the guest: a folder with a script, shared into it, and its results."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

#: Memory of a guest.
MEMORY = "3G"
#: Without what costs an emulator much and protects nothing that is tested: a fifth level of page
#: tables, string instructions by the byte, and protections checked at each look at a user's memory.
_CPU = "max,la57=off,erms=off,pku=off,smap=off,smep=off"
#: A loaded host delivers timer interrupts late: the kernel must not take that for a broken one.
_KERNEL = (
    "console=ttyS0 root=/dev/vda rw init=/stockade-init mitigations=off panic=-1 "
    "no_timer_check quiet"
)


class GuestError(Exception):
    """The guest did not run its job to the end."""


def run(guest: Path, job: Path, seconds: float) -> int:
    """Boot the guest, run ``job/job`` with sh, and return that script's exit code.

    Its output is in ``job/log``, the console in ``job/console``; the image itself is left
    as it is. QEMU emulates a processor of AMD's, so that ``kvm_amd`` in the guest gives it
    a real ``/dev/kvm``. Raises GuestError past ``seconds`` or where the guest broke down.
    """
    console = job / "console"
    began = time.monotonic()
    try:
        done = subprocess.run(
            _command(guest, job, console), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise GuestError(f"the guest did not end within {seconds:g} s\n{_last(job)}") from None
    code = job / "exit-code"
    if done.returncode or not code.exists():
        said = done.stdout.decode("utf-8", "replace")[-2000:]
        took = time.monotonic() - began
        raise GuestError(f"the guest broke down after {took:.0f} s\n{said}\n{_last(job)}")
    return int(code.read_text())


def _command(guest: Path, job: Path, console: Path) -> list[str]:
    return [
        # It ends with the lane, however that ends.
        "setpriv", "--pdeathsig", "KILL",
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot",
        "-M", "q35,sata=off,usb=off", "-accel", "tcg", "-cpu", _CPU,
        # One cpu: with two the emulation is no faster, and was less steady.
        "-smp", "1", "-m", MEMORY, "-display", "none", "-monitor", "none",
        "-kernel", str(guest / "vmlinuz"), "-initrd", str(guest / "initrd"), "-append", _KERNEL,
        "-drive", f"if=none,id=disk,format=raw,snapshot=on,file={guest / 'image'}",
        "-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci",
        "-fsdev", f"local,id=job,security_model=none,path={job}",
        "-device", "virtio-9p-pci,fsdev=job,mount_tag=job", "-serial", f"file:{console}",
    ]  # fmt: skip


def _last(job: Path) -> str:
    """The ends of the console and of the job's own output."""
    parts = []
    for name in ("console", "log"):
        path = job / name
        if path.exists():
            size = os.path.getsize(path)
            with open(path, "rb") as file:
                file.seek(max(0, size - 4000))
                parts.append(f"-- {name}:\n{file.read().decode('utf-8', 'replace')}")
    return "\n".join(parts)
