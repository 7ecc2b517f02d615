"""What of ``/proc`` a sandbox does not get as it is; keepers import this, too."""

from __future__ import annotations

__all__ = ["HIDDEN", "READ_ONLY"]

#: Parts that show of the machine what no program needs.
HIDDEN = (
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
)
#: Parts that change the machine.
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
