"""Run a job in the guest: a folder with a script, shared into it, and its results."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

import attrs

#: Without what costs an emulator much and protects nothing that is tested: a fifth level of page
#: tables, string instructions by the byte, and protections checked at each look at a user's memory.
_CPU = "max,la57=off,erms=off,pku=off,smap=off,smep=off"
#: A loaded host delivers timer interrupts late: the kernel must not take that for a broken one.
_KERNEL = (
    "console=ttyS0 root=/dev/vda rw init=/stockade-init mitigations=off panic=-1 "
    "no_timer_check quiet"
)


@attrs.frozen(kw_only=True)
class Machine:
    """What is emulated."""

    memory: str = "3G"
    cpus: int = 1
    kernel: str = ""  #: further words of the kernel's command line


#: With a KVM inside. One cpu: with two the emulation is no faster, and was less steady. The timer
#: must be one that ticks by itself: QEMU loses an interrupt that comes just when a nested guest
#: is entered (`helper_vmrun` changes the pending ones outside its lock). One that is to set the
#: next would be the last; here the next tick brings it along.
NESTED = Machine(kernel="nohz=off highres=off")
#: A guest whose processor takes no time at all for so long is frozen: what idles has its timers.
_FROZEN_SECONDS, _LOOK_SECONDS = 150.0, 10.0
#: How QEMU names the threads that are the guest's processors.
_PROCESSOR = "CPU "


class GuestError(Exception):
    """The guest did not run its job to the end."""


@attrs.define
class Stillness:
    """Says whether a count has stood still for so long."""

    seconds: float
    _count: int | None = None
    _since: float = 0.0

    def seen(self, count: int | None, now: float) -> bool:
        """Take a count, None where there is none; whether it has stood still for too long."""
        if count is None or count != self._count:
            self._count, self._since = count, now
        return now - self._since >= self.seconds


def ticks_of(pid: int, name: str) -> int | None:
    """The time that a process's threads of this name took, or None where there is none."""
    total = None
    with contextlib.suppress(OSError):
        for thread in Path("/proc", str(pid), "task").iterdir():
            head, _, rest = (thread / "stat").read_text().rpartition(")")
            if head.partition("(")[2].startswith(name):
                fields = rest.split()
                total = (total or 0) + int(fields[11]) + int(fields[12])
    return total


def run(guest: Path, job: Path, seconds: float, machine: Machine = NESTED) -> int:
    """Boot the guest, run ``job/job`` with sh, and return that script's exit code.

    Its output is in ``job/log``, the console in ``job/console``; the image itself is left
    as it is. QEMU emulates a processor of AMD's, so that ``kvm_amd`` in the guest gives it
    a real ``/dev/kvm``. Raises GuestError past ``seconds``, and where the guest broke down or
    stands still.
    """
    began = time.monotonic()
    with subprocess.Popen(
        _command(guest, job, machine),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as emulator:
        try:
            said = _watched(emulator, began + seconds)
        except GuestError as error:
            raise GuestError(f"{error}\n{_last(job)}") from None
        finally:
            emulator.kill()
    code = job / "exit-code"
    if emulator.returncode or not code.exists():
        words = said.decode("utf-8", "replace")[-2000:]
        took = time.monotonic() - began
        raise GuestError(f"the guest broke down after {took:.0f} s\n{words}\n{_last(job)}")
    return int(code.read_text())


def _watched(emulator: subprocess.Popen[bytes], until: float) -> bytes:
    """Wait for its end; what it printed. Raises GuestError where it does not come."""
    began = time.monotonic()
    still = Stillness(_FROZEN_SECONDS)
    while (now := time.monotonic()) < until:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return emulator.communicate(timeout=min(_LOOK_SECONDS, until - now))[0]
        now = time.monotonic()
        if still.seen(ticks_of(emulator.pid, _PROCESSOR), now):
            raise GuestError(
                f"the guest's processor took no time for {_FROZEN_SECONDS:g} s, after "
                f"{now - began:.0f} s: the emulator has frozen"
            )
    raise GuestError(f"the guest did not end within {until - began:.0f} s")


def _command(guest: Path, job: Path, machine: Machine) -> list[str]:
    return [
        # It ends with the lane, however that ends.
        "setpriv",
        "--pdeathsig",
        "KILL",
        "qemu-system-x86_64",
        "-name",
        "stockade,debug-threads=on",  # see _PROCESSOR
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-M",
        "q35,sata=off,usb=off",
        "-accel",
        "tcg",
        "-cpu",
        _CPU,
        "-smp",
        str(machine.cpus),
        "-m",
        machine.memory,
        "-display",
        "none",
        "-monitor",
        "none",
        "-kernel",
        str(guest / "vmlinuz"),
        "-initrd",
        str(guest / "initrd"),
        "-append",
        f"{_KERNEL} {machine.kernel}",
        "-drive",
        f"if=none,id=disk,format=raw,snapshot=on,file={guest / 'image'}",
        "-device",
        "virtio-blk-pci,drive=disk",
        "-device",
        "virtio-rng-pci",
        "-fsdev",
        f"local,id=job,security_model=none,path={job}",
        "-device",
        "virtio-9p-pci,fsdev=job,mount_tag=job",
        "-serial",
        f"file:{job / 'console'}",
    ]


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
